//! The GIC's virtual CPU interface: list registers, and what moves with a vCPU besides them.
//!
//! A register's number is part of the instruction, so an index becomes a match.

use kernel_core::context::VcpuInterface;
use kernel_core::hw::VirtualInterface;

use crate::Arm;
use crate::sysreg::{barrier, mrs, msr};

/// `ICH_HCR_EL2.En`: the virtual interface works.
const EN: u64 = 1;
/// `ICH_HCR_EL2.UIE`: a maintenance interrupt when at most one list register is in use.
const UIE: u64 = 1 << 1;

/// Empties the list registers and turns the interface on.
pub fn init() {
    for n in 0..Arm::list_registers() {
        Arm::write_lr(n, 0);
    }
    Arm::load_interface(&VcpuInterface::default());
    // SAFETY: these registers concern the guest's interrupts only.
    unsafe { msr!("ich_hcr_el2", EN) };
    barrier!("isb");
}

/// How many active-priority registers of a group there are: 1 with 5 preemption bits, 2 with 6, 4 with 7.
fn active_priority_registers() -> usize {
    match mrs!("ich_vtr_el2") >> 26 & 7 {
        6 => 4,
        5 => 2,
        _ => 1,
    }
}

/// Hands the numbers of all list registers to `$then`.
macro_rules! with_list_registers {
    ($then:ident) => {
        $then! { 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 }
    };
}

impl VirtualInterface for Arm {
    fn list_registers() -> usize {
        (mrs!("ich_vtr_el2") & 0x1f) as usize + 1
    }

    fn read_lr(n: usize) -> u64 {
        macro_rules! read {
            ($($n:literal)*) => { match n { $($n => mrs!(concat!("ich_lr", $n, "_el2")),)* _ => 0 } };
        }
        with_list_registers!(read)
    }

    fn write_lr(n: usize, value: u64) {
        macro_rules! write {
            ($($n:literal)*) => { match n { $($n => msr!(concat!("ich_lr", $n, "_el2"), value),)* _ => {} } };
        }
        // SAFETY: a list register presents an interrupt to the guest, never to EL2.
        unsafe { with_list_registers!(write) };
    }

    fn empty_lrs() -> u32 {
        (mrs!("ich_elrsr_el2") & 0xffff) as u32
    }

    fn notify_underflow(on: bool) {
        // SAFETY: as in `init`.
        unsafe { msr!("ich_hcr_el2", if on { EN | UIE } else { EN }) };
    }

    fn save_interface(into: &mut VcpuInterface) {
        /// Active priorities number n of both groups; the registers have 32 bits.
        macro_rules! save {
            ($($n:literal)*) => {$(
                into.ap0r[$n] = (mrs!(concat!("ich_ap0r", $n, "_el2")) & 0xffff_ffff) as u32;
                into.ap1r[$n] = (mrs!(concat!("ich_ap1r", $n, "_el2")) & 0xffff_ffff) as u32;
            )*};
        }
        into.vmcr = mrs!("ich_vmcr_el2");
        save!(0);
        let registers = active_priority_registers();
        if registers >= 2 {
            save!(1);
        }
        if registers == 4 {
            save!(2 3);
        }
    }

    fn load_interface(from: &VcpuInterface) {
        macro_rules! load {
            ($($n:literal)*) => {$(
                msr!(concat!("ich_ap0r", $n, "_el2"), u64::from(from.ap0r[$n]));
                msr!(concat!("ich_ap1r", $n, "_el2"), u64::from(from.ap1r[$n]));
            )*};
        }
        let registers = active_priority_registers();
        // SAFETY: as in `init`.
        unsafe {
            msr!("ich_vmcr_el2", from.vmcr);
            load!(0);
            if registers >= 2 {
                load!(1);
            }
            if registers == 4 {
                load!(2 3);
            }
        }
    }
}
