//! A machine that exists on a laptop: an arena for RAM, a TLB that really goes stale, and counters of what was done.
//!
//! All state belongs to the thread, so tests run side by side. Guests run with stage 1 off (VA equals IPA);
//! translation walks the stage-2 tables that the code under test wrote, and keeps what it found until it is
//! invalidated, so that a forgotten invalidation shows.

mod arena;
mod interrupts;
mod machine;
mod memory;
mod tlb;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;

use crate::addr::{GuestVa, Ipa, PAGE_SIZE, Pa};
use crate::context::{DebugContext, El1Context, FpContext, TrapFrame};
use crate::frame::{FrameKind, FrameTable};
use crate::hw::{Hw, IntId, PcpuId, Registers, Ticks, Vttbr};
use crate::trace::Rings;

use arena::Arena;
pub use arena::{RAM_BASE, RAM_PAGES};
pub use machine::{reset, with};
use tlb::Tlb;
pub use world::{GUEST_RAM, World, choose, exit, frame_of, open_port, params, peek, poke, poke_bytes, pretend};

/// The fake machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fake;

/// How often the code under test did what costs time on a real machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of [`Translation::invalidate`].
    pub invalidations: u64,
    /// Pages that they named.
    pub invalidated_pages: u64,
    /// Calls of [`Translation::invalidate_vmid`].
    pub vmid_invalidations: u64,
    /// Calls of [`Translation::invalidate_all_vmids`].
    pub full_invalidations: u64,
    /// Calls of [`Translation::publish_tables`].
    pub publications: u64,
    /// Calls of [`Translation::load_stage2`].
    pub stage2_loads: u64,
    /// Calls of [`Translation::translate`].
    pub translations: u64,
    /// Bytes cleaned to the point of coherency.
    pub cleaned: u64,
    /// Bytes moved by [`Memory::copy`].
    pub copied: u64,
}

/// What the fake machine holds. Tests read and change it through [`with`].
pub struct State {
    pub(crate) arena: Arena,
    pub(crate) frames: &'static FrameTable,
    pub(crate) rings: &'static Rings,
    pub(crate) tlb: Tlb,
    /// What was done so far.
    pub counts: Counts,
    /// The stage 2 in use.
    pub stage2: Vttbr,
    /// Where the access went that made the guest exit.
    pub fault: (GuestVa, Ipa),
    /// Guest pages whose stage 1 refuses everything.
    pub unmapped: BTreeSet<u64>,
    /// Guest pages whose stage 1 refuses writes.
    pub read_only: BTreeSet<u64>,
    /// What the next compare-and-swaps at an address find changed by a guest, one value each.
    pub interference: BTreeMap<u64, VecDeque<u32>>,
    /// A word of memory that is looked at while bytes are copied from frame to frame, and what was there each time.
    pub watched: (Option<Pa>, Vec<u32>),
    /// The pCPU that this thread plays.
    pub pcpu: PcpuId,
    /// pCPUs that are up.
    pub online: usize,
    /// The time.
    pub now: Ticks,
    /// The timer's deadline.
    pub deadline: Option<Ticks>,
    /// pCPUs that were kicked, in order.
    pub kicks: Vec<PcpuId>,
    /// Other interrupts that pCPUs were sent, in order.
    pub sent: Vec<(PcpuId, IntId)>,
    /// What was written to the console.
    pub console: Vec<u8>,
    /// Interrupts that are pending at the physical GIC.
    pub pending: VecDeque<IntId>,
    /// Interrupts whose priority was dropped.
    pub dropped: Vec<IntId>,
    /// Interrupts that were deactivated.
    pub deactivated: Vec<IntId>,
    /// Interrupts that are enabled, and where they go.
    pub enabled: BTreeMap<IntId, PcpuId>,
    /// Interrupts that are edge-triggered.
    pub edges: BTreeSet<IntId>,
    /// Private interrupts that are active.
    pub active: BTreeSet<IntId>,
    /// The list registers.
    pub lrs: [u64; 4],
    /// Writes to list registers.
    pub lr_writes: u64,
    /// Whether the guest ends interrupts in the opposite order.
    pub ends_nest: bool,
    /// Whether the underflow interrupt is on.
    pub underflow: bool,
    /// The EL1 registers.
    pub el1: El1Context,
    /// The FP registers.
    pub fp: FpContext,
    /// Breakpoints and watchpoints.
    pub debug: DebugContext,
    /// Loads of those.
    pub debug_loads: u64,
    /// Whether FP traps.
    pub fp_traps: bool,
    /// Whether the vectors are those that trace.
    pub exits_traced: bool,
    /// Identification registers by CRm and op2.
    pub id_registers: BTreeMap<(usize, usize), u64>,
}

/// A kernel object that is charged frames as on the real machine, and gives them back.
pub struct Shared<T>(Arc<Charged<T>>);

struct Charged<T> {
    value: T,
    at: Pa,
    pages: u64,
    frames: &'static FrameTable,
}

impl<T> Drop for Charged<T> {
    fn drop(&mut self) {
        for n in 0..self.pages {
            self.frames.put(self.at.add(n * PAGE_SIZE));
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(self.0.clone())
    }
}

impl<T> core::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

/// In a model another pCPU may act here.
fn point() {
    #[cfg(test)]
    crate::model::point();
}

impl Fake {
    /// Whether both are the same object.
    pub fn same<T>(a: &Shared<T>, b: &Shared<T>) -> bool {
        Arc::ptr_eq(&a.0, &b.0)
    }
}

impl Hw for Fake {
    type Shared<T: Send + Sync + 'static> = Shared<T>;
    type Place<T: Send + Sync + 'static> = OnceLock<Shared<T>>;

    fn frames() -> &'static FrameTable {
        with(|s| s.frames)
    }

    fn rings() -> &'static Rings {
        with(|s| s.rings)
    }

    fn only<T: Send + Sync + 'static>(shared: &mut Shared<T>) -> Option<&mut T> {
        Arc::get_mut(&mut shared.0).map(|charged| &mut charged.value)
    }

    fn share<T: Send + Sync + 'static>(owner: DomId, value: T) -> Result<Shared<T>, XenError> {
        let frames = Self::frames();
        let pages = (size_of::<T>() as u64).div_ceil(PAGE_SIZE).max(1);
        let at = frames.alloc(owner, FrameKind::Object, u32::try_from(pages).map_err(|_| XenError::NoMem)?)?;
        Ok(Shared(Arc::new(Charged { value, at, pages, frames })))
    }

    fn placed<T: Send + Sync + 'static>(place: &OnceLock<Shared<T>>) -> Option<&T> {
        place.get().map(|shared| &**shared)
    }

    fn place<T: Send + Sync + 'static>(place: &OnceLock<Shared<T>>, object: Shared<T>) {
        let _ = place.set(object);
    }

    fn pcpu() -> PcpuId {
        with(|s| s.pcpu)
    }

    fn online() -> usize {
        with(|s| s.online)
    }

    /// Time jumps to the deadline, and its interrupt becomes pending, unless another already is.
    fn is_interrupted() -> bool {
        // Its RAM is zeroed ahead by tests that ask for it.
        true
    }

    fn wait_for_interrupt() {
        #[cfg(test)]
        if crate::model::running() {
            return crate::model::sleep();
        }
        with(|s| {
            if s.pending.is_empty()
                && let Some(at) = s.deadline.take()
            {
                s.now = s.now.max(at);
                s.pending.push_back(machine::HYP_TIMER);
            }
        });
    }

    fn now() -> Ticks {
        with(|s| s.now)
    }

    fn frequency() -> u32 {
        62_500_000
    }

    fn set_deadline(at: Option<Ticks>) {
        with(|s| s.deadline = at);
    }

    fn console(text: &[u8]) {
        with(|s| s.console.extend_from_slice(text));
    }

    fn end_machine(restart: bool) -> ! {
        panic!("{}", if restart { "restart" } else { "power off" })
    }
}

impl Registers for Fake {
    fn save_el1(into: &mut El1Context) {
        *into = with(|s| El1Context { cntv_ctl_el0: core::mem::take(&mut s.el1.cntv_ctl_el0), ..s.el1 });
    }

    fn load_el1(from: &El1Context) {
        with(|s| s.el1 = *from);
    }

    fn timer_control() -> u64 {
        let (el1, now) = with(|s| (s.el1, s.now));
        let met = el1.cntv_ctl_el0 & 1 != 0 && now >= el1.cntv_cval_el0 + el1.cntvoff_el2;
        el1.cntv_ctl_el0 | if met { 4 } else { 0 }
    }

    fn copy_frame(to: &mut TrapFrame, from: &TrapFrame) {
        *to = *from;
    }

    fn load_frame(to: &mut TrapFrame, from: &TrapFrame) {
        *to = *from;
    }

    fn save_fp(into: &mut FpContext) {
        with(|s| {
            *into = s.fp;
            s.fp_traps = true;
        });
    }

    fn allow_fp() {
        with(|s| s.fp_traps = false);
    }

    fn load_fp(from: &FpContext) {
        with(|s| {
            s.fp = *from;
            s.fp_traps = false;
        });
    }

    fn trace_exits(on: bool) {
        with(|s| s.exits_traced = on);
    }

    fn load_debug(from: &DebugContext) {
        with(|s| {
            s.debug = *from;
            s.debug_loads += 1;
        });
    }

    fn id_register(crm: usize, op2: usize) -> u64 {
        with(|s| s.id_registers.get(&(crm, op2)).copied().unwrap_or(0))
    }
}
