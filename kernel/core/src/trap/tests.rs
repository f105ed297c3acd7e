//! Decoding, ID registers and the entry into the guest's handlers.

mod exits;
mod firmware;
mod guest;

use super::inject::{LONG, enter, skip, undefined, with_el1};
use super::mmio::extend;
use super::*;
use crate::addr::GuestVa;
use crate::context::{El1Context, TrapFrame};
use crate::fake::{Fake, reset, with};

#[test]
fn loads_extend_as_the_instruction_says() {
    let byte = |signed: u64, wide: u64| signed << 21 | wide << 15;
    assert_eq!(extend(0xFFF_FF80, byte(0, 1)), 0x80);
    assert_eq!(extend(0x80, byte(1, 1)), 0xFFFF_FFFF_FFFF_FF80);
    assert_eq!(extend(0x80, byte(1, 0)), 0xFFFF_FF80);
    assert_eq!(extend(0x7F, byte(1, 1)), 0x7F);
    assert_eq!(extend(u64::MAX, 3 << 22 | byte(1, 1)), u64::MAX);
}

fn guest(pstate: u64) -> (TrapFrame, El1Context) {
    let frame = TrapFrame { pc: 0x4000, pstate, ..TrapFrame::default() };
    (frame, El1Context { vbar_el1: 0x8_0000, sctlr_el1: 1 << 23, ..El1Context::default() })
}

#[test]
fn an_exception_enters_the_vector_of_the_mode_that_it_came_from() {
    for (pstate, offset) in [(0x4, 0x000), (0x5, 0x200), (0x0, 0x400), (0x10, 0x600), (0x30, 0x600)] {
        let (mut frame, mut el1) = guest(pstate | 1 << 30);
        enter(&mut frame, &mut el1, None);
        assert_eq!(frame.pc, 0x8_0000 + offset);
        assert_eq!(frame.pstate, 0x3C5 | 1 << 30, "EL1h, masked, flags kept");
        assert_eq!((el1.elr_el1, el1.spsr_el1, el1.esr_el1), (0x4000, pstate | 1 << 30, 1 << 25));
    }
}

#[test]
fn an_abort_says_where_it_was_and_from_which_level_it_came() {
    // A store that stage 2 did not translate at level 3.
    let abort = Some((0x24 << 26 | 1 << 6 | 0x07, GuestVa::new(0x1234)));
    let (mut frame, mut el1) = guest(0x5);
    enter(&mut frame, &mut el1, abort);
    assert_eq!((el1.esr_el1, el1.far_el1), (0x25 << 26 | 1 << 25 | 1 << 6 | 0x10, 0x1234));
    let (mut frame, mut el1) = guest(0x0);
    enter(&mut frame, &mut el1, Some((0x20 << 26 | 1 << 7 | 0x07, GuestVa::new(0x10))));
    assert_eq!(el1.esr_el1, 0x20 << 26 | 1 << 25 | 0x17);
}

/// A number of its own in each EL1 register, and a timer that runs.
fn numbered() -> El1Context {
    macro_rules! number {
        ($($register:ident)*) => {{
            let mut numbers = 1000..;
            El1Context { $($register: numbers.next().unwrap(),)* cntv_ctl_el0: 1 }
        }};
    }
    crate::el1_registers!(number)
}

#[test]
fn an_injected_exception_leaves_every_register_that_is_not_part_of_it() {
    reset();
    let before = numbered();
    with(|s| s.el1 = before);
    with_el1::<Fake, _>(|_| ());
    assert_eq!(format!("{:?}", with(|s| s.el1)), format!("{before:?}"));
    let mut frame = TrapFrame { pc: 0x4000, pstate: 5, ..TrapFrame::default() };
    undefined::<Fake>(&mut frame);
    let after = El1Context { elr_el1: 0x4000, spsr_el1: 5, esr_el1: LONG, ..before };
    assert_eq!(format!("{:?}", with(|s| s.el1)), format!("{after:?}"));
    assert_eq!(frame.pc, before.vbar_el1 + 0x200);
}

#[test]
fn an_exception_sets_pan_and_ssbs_as_the_guest_configured() {
    let (mut frame, mut el1) = guest(0x5);
    el1.sctlr_el1 = 1 << 44;
    enter(&mut frame, &mut el1, None);
    assert_eq!(frame.pstate, 0x3C5 | 1 << 22 | 1 << 12);
}

#[test]
fn skipping_a_thumb_instruction_moves_the_it_block_on() {
    // ITTT: IT[7:0] = 0b0000_0001 after the last, so start with three left: cond 0000, mask 0010.
    let it = |value: u64| (value & 0xFC) << 8 | (value & 3) << 25;
    let mut frame = TrapFrame { pc: 0x100, pstate: 0x30 | it(0b0000_0110), ..TrapFrame::default() };
    skip(&mut frame, 0);
    assert_eq!((frame.pc, frame.pstate), (0x102, 0x30 | it(0b0000_1100)));
    skip(&mut frame, LONG);
    assert_eq!((frame.pc, frame.pstate), (0x106, 0x30 | it(0b0001_1000)));
    skip(&mut frame, LONG);
    assert_eq!(frame.pstate, 0x30, "the last instruction of the block ends it");
}

fn id_register(crm: usize, op2: usize, host: u64) -> u64 {
    reset();
    with(|s| s.id_registers.insert((crm, op2), host));
    id::read::<Fake>(&IdRegisters::new(), crm, op2)
}

#[test]
fn a_guest_is_not_shown_what_is_not_virtualised() {
    let all = u64::MAX;
    let field = |value: u64, bit: u32| value >> bit & 0xF;
    let pfr0 = id_register(4, 0, all);
    for (name, bit) in [("EL2", 8), ("EL3", 12), ("RAS", 28), ("SVE", 32), ("MPAM", 40), ("AMU", 44), ("RME", 52)] {
        assert_eq!(field(pfr0, bit), 0, "{name}");
    }
    assert_eq!((field(pfr0, 4), field(pfr0, 24), field(pfr0, 56)), (1, 1, 1), "EL1 in AArch64, GIC, CSV2");
    assert_eq!(id_register(4, 1, all) >> 8, 0, "MTE, SME");
    assert_eq!(id_register(4, 4, all) | id_register(4, 5, all), 0, "SVE and SME features");
    let dfr0 = id_register(5, 0, all);
    for (name, bit) in [("trace", 4), ("PMU", 8), ("SPE", 32), ("filter", 40), ("buffer", 44)] {
        assert_eq!(field(dfr0, bit), 0, "{name}");
    }
    let isar1 = id_register(6, 1, all);
    for bit in [4, 8, 24, 28] {
        assert_eq!(field(isar1, bit), 0, "pointer authentication");
    }
    assert_eq!(field(id_register(7, 0, all), 0), 2, "40 bits of IPA");
    assert_eq!(field(id_register(7, 0, 0), 0), 0, "or what the machine has");
    let mmfr1 = id_register(7, 1, all);
    assert_eq!((field(mmfr1, 8), field(mmfr1, 16)), (0, 0), "VHE, LORegions");
    assert_eq!(field(id_register(7, 2, all), 24), 0, "nesting");
    assert_eq!(id_register(7, 3, all), 0, "registers of later revisions");
    assert_eq!(id_register(2, 0, 0x1234), 0x1234, "instruction sets of AArch32");
}
