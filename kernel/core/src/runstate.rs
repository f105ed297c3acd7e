//! Where a vCPU's time goes: running, waiting for a pCPU, blocked or offline (Xen public/vcpu.h).

use hypercall_abi::vcpu::{RUNSTATE_UPDATE, Runstate, RunstateInfo};
use zerocopy::IntoBytes;

use crate::addr::Pa;
use crate::frame::FrameRef;
use crate::hw::{Hw, Ticks};

/// The guest's copy of its runstate: one structure, in one page or across the border of two.
pub struct RunstateArea {
    /// First byte.
    pub first: Pa,
    /// How many bytes lie in the first page.
    pub split: usize,
    /// First byte of the rest, in the second page.
    pub second: Option<Pa>,
    /// Whether the guest wants the update flag while the structure changes.
    pub flag_updates: bool,
    /// The pins that keep the frames while the area is registered.
    pub frames: [Option<FrameRef>; 2],
}

/// The times of one vCPU.
pub struct Accounting {
    state: Runstate,
    since: Ticks,
    spent: [Ticks; 4],
    /// The guest's copy, if it asked for one.
    pub area: Option<RunstateArea>,
}

impl Default for Accounting {
    fn default() -> Self {
        Accounting { state: Runstate::Offline, since: 0, spent: [0; 4], area: None }
    }
}

impl Accounting {
    /// From `now` on the vCPU is in `state`; returns how long the state before lasted.
    pub fn enter(&mut self, state: Runstate, now: Ticks) -> Ticks {
        let lasted = now.saturating_sub(self.since);
        self.spent[self.state as usize & 3] += lasted;
        self.state = state;
        self.since = now;
        lasted
    }

    /// Ticks spent running, up to `now`.
    pub fn running(&self, now: Ticks) -> Ticks {
        let open = if self.state == Runstate::Running { now.saturating_sub(self.since) } else { 0 };
        self.spent[Runstate::Running as usize] + open
    }

    /// The record of the guest ABI, in nanoseconds.
    pub fn info<H: Hw>(&self, now: Ticks) -> RunstateInfo {
        let mut time = self.spent;
        time[self.state as usize & 3] += now.saturating_sub(self.since);
        RunstateInfo {
            state: self.state as u32,
            pad: 0,
            state_entry_time: nanoseconds::<H>(self.since),
            time: time.map(nanoseconds::<H>),
        }
    }

    /// Writes the guest's copy, if there is one.
    pub fn publish<H: Hw>(&self, now: Ticks) {
        let Some(area) = &self.area else { return };
        let mut info = self.info::<H>(now);
        if area.flag_updates {
            let entry = info.state_entry_time;
            info.state_entry_time |= RUNSTATE_UPDATE;
            area.write::<H>(&info);
            info.state_entry_time = entry;
        }
        area.write::<H>(&info);
    }
}

impl RunstateArea {
    fn write<H: Hw>(&self, info: &RunstateInfo) {
        let bytes = info.as_bytes();
        let (head, tail) = bytes.split_at(self.split.min(bytes.len()));
        H::write_bytes(self.first, head);
        if let Some(second) = self.second {
            H::write_bytes(second, tail);
        }
    }
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
