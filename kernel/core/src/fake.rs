//! A machine that exists on a laptop: an arena for RAM, a TLB that really goes stale, and counters of what was done.
//!
//! All state belongs to the thread, so tests run side by side. Guests run with stage 1 off (VA equals IPA);
//! translation walks the stage-2 tables that the code under test wrote, and keeps what it found until it is
//! invalidated, so that a forgotten invalidation shows.

mod arena;
mod machine;
mod tlb;
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;

use crate::addr::{GuestVa, Ipa, PAGE_SIZE, Pa};
use crate::context::{DebugContext, El1Context, FpContext, TrapFrame};
use crate::frame::{FrameKind, FrameTable};
use crate::hw::{Access, Hw, IntId, Interrupts, Memory, PcpuId, Registers, Ticks, Translation, Vttbr};
use crate::trace::Rings;

use arena::Arena;
pub use arena::{RAM_BASE, RAM_PAGES};
pub use machine::{reset, with};
use tlb::Tlb;
pub use world::{GUEST_RAM, World, frame_of, open_port, params, peek, poke, poke_bytes, pretend};

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

#[cfg(test)]
impl State {
    /// The interrupt of another pCPU's kick, if one has come.
    pub(crate) fn take_kick(&mut self) -> Option<IntId> {
        let at = self.kicks.iter().position(|to| *to == self.pcpu)?;
        self.kicks.remove(at);
        Some(IntId(0))
    }
}

impl Fake {
    /// Whether both are the same object.
    pub fn same<T>(a: &Shared<T>, b: &Shared<T>) -> bool {
        Arc::ptr_eq(&a.0, &b.0)
    }
}

impl Hw for Fake {
    type Shared<T: Send + Sync + 'static> = Shared<T>;

    fn frames() -> &'static FrameTable {
        with(|s| s.frames)
    }

    fn rings() -> &'static Rings {
        with(|s| s.rings)
    }

    fn share<T: Send + Sync + 'static>(owner: DomId, value: T) -> Result<Shared<T>, XenError> {
        let frames = Self::frames();
        let pages = (size_of::<T>() as u64).div_ceil(PAGE_SIZE).max(1);
        let at = frames.alloc(owner, FrameKind::Object, u32::try_from(pages).map_err(|_| XenError::NoMem)?)?;
        Ok(Shared(Arc::new(Charged { value, at, pages, frames })))
    }

    fn pcpu() -> PcpuId {
        with(|s| s.pcpu)
    }

    fn online() -> usize {
        with(|s| s.online)
    }

    /// Time jumps to the deadline, and its interrupt becomes pending, unless another already is.
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

impl Memory for Fake {
    fn zero(at: Pa, bytes: u64) {
        assert!(at.is_aligned(PAGE_SIZE) && bytes.is_multiple_of(PAGE_SIZE), "zero works on whole pages");
        with(|s| s.arena.fill(at, bytes));
    }

    fn read_bytes(at: Pa, into: &mut [u8]) {
        assert!(into.len() as u64 <= at.left_in_page(), "a read leaves its page");
        with(|s| s.arena.read(at, into));
    }

    fn write_bytes(at: Pa, from: &[u8]) {
        assert!(from.len() as u64 <= at.left_in_page(), "a write leaves its page");
        with(|s| s.arena.write(at, from));
    }

    fn copy(to: Pa, from: Pa, bytes: u64) {
        assert!(bytes <= to.left_in_page() && bytes <= from.left_in_page(), "a copy leaves its page");
        with(|s| {
            s.counts.copied += bytes;
            s.arena.copy(to, from, bytes);
        });
    }

    fn load32(at: Pa) -> u32 {
        point();
        with(|s| s.arena.load32(at))
    }

    fn store32(at: Pa, value: u32) {
        point();
        with(|s| s.arena.store32(at, value));
    }

    fn cas64(at: Pa, old: u64, new: u64) -> Result<u64, u64> {
        point();
        with(|s| {
            if let Some(value) = s.interference.get_mut(&at.raw()).and_then(VecDeque::pop_front) {
                s.arena.store32(at, value);
            }
            let found = s.arena.load64(at);
            if found != old {
                return Err(found);
            }
            s.arena.store64(at, new);
            Ok(found)
        })
    }

    fn load64(at: Pa) -> u64 {
        point();
        with(|s| s.arena.load64(at))
    }

    fn store64(at: Pa, value: u64) {
        point();
        with(|s| s.arena.store64(at, value));
    }

    fn set_bits64(at: Pa, bits: u64) -> u64 {
        point();
        with(|s| {
            let before = s.arena.load64(at);
            s.arena.store64(at, before | bits);
            before
        })
    }

    fn clear_bits64(at: Pa, bits: u64) -> u64 {
        point();
        with(|s| {
            let before = s.arena.load64(at);
            s.arena.store64(at, before & !bits);
            before
        })
    }

    fn clean_to_poc(_: Pa, bytes: u64) {
        with(|s| s.counts.cleaned += bytes);
    }

    fn zero_to_poc(at: Pa, bytes: u64) {
        Self::zero(at, bytes);
        Self::clean_to_poc(at, bytes);
    }
}

impl Translation for Fake {
    fn translate(va: GuestVa, access: Access) -> Option<Pa> {
        with(|s| s.translate(va, access))
    }

    fn fault_address() -> (GuestVa, Ipa) {
        with(|s| s.fault)
    }

    fn publish_tables() {
        with(|s| s.counts.publications += 1);
    }

    fn load_stage2(stage2: Vttbr) {
        with(|s| {
            s.counts.stage2_loads += 1;
            s.stage2 = stage2;
        });
    }

    fn invalidate(stage2: Vttbr, pages: impl Iterator<Item = Ipa>) {
        with(|s| {
            s.counts.invalidations += 1;
            for page in pages {
                s.counts.invalidated_pages += 1;
                s.tlb.invalidate(stage2, page);
            }
        });
    }

    fn invalidate_vmid(stage2: Vttbr) {
        with(|s| {
            s.counts.vmid_invalidations += 1;
            s.tlb.invalidate_vmid(stage2);
        });
    }

    fn invalidate_all_vmids() {
        with(|s| {
            s.counts.full_invalidations += 1;
            s.tlb.clear();
        });
    }
}

impl Interrupts for Fake {
    fn kick(pcpu: PcpuId) {
        point();
        with(|s| s.kicks.push(pcpu));
    }

    fn send(pcpu: PcpuId, sgi: IntId) {
        with(|s| s.sent.push((pcpu, sgi)));
    }

    fn acknowledge() -> Option<IntId> {
        with(|s| {
            #[cfg(test)]
            let kick = crate::model::running().then(|| s.take_kick()).flatten();
            #[cfg(not(test))]
            let kick = None;
            let taken = kick.or_else(|| s.pending.pop_front());
            s.dropped.extend(taken);
            taken
        })
    }

    fn deactivate(intid: IntId) {
        with(|s| s.deactivated.push(intid));
    }

    fn configure(intid: IntId, enabled: bool, edge: bool) {
        with(|s| {
            if enabled {
                s.enabled.insert(intid, s.pcpu)
            } else {
                s.enabled.remove(&intid)
            };
            if edge {
                s.edges.insert(intid)
            } else {
                s.edges.remove(&intid)
            };
        });
    }

    fn set_active(intid: IntId, active: bool) {
        with(|s| if active { s.active.insert(intid) } else { s.active.remove(&intid) });
    }

    fn list_registers() -> usize {
        with(|s| s.lrs.len())
    }

    fn read_lr(n: usize) -> u64 {
        with(|s| s.lrs[n])
    }

    fn write_lr(n: usize, value: u64) {
        with(|s| {
            s.lr_writes += 1;
            s.lrs[n] = value;
        });
    }

    fn empty_lrs() -> u64 {
        with(|s| machine::empty_lrs(&s.lrs))
    }

    fn ends_nest() -> bool {
        with(|s| s.ends_nest)
    }

    fn notify_underflow(on: bool) {
        with(|s| s.underflow = on);
    }
}

impl Registers for Fake {
    fn save_el1(into: &mut El1Context) {
        *into = with(|s| s.el1);
    }

    fn load_el1(from: &El1Context) {
        with(|s| s.el1 = *from);
    }

    fn copy_frame(to: &mut TrapFrame, from: &TrapFrame) {
        *to = *from;
    }

    fn save_fp(into: &mut FpContext) {
        with(|s| {
            *into = s.fp;
            s.fp_traps = true;
        });
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
