//! The fake machine of this thread: how it starts, and how tests reach into it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::arena::{Arena, RAM_BASE, RAM_PAGES};
use super::tlb::Tlb;
use super::{Counts, State};
use crate::context::{DebugContext, El1Context, FpContext};
use crate::domain::MAX_DOMAINS;
use crate::frame::{FrameEntry, FrameTable};
use crate::hw::{IntId, PcpuId, Vttbr};
use crate::quota::Quota;
use crate::trace::no_rings;

/// The timer interrupt of EL2 (PPI 10).
pub(super) const HYP_TIMER: IntId = IntId(26);

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::new());
}

impl State {
    fn new() -> Self {
        let entries: Vec<FrameEntry> = (0..RAM_PAGES).map(|_| FrameEntry::default()).collect();
        let quotas = Box::leak(Box::new([const { Quota::new(u64::MAX) }; MAX_DOMAINS]));
        let frames = Box::leak(Box::new(FrameTable::new(entries.leak(), RAM_BASE, quotas)));
        frames.release_range(RAM_BASE, RAM_PAGES);
        State {
            arena: Arena::new(),
            frames,
            rings: Box::leak(Box::new(no_rings())),
            exits_traced: false,
            tlb: Tlb::default(),
            counts: Counts::default(),
            stage2: Vttbr::default(),
            fault: Default::default(),
            unmapped: BTreeSet::new(),
            read_only: BTreeSet::new(),
            interference: BTreeMap::new(),
            watched: (None, Vec::new()),
            pcpu: PcpuId(0),
            online: 1,
            now: 1_000_000,
            deadline: None,
            kicks: Vec::new(),
            sent: Vec::new(),
            console: Vec::new(),
            pending: VecDeque::new(),
            dropped: Vec::new(),
            deactivated: Vec::new(),
            enabled: BTreeMap::new(),
            edges: BTreeSet::new(),
            active: BTreeSet::new(),
            lrs: [0; 4],
            lr_writes: 0,
            ends_nest: false,
            underflow: false,
            el1: El1Context::default(),
            fp: FpContext::default(),
            debug: DebugContext::default(),
            debug_loads: 0,
            fp_traps: true,
            id_registers: BTreeMap::new(),
        }
    }
}

/// Reads or changes this thread's machine. Not to be nested.
pub fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(f)
}

/// Starts this thread's machine afresh: all RAM free and zero, all counters zero. Objects made before keep
/// referring to the machine that was.
pub fn reset() {
    STATE.set(State::new());
}

/// Bit n is set when list register n is free: state (63:62) invalid, and no maintenance interrupt pending with
/// HW clear and EOI (41) set (Arm IHI 0069, `ICH_ELRSR_EL2`).
pub(super) fn empty_lrs(lrs: &[u64]) -> u64 {
    let reports = |lr: u64| lr >> 61 & 1 == 0 && lr >> 41 & 1 != 0;
    lrs.iter().enumerate().filter(|(_, lr)| **lr >> 62 == 0 && !reports(**lr)).map(|(n, _)| 1 << n).sum()
}
