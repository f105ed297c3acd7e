//! The CPU interface: in registers of the processor on a GICv3 (IHI 0069H, section 12.2), in memory on a GICv2 (IHI 0048B,
//! section 4.4). What is asked of either is the same, in group 1 on the one and in group 0 on the other, which is where
//! guests have their interrupts.

use pv_guest_lib::abi::arm::GUEST_GICC_BASE;

use crate::gic::is_v2;
use crate::sys;

/// Registers of a GICv2's, as offsets.
const CTLR: u64 = 0;
const PMR: u64 = 4;
const BPR: u64 = 8;
const IAR: u64 = 0xC;
const EOIR: u64 = 0x10;
const RPR: u64 = 0x14;
const HPPIR: u64 = 0x18;
const IIDR: u64 = 0xFC;
const DIR: u64 = 0x1000;
/// `GICC_CTLR`: interrupts of group 0 are signalled; those of group 1 are; they are taken by the register of group 0; group 0 is
/// signalled as FIQ; the end of an interrupt leaves it active.
const ENABLE: u64 = 1 << 0;
pub const ENABLE_GROUP1: u64 = 1 << 1;
pub const TAKE_GROUP1: u64 = 1 << 2;
pub const GROUP0_AS_FIQ: u64 = 1 << 3;
const TWO_ENDS: u64 = 1 << 9;

fn read(offset: u64, v3: fn() -> u64) -> u64 {
    if is_v2() { sys::load(GUEST_GICC_BASE + offset) } else { v3() }
}

fn write(offset: u64, v3: fn(u64), value: u64) {
    if is_v2() { sys::store(GUEST_GICC_BASE + offset, value) } else { v3(value) }
}

/// Sets or clears bits of a GICv2's control register.
pub fn control(bit: u64, on: bool) {
    let others = sys::load(GUEST_GICC_BASE + CTLR) & !bit;
    sys::store(GUEST_GICC_BASE + CTLR, others | if on { bit } else { 0 });
}

/// Takes the most urgent interrupt.
pub fn iar1() -> u64 {
    read(IAR, sys::iar1)
}

/// The most urgent pending interrupt.
pub fn hppir1() -> u64 {
    read(HPPIR, sys::hppir1)
}

/// The running priority.
pub fn running() -> u64 {
    read(RPR, sys::running)
}

/// Which GIC a GICv2's says that it belongs to.
pub fn identification() -> u64 {
    sys::load(GUEST_GICC_BASE + IIDR)
}

/// Ends an interrupt.
pub fn set_eoir1(irq: u64) {
    write(EOIR, sys::set_eoir1, irq);
}

/// Deactivates an interrupt.
pub fn set_dir(irq: u64) {
    write(DIR, sys::set_dir, irq);
}

/// The priority that an interrupt must be more urgent than.
pub fn set_pmr(priority: u64) {
    write(PMR, sys::set_pmr, priority);
}

/// Which bits of a priority count for preemption: with 7 the uppermost alone, as group 1 has it. Group 0 counts one lower.
pub fn set_bpr1(point: u64) {
    write(BPR, sys::set_bpr1, if is_v2() { point.saturating_sub(1) } else { point });
}

/// Whether the end of an interrupt leaves it active.
pub fn set_two_ends(on: bool) {
    if is_v2() { control(TWO_ENDS, on) } else { sys::set_ctlr(u64::from(on) << 1) }
}

/// Leaves group 1 of a GICv2 out, as it is after a reset.
pub fn reset_groups() {
    control(ENABLE_GROUP1 | TAKE_GROUP1 | GROUP0_AS_FIQ, false);
}

/// Whether interrupts are signalled.
pub fn set_enable1(on: bool) {
    if is_v2() { control(ENABLE, on) } else { sys::set_enable1(u64::from(on)) }
}
