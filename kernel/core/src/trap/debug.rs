//! Breakpoints, watchpoints and software step of a vCPU (Arm ARM DDI 0487, chapter D2).
//!
//! Accesses always trap, so that a vCPU's [`DebugContext`] is right at any time and nothing need be saved. The processor
//! compares only while `MDSCR_EL1.MDE` is set, which is switched with the other registers: so a vCPU that sets it brings
//! its own registers along, and of one that does not, nothing is moved. What it meets in the processor then is another's,
//! and does nothing.

use super::inject::with_el1;
use crate::context::{DebugContext, MDSCR_MDE};
use crate::hw::Hw;
use crate::local::Current;

/// What a guest may set in `MDSCR_EL1`: software step, the trap of EL0's access to the debug channel, kernel debugging and
/// monitor debugging.
const MDSCR_GUEST: u64 = 1 << 0 | 1 << 12 | 1 << 13 | MDSCR_MDE;
/// What it may set in `DBGBVR`, `DBGBCR`, `DBGWVR` and `DBGWCR`. EL2 and security states are not among it.
const GUEST: [u64; 4] = [u64::MAX, 0x00FF_01E7, u64::MAX, 0x1F1F_1FFF];

/// Reads or writes register `n` of a kind, in the order of `op2` (from 4): `DBGBVR`, `DBGBCR`, `DBGWVR`, `DBGWCR`.
#[cold]
pub(super) fn register<H: Hw>(current: &Current<H>, kind: u32, n: u32, write: Option<u64>) -> u64 {
    let (kind, n) = (kind as usize & 3, n as usize & 15);
    let debug = &mut current.vcpu.run.lock().context.debug;
    if let Some(value) = write {
        debug.0[kind][n] = value & GUEST[kind];
        refresh::<H>(debug, with_el1::<H, _>(|el1| el1.mdscr_el1));
    }
    debug.0[kind][n]
}

/// Reads or writes `MDSCR_EL1`.
#[cold]
pub(super) fn control<H: Hw>(current: &Current<H>, write: Option<u64>) -> u64 {
    let mdscr = with_el1::<H, _>(|el1| {
        el1.mdscr_el1 = write.map_or(el1.mdscr_el1, |value| value & MDSCR_GUEST);
        el1.mdscr_el1
    });
    refresh::<H>(&current.vcpu.run.lock().context.debug, mdscr);
    mdscr
}

fn refresh<H: Hw>(debug: &DebugContext, mdscr: u64) {
    if mdscr & MDSCR_MDE != 0 {
        H::load_debug(debug);
    }
}
