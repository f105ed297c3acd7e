//! Whole exits of a guest on the fake machine: what it did, and what it finds when it goes on.

use hypercall_abi::control::STATE_SHUTDOWN;
use hypercall_abi::psci::PsciFn;
use proptest::prelude::*;

use super::guest::{Guest, RAM, VECTORS};
use crate::addr::{GuestVa, Ipa};
use crate::exit;
use crate::fake::with;
use crate::hw::IntId;
use crate::trap::registers::encoding;

const GICD: u64 = 0x0300_1000;
const GICR_SGI: u64 = 0x0303_0000;
const UART: u64 = 0x2200_0000;

#[test]
fn a_register_of_the_distributor_is_read_and_the_guest_goes_on_behind_the_load() {
    let mut guest = Guest::new();
    assert_eq!(guest.load(GICD + 0x4) & 0x1F, 1, "32 shared interrupts");
    assert_eq!(guest.frame.pc, RAM + 4);
    // GICD_TYPER2, which Linux looks at.
    assert_eq!(guest.load(GICD + 0xC), 0);
}

#[test]
fn a_load_from_a_device_is_decoded_with_its_address_and_register() {
    let mut guest = Guest::new();
    // LDR w3: ISV, SAS 2, SRT 3, translation fault at level 3. The IPA counts, whatever the address before stage 1.
    guest.frame.x = [u64::MAX; 31];
    guest.abort(0x24, 1 << 24 | 2 << 22 | 3 << 16 | 0x07, 0xFFFF_0000_0000_0004, GICD + 4);
    assert_eq!(guest.frame.x[3] & 0x1F, 1, "GICD_TYPER: 32 shared interrupts");
    let others = guest.frame.x.iter().enumerate().filter(|(n, _)| *n != 3);
    assert!(others.map(|(_, x)| *x).all(|x| x == u64::MAX));
    assert_eq!(guest.frame.pc, RAM + 4);
}

#[test]
fn an_interrupt_to_itself_is_in_a_list_register_when_the_guest_goes_on() {
    let mut guest = Guest::new();
    guest.store(GICD, 3);
    guest.store(GICR_SGI + 0x100, 1 << 5);
    guest.msr(encoding(3, 0, 12, 11, 5), 5 << 24 | 1);
    assert_eq!(guest.list_register(0), (1, 5));
}

#[test]
fn an_address_where_nothing_is_aborts_in_the_guest() {
    let mut guest = Guest::new();
    guest.access(true, 0x1000);
    assert!(guest.has_taken(0x25));
    assert_eq!(with(|s| (s.el1.far_el1, s.el1.elr_el1, s.el1.esr_el1 & 0x7F)), (0x1000, RAM, 0x50));
    let mut guest = Guest::new();
    guest.trap(0x20, 7, 0x1000);
    assert!(guest.has_taken(0x21));
    // A redistributor of a vCPU that does not exist.
    let mut guest = Guest::new();
    guest.access(false, 0x0302_0000 + 2 * 0x2_0000);
    assert!(guest.has_taken(0x25));
}

#[test]
fn an_access_to_a_device_that_the_syndrome_does_not_describe_aborts_in_the_guest() {
    let mut guest = Guest::new();
    guest.trap(0x24, 7, GICD);
    assert!(guest.has_taken(0x25));
}

#[test]
fn a_fault_that_is_gone_when_it_is_looked_at_is_tried_again() {
    let mut guest = Guest::new();
    guest.access(true, RAM + 8);
    assert_eq!((guest.frame.pc, guest.frame.pstate), (RAM, 0x1C5));
}

#[test]
fn what_does_not_exist_is_undefined_at_its_own_address() {
    // A PMU register, a RAS register, pointer authentication, HVC and SMC with an immediate, a class of the future.
    let pmcr = u64::from(encoding(3, 3, 9, 12, 0));
    let erridr = u64::from(encoding(3, 0, 5, 3, 0));
    for (class, iss, skipped) in
        [(0x18, pmcr, 0), (0x18, erridr | 1, 0), (0x09, 0, 0), (0x16, 1, 4), (0x17, 1, 0), (0x3F, 0, 0)]
    {
        let mut guest = Guest::new();
        guest.frame.pc = RAM + 0x100 + skipped;
        guest.trap(class, iss, 0);
        assert!(guest.has_taken(0), "class {class:#x}");
        assert_eq!(with(|s| s.el1.elr_el1), RAM + 0x100);
    }
}

#[test]
fn a_register_access_is_decoded_to_the_register_of_its_instruction() {
    let mut guest = Guest::new();
    guest.store(GICD, 3);
    guest.store(GICR_SGI + 0x100, 1 << 3);
    // MSR ICC_SGI1R_EL1, x5; MSR CNTP_CVAL_EL0, x5; MRS x5, CNTP_CVAL_EL0; MRS x0, ICC_SRE_EL1; MRS x0, ICC_SGI1R_EL1.
    let sgi1r = u64::from(encoding(3, 0, 12, 11, 5));
    let compare = u64::from(encoding(3, 3, 14, 2, 2));
    guest.frame.x[5] = 3 << 24 | 1;
    guest.trap(0x18, sgi1r | 5 << 5, 0);
    assert_eq!(guest.list_register(0), (1, 3));
    guest.trap(0x18, compare | 5 << 5, 0);
    guest.frame.x[5] = 0;
    guest.trap(0x18, compare | 5 << 5 | 1, 0);
    assert_eq!(guest.frame.x[5], 3 << 24 | 1);
    guest.trap(0x18, u64::from(encoding(3, 0, 12, 12, 5)) | 1, 0);
    assert_eq!(guest.frame.x[0], 7);
    guest.trap(0x18, sgi1r | 1, 0);
    assert!(guest.has_taken(0), "it cannot be read");
}

#[test]
fn debug_registers_and_cache_operations_by_set_are_harmless() {
    let mut guest = Guest::new();
    for register in
        [encoding(2, 0, 1, 0, 4), encoding(2, 0, 0, 3, 4), encoding(1, 0, 7, 14, 2), encoding(3, 0, 1, 0, 1)]
    {
        let pc = guest.frame.pc;
        guest.msr(register, u64::MAX);
        assert_eq!(guest.frame.pc, pc + 4);
    }
    assert_eq!(guest.mrs(encoding(2, 0, 1, 1, 4)), 8);
    guest.msr(encoding(2, 0, 0, 2, 2), u64::MAX);
    assert_eq!(guest.mrs(encoding(2, 0, 0, 2, 2)), 0xB001, "what concerns the guest alone");
}

#[test]
fn breakpoints_go_with_the_vcpu_that_compares_them_and_cost_no_other_anything() {
    let mut guest = Guest::new();
    let (value, control, mdscr) = (encoding(2, 0, 0, 3, 4), encoding(2, 0, 0, 3, 5), encoding(2, 0, 0, 2, 2));
    guest.msr(value, RAM);
    guest.msr(control, u64::MAX);
    assert_eq!(guest.mrs(control), 0xFF_01E7, "neither EL2 nor security states");
    assert_eq!(with(|s| s.debug_loads), 0, "nothing is compared yet");
    guest.msr(mdscr, 1 << 15);
    assert_eq!(with(|s| (s.debug.0[0][3], s.debug.0[1][3])), (RAM, 0xFF_01E7));
    guest.msr(value, RAM + 4);
    assert_eq!(with(|s| s.debug.0[0][3]), RAM + 4);
    // The other vCPU has the pCPU for a while, and does not compare.
    let loads = with(|s| s.debug_loads);
    guest.smccc(PsciFn::CpuOn64 as u32, [1, RAM + 0x40, 7]);
    guest.smccc(PsciFn::CpuOff as u32, [0; 3]);
    assert_eq!((guest.frame.pc, with(|s| s.el1.mdscr_el1)), (RAM + 0x40, 0));
    assert_eq!(with(|s| s.debug_loads), loads);
    assert_eq!(guest.mrs(value), 0, "each has its own");
    guest.msr(value, RAM + 8);
    guest.msr(mdscr, 1 << 15);
    assert_eq!(with(|s| (s.debug.0[0][3], s.debug.0[1][3])), (RAM + 8, 0), "all of them");
}

#[test]
fn a_software_step_over_what_is_emulated_is_done() {
    const STEP: u64 = 1 << 21;
    let stepped = |what: fn(&mut Guest)| {
        let mut guest = Guest::new();
        guest.frame.pstate |= STEP;
        what(&mut guest);
        (guest.frame.pc, guest.frame.pstate & STEP)
    };
    assert_eq!(stepped(|guest| _ = guest.mrs(encoding(3, 0, 0, 4, 0))), (RAM + 4, 0));
    assert_eq!(stepped(|guest| guest.msr(encoding(3, 0, 12, 11, 5), 1)), (RAM + 4, 0));
    assert_eq!(stepped(|guest| guest.msr(encoding(2, 0, 0, 3, 4), 0)), (RAM + 4, 0));
    assert_eq!(stepped(|guest| guest.store(GICD, 2)), (RAM + 4, 0));
    assert_eq!(stepped(|guest| guest.trap(0x01, 1, 0)), (RAM + 4, 0), "WFE");
    assert_eq!(stepped(|guest| guest.trap(0x17, 0, 0)), (RAM + 4, 0), "SMC");
    assert_eq!(stepped(|guest| guest.store(RAM, 2)), (RAM, STEP), "what is tried again is not");
}

#[test]
fn the_physical_timer_interrupts_when_it_is_due_and_falls_silent_when_it_is_moved() {
    let mut guest = Guest::new();
    guest.store(GICD, 3);
    guest.store(GICR_SGI + 0x100, 1 << 30);
    guest.msr(encoding(3, 3, 14, 2, 0), 1000);
    guest.msr(encoding(3, 3, 14, 2, 1), 1);
    assert_eq!(guest.mrs(encoding(3, 3, 14, 2, 1)), 1);
    let due = with(|s| s.deadline).unwrap();
    assert_eq!(due, with(|s| s.now) + 1000);
    with(|s| {
        s.now = due;
        s.pending.push_back(IntId(26));
    });
    guest.exit::<{ exit::IRQ }>(0);
    assert_eq!(guest.list_register(0), (1, 30));
    assert_eq!(guest.mrs(encoding(3, 3, 14, 2, 1)), 5, "enabled, condition met");
    assert_eq!(guest.mrs(encoding(3, 3, 14, 2, 0)), 0);
    // The handler takes it, moves the timer and ends the interrupt.
    with(|s| s.lrs[0] ^= 3 << 62);
    guest.msr(encoding(3, 3, 14, 2, 0), 0xFFFF_FFFF);
    assert_eq!(guest.load(GICR_SGI + 0x200) >> 30, 1, "TVAL is signed: that is in the past");
    guest.msr(encoding(3, 3, 14, 2, 0), 50);
    assert_eq!(guest.load(GICR_SGI + 0x200) >> 30, 0);
}

#[test]
fn the_virtual_timer_comes_linked_to_the_physical_interrupt() {
    let mut guest = Guest::new();
    guest.store(GICD, 3);
    guest.store(GICR_SGI + 0x100, 1 << 27);
    with(|s| s.pending.push_back(IntId(27)));
    guest.exit::<{ exit::IRQ }>(0);
    assert_eq!(guest.list_register(0), (1, 27));
    assert_eq!(with(|s| (s.lrs[0] >> 61 & 1, s.lrs[0] >> 32 & 0x3FF)), (1, 27));
    assert_eq!(with(|s| (s.dropped.clone(), s.deactivated.clone())), (vec![IntId(27)], vec![]));
}

#[test]
fn an_serror_ends_the_domain_that_was_running_and_says_so() {
    let mut guest = Guest::new();
    exit::serror(guest.kernel, &mut guest.cpu, &mut guest.frame, 0xBE00_0000);
    assert_eq!(guest.domain.life(), (STATE_SHUTDOWN, 3));
}

#[test]
fn a_domain_whose_vectors_cannot_be_fetched_ends_and_one_that_strays_elsewhere_goes_on() {
    let mut guest = Guest::new();
    guest.trap(0x20, 7, 0x1000);
    assert_eq!(guest.domain.life(), (0, 0));
    with(|s| s.fault = (GuestVa::new(VECTORS), Ipa::new(VECTORS)));
    exit::exception(guest.kernel, &mut guest.cpu, &mut guest.frame, 0x20 << 26 | 1 << 25 | 7);
    assert_eq!(guest.domain.life(), (STATE_SHUTDOWN, 3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_exit_of_a_guest_is_the_microkernels_end(
        exits in proptest::collection::vec((0u64..64, any::<u64>(), any::<u64>(), any::<u64>(), any::<u8>()), 1..40),
    ) {
        let mut guest = Guest::new();
        for (class, iss, far, value, kind) in exits {
            // Nobody would wake a guest that waits here, and hypercalls have their own tests.
            let waits = class == 1 || class == 0x16 && iss & 0xFFFF == 0xEA1;
            if waits { continue }
            guest.frame.x = [value; 31];
            // The handler of the exception before has returned: one that cannot be fetched ends the domain.
            guest.frame.pc = RAM;
            let ipa = match kind % 4 {
                0 => GICD + far % 0x1_0000,
                1 => 0x0302_0000 + far % 0x8_0000,
                2 => UART + far % 0x1000,
                _ => far,
            };
            let status = if kind & 0x80 != 0 { iss & !0x3F | 7 | 1 << 24 } else { iss };
            guest.trap(class, status & 0x1FF_FFFF, ipa);
            prop_assert_eq!(guest.domain.life(), (0, 0));
        }
    }

    #[test]
    fn every_syndrome_decodes(esr: u64, far: u64, ipa in 0u64..1 << 52) {
        // But for a call, whose number says what it does, and for a wait, which nobody here would end.
        prop_assume!(!matches!(esr >> 26 & 0x3F, 0x01 | 0x16 | 0x17));
        let mut guest = Guest::new();
        with(|s| s.fault = (GuestVa::new(far), Ipa::new(ipa)));
        guest.exit::<{ exit::SYNC }>(esr);
        prop_assert_eq!(guest.domain.life(), (0, 0));
    }
}
