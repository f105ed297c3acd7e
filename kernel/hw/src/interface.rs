//! The GIC's virtual CPU interface: list registers, and what moves with a vCPU besides them.
//!
//! A register's number is part of the instruction, so an index becomes a match.

use kernel_core::context::VcpuInterface;

use crate::sysreg::{barrier, mrs, msr};

/// `ICH_HCR_EL2.En`: the virtual interface works.
const EN: u64 = 1;
/// `ICH_HCR_EL2.UIE`: a maintenance interrupt when at most one list register is in use.
const UIE: u64 = 1 << 1;

/// Empties the list registers and turns the interface on.
pub fn init() {
    for n in 0..list_registers() {
        write_lr(n, 0);
    }
    load(&VcpuInterface::default());
    // SAFETY: these registers concern the guest's interrupts only.
    unsafe { msr!("ich_hcr_el2", EN) };
    barrier!("isb");
}

/// How many list registers there are (`ICH_VTR_EL2.ListRegs`).
pub fn list_registers() -> usize {
    (mrs!("ich_vtr_el2") & 0x1f) as usize + 1
}

/// How many active-priority registers of a group there are: 1 with 5 preemption bits, 2 with 6, 4 with 7.
fn active_priority_registers() -> usize {
    match mrs!("ich_vtr_el2") >> 26 & 7 {
        6 => 4,
        5 => 2,
        _ => 1,
    }
}

/// Reads `ICH_LR<n>_EL2`; zero when there is none of that number.
pub fn read_lr(n: usize) -> u64 {
    match n {
        0 => mrs!("ich_lr0_el2"),
        1 => mrs!("ich_lr1_el2"),
        2 => mrs!("ich_lr2_el2"),
        3 => mrs!("ich_lr3_el2"),
        4 => mrs!("ich_lr4_el2"),
        5 => mrs!("ich_lr5_el2"),
        6 => mrs!("ich_lr6_el2"),
        7 => mrs!("ich_lr7_el2"),
        8 => mrs!("ich_lr8_el2"),
        9 => mrs!("ich_lr9_el2"),
        10 => mrs!("ich_lr10_el2"),
        11 => mrs!("ich_lr11_el2"),
        12 => mrs!("ich_lr12_el2"),
        13 => mrs!("ich_lr13_el2"),
        14 => mrs!("ich_lr14_el2"),
        15 => mrs!("ich_lr15_el2"),
        _ => 0,
    }
}

/// Writes `ICH_LR<n>_EL2`.
pub fn write_lr(n: usize, value: u64) {
    // SAFETY: a list register presents an interrupt to the guest, never to EL2.
    unsafe {
        match n {
            0 => msr!("ich_lr0_el2", value),
            1 => msr!("ich_lr1_el2", value),
            2 => msr!("ich_lr2_el2", value),
            3 => msr!("ich_lr3_el2", value),
            4 => msr!("ich_lr4_el2", value),
            5 => msr!("ich_lr5_el2", value),
            6 => msr!("ich_lr6_el2", value),
            7 => msr!("ich_lr7_el2", value),
            8 => msr!("ich_lr8_el2", value),
            9 => msr!("ich_lr9_el2", value),
            10 => msr!("ich_lr10_el2", value),
            11 => msr!("ich_lr11_el2", value),
            12 => msr!("ich_lr12_el2", value),
            13 => msr!("ich_lr13_el2", value),
            14 => msr!("ich_lr14_el2", value),
            15 => msr!("ich_lr15_el2", value),
            _ => {}
        }
    }
}

/// `ICH_ELRSR_EL2`: bit n is set when list register n is free.
pub fn empty_lrs() -> u32 {
    (mrs!("ich_elrsr_el2") & 0xffff) as u32
}

/// Asks for a maintenance interrupt when the list registers run dry, or not.
pub fn notify_underflow(on: bool) {
    // SAFETY: as in `init`.
    unsafe { msr!("ich_hcr_el2", if on { EN | UIE } else { EN }) };
}

/// Saves the interface of the vCPU that leaves.
pub fn save(into: &mut VcpuInterface) {
    into.vmcr = mrs!("ich_vmcr_el2");
    into.ap0r[0] = low(mrs!("ich_ap0r0_el2"));
    into.ap1r[0] = low(mrs!("ich_ap1r0_el2"));
    let registers = active_priority_registers();
    if registers >= 2 {
        into.ap0r[1] = low(mrs!("ich_ap0r1_el2"));
        into.ap1r[1] = low(mrs!("ich_ap1r1_el2"));
    }
    if registers == 4 {
        into.ap0r[2] = low(mrs!("ich_ap0r2_el2"));
        into.ap1r[2] = low(mrs!("ich_ap1r2_el2"));
        into.ap0r[3] = low(mrs!("ich_ap0r3_el2"));
        into.ap1r[3] = low(mrs!("ich_ap1r3_el2"));
    }
}

/// Loads the interface of the vCPU that comes.
pub fn load(from: &VcpuInterface) {
    let [a0, a1, a2, a3] = from.ap0r.map(u64::from);
    let [b0, b1, b2, b3] = from.ap1r.map(u64::from);
    let registers = active_priority_registers();
    // SAFETY: as in `init`.
    unsafe {
        msr!("ich_vmcr_el2", from.vmcr);
        msr!("ich_ap0r0_el2", a0);
        msr!("ich_ap1r0_el2", b0);
        if registers >= 2 {
            msr!("ich_ap0r1_el2", a1);
            msr!("ich_ap1r1_el2", b1);
        }
        if registers == 4 {
            msr!("ich_ap0r2_el2", a2);
            msr!("ich_ap1r2_el2", b2);
            msr!("ich_ap0r3_el2", a3);
            msr!("ich_ap1r3_el2", b3);
        }
    }
}

/// The registers have 32 bits.
fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}
