//! Exceptions that EL2 makes the guest take at its EL1, as the hardware would (Arm ARM DDI 0487, section D1.3).

use crate::addr::GuestVa;
use crate::context::{El1Context, TrapFrame};
use crate::hw::Hw;

/// Fields of `SPSR_EL2` and `PSTATE` (Arm ARM, section C5.2.19).
mod pstate {
    pub(super) const MODE: u64 = 0x1F;
    pub(super) const EL0T: u64 = 0b0000;
    pub(super) const EL1T: u64 = 0b0100;
    pub(super) const EL1H: u64 = 0b0101;
    pub(super) const AARCH32: u64 = 1 << 4;
    pub(super) const DAIF: u64 = 0xF << 6;
    pub(super) const SSBS: u64 = 1 << 12;
    pub(super) const PAN: u64 = 1 << 22;
    pub(super) const DIT: u64 = 1 << 24;
    pub(super) const NZCV: u64 = 0xF << 28;
}

/// `SCTLR_EL1.SPAN`: an exception leaves `PSTATE.PAN` alone.
const SCTLR_SPAN: u64 = 1 << 23;
/// `SCTLR_EL1.DSSBS`: the value of `PSTATE.SSBS` on an exception.
const SCTLR_DSSBS: u64 = 1 << 44;

/// Fields of `ESR_EL1` and `ESR_EL2`: the instruction had 32 bits; the abort was one of a walk, of a store.
pub(super) const LONG: u64 = 1 << 25;
pub(super) const WALK: u64 = 1 << 7;
pub(super) const WRITE: u64 = 1 << 6;
/// Fault status: synchronous external abort, at the access and in a walk at level 3.
const EXTERNAL: u64 = 0x10;
const EXTERNAL_WALK: u64 = 0x17;

/// The instruction where `frame` stands does not exist.
#[cold]
#[inline(never)]
pub(crate) fn undefined<H: Hw>(frame: &mut TrapFrame) {
    with_el1::<H, _>(|el1| enter(frame, el1, None));
}

/// Looks at or changes the EL1 registers of the vCPU on this pCPU. Loading them again is what starts its timer again.
#[cold]
#[inline(never)]
pub(super) fn with_el1<H: Hw, R>(change: impl FnOnce(&mut El1Context) -> R) -> R {
    let mut el1 = El1Context::default();
    H::save_el1(&mut el1);
    let result = change(&mut el1);
    H::load_el1(&el1);
    result
}

/// What the hardware does to the registers when the instruction where `frame` stands does not exist, or when the access
/// or fetch that EL2 took `abort` for, with this syndrome and address, has failed in the memory system.
pub(super) fn enter(frame: &mut TrapFrame, el1: &mut El1Context, abort: Option<(u64, GuestVa)>) {
    let old = frame.pstate;
    // Offset of the vector for synchronous exceptions from this state (Arm ARM, table D1-5).
    let vector = match old & pstate::MODE {
        pstate::EL0T => 0x400,
        pstate::EL1T => 0x000,
        pstate::EL1H => 0x200,
        _ => 0x600,
    };
    let (class, iss) = match abort {
        None => (0, 0),
        Some((esr, far)) => {
            el1.far_el1 = far.raw();
            // Aborts have a class of their own when they come from the level that takes them.
            let class = esr >> 26 & 0x3F | u64::from(vector < 0x400);
            (class, esr & WRITE | if esr & WALK == 0 { EXTERNAL } else { EXTERNAL_WALK })
        }
    };
    el1.esr_el1 = class << 26 | LONG | iss;
    el1.elr_el1 = frame.pc;
    el1.spsr_el1 = old;
    frame.pc = el1.vbar_el1.wrapping_add(vector);
    frame.pstate = handler_state(old, el1.sctlr_el1);
}

/// `PSTATE` at the first instruction of the handler.
const fn handler_state(old: u64, sctlr: u64) -> u64 {
    let mut new = pstate::EL1H | pstate::DAIF | old & (pstate::NZCV | pstate::DIT | pstate::PAN);
    if sctlr & SCTLR_SPAN == 0 {
        new |= pstate::PAN;
    }
    if sctlr & SCTLR_DSSBS != 0 {
        new |= pstate::SSBS;
    }
    new
}

/// Goes on behind the instruction that trapped with this syndrome.
pub(crate) fn skip(frame: &mut TrapFrame, esr: u64) {
    frame.skip_instruction();
    if frame.pstate & pstate::AARCH32 != 0 {
        in_aarch32(frame, esr);
    }
}

/// In AArch32 an instruction may have 16 bits, and the state of an IT block moves on (Arm ARM, section G1.5).
#[cold]
#[inline(never)]
fn in_aarch32(frame: &mut TrapFrame, esr: u64) {
    if esr & LONG == 0 {
        frame.pc = frame.pc.wrapping_sub(2);
    }
    // IT[7:2] is at 15:10, IT[1:0] at 26:25.
    let it = frame.pstate >> 8 & 0xFC | frame.pstate >> 25 & 3;
    let next = if it & 7 == 0 { 0 } else { it & 0xE0 | it << 1 & 0x1F };
    frame.pstate = frame.pstate & !(0xFC << 8 | 3 << 25) | (next & 0xFC) << 8 | (next & 3) << 25;
}
