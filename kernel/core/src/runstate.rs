//! How a vCPU stands: whether it runs and where, what keeps it from running, and where its time has gone
//! (Xen public/vcpu.h).

use hypercall_abi::vcpu::{RUNSTATE_UPDATE, Runstate, RunstateInfo};
use zerocopy::transmute;

use crate::addr::PAGE_SIZE;
use crate::domain::Known;
use crate::frame::FrameRef;
use crate::hw::{Hw, NEVER, PcpuId, Ticks};
use crate::ioreq::Waiting;
use crate::sync::{AtomicBool, Ordering};
use crate::vcpu::VcpuContext;

/// The vCPU waits for an interrupt or an event.
pub const BLOCKED: u32 = 1 << 0;
/// The vCPU has not been started, or has switched itself off (PSCI).
pub const OFFLINE: u32 = 1 << 1;
/// The domain is paused through a capability.
pub const PAUSED: u32 = 1 << 2;
/// The domain has shut down or is being destroyed.
pub const STOPPED: u32 = 1 << 3;
/// The domain has run as much as its cap allows in this period.
pub const CAPPED: u32 = 1 << 4;
/// The vCPU waits for another domain to answer its access to an emulated device.
pub const SERVED: u32 = 1 << 5;

/// What the scheduler knows of a vCPU.
pub struct Run<H: Hw> {
    /// Whether it runs, waits in a run queue, or neither; see [`Run::enter`].
    pub state: Runstate,
    since: Ticks,
    spent: [Ticks; 4],
    /// The pCPU where it runs or in whose queue it waits, else the one where it did last.
    pub pcpu: PcpuId,
    /// Its registers while it is on no pCPU.
    pub context: VcpuContext,
    /// Its domain while it is on no pCPU, once it has been on one, so that this need not be looked up again. Taken out when the
    /// domain, which owns the vCPU, is destroyed.
    pub(crate) home: Known<H>,
    /// When the alarm goes off that it has set on `pcpu` as it went to sleep; [`NEVER`] if it has set none.
    pub alarm: Ticks,
    /// The access that it waits for, if it is [`SERVED`].
    pub waiting: Waiting,
    /// The guest's copy of the times, if it asked for one.
    pub area: Option<RunstateArea>,
}

/// The guest's copy of its run times: one structure, in one page or across the border of two, which it pins.
pub struct RunstateArea {
    /// Offset in the first page.
    pub offset: u64,
    /// The first page.
    pub first: FrameRef,
    /// The second page, if the structure reaches it.
    pub second: Option<FrameRef>,
}

impl<H: Hw> Run<H> {
    /// How a vCPU stands that is made at `since`: it has not been started.
    pub fn new(since: Ticks) -> Self {
        Run {
            state: Runstate::Offline,
            since,
            spent: [0; 4],
            pcpu: PcpuId(0),
            context: VcpuContext::default(),
            home: None,
            alarm: NEVER,
            waiting: None,
            area: None,
        }
    }

    /// The pCPU where it runs now.
    pub fn running_on(&self) -> Option<PcpuId> {
        (self.state == Runstate::Running).then_some(self.pcpu)
    }

    /// From `now` on the vCPU is in `state`.
    pub fn enter(&mut self, state: Runstate, now: Ticks) {
        self.spent[self.state as usize & 3] += now.saturating_sub(self.since);
        (self.state, self.since) = (state, now);
    }

    /// Ticks spent in each state, up to `now`.
    fn times(&self, now: Ticks) -> [Ticks; 4] {
        let mut times = self.spent;
        times[self.state as usize & 3] += now.saturating_sub(self.since);
        times
    }

    /// Ticks spent running, up to `now`.
    pub fn running(&self, now: Ticks) -> Ticks {
        self.times(now)[Runstate::Running as usize]
    }

    /// The record of the guest ABI, in nanoseconds.
    pub fn info(&self, now: Ticks) -> RunstateInfo {
        RunstateInfo {
            state: self.state as u32,
            pad: 0,
            state_entry_time: nanoseconds::<H>(self.since),
            time: self.times(now).map(nanoseconds::<H>),
        }
    }

    /// Writes the guest's copy, if there is one, as of the last change; `flagged` when the guest wants to see whether
    /// it is just being written.
    #[inline(always)]
    pub fn publish(&self, flagged: &AtomicBool) {
        let Some(area) = &self.area else { return };
        area.write::<H>(self.info(self.since), flagged.load(Ordering::Relaxed));
    }
}

impl RunstateArea {
    /// Word by word, each a release: a vCPU on another pCPU that reads the time of the change, the rest, and that time again
    /// has a whole record if both are the same and not `flagged`, which is how the first of the two writes leaves it.
    #[inline(never)]
    fn write<H: Hw>(&self, info: RunstateInfo, flagged: bool) {
        let [state, changed, times @ ..]: [u64; 6] = transmute!(info);
        if flagged {
            self.store::<H>(1, changed | RUNSTATE_UPDATE);
        }
        self.store::<H>(0, state);
        (2..).zip(times).for_each(|(n, time)| self.store::<H>(n, time));
        self.store::<H>(1, changed);
    }

    fn store<H: Hw>(&self, n: u64, word: u64) {
        let at = self.offset + 8 * n;
        if let Some(page) = if at < PAGE_SIZE { Some(&self.first) } else { self.second.as_ref() } {
            H::store64(page.pa().add(at % PAGE_SIZE), word);
        }
    }
}

/// The state of a vCPU that neither runs nor waits for a pCPU, for these reasons.
pub fn asleep(held: u32) -> Runstate {
    if held == BLOCKED { Runstate::Blocked } else { Runstate::Offline }
}

/// Ticks of the system counter as nanoseconds.
pub fn nanoseconds<H: Hw>(ticks: Ticks) -> u64 {
    let hz = u64::from(H::frequency()).max(1);
    let (seconds, rest) = (ticks / hz, ticks % hz);
    seconds * 1_000_000_000 + rest * 1_000_000_000 / hz
}

/// Nanoseconds as ticks of the system counter, rounded up; the largest value stands for never.
pub fn ticks<H: Hw>(nanoseconds: u64) -> Ticks {
    let hz = u64::from(H::frequency());
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    seconds.saturating_mul(hz).saturating_add((rest * hz).div_ceil(1_000_000_000))
}
