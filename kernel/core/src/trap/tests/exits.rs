//! Whole exits of a guest on the fake machine: what it did, and what it finds when it goes on.

use hypercall_abi::control::{DomainParams, STATE_SHUTDOWN};
use hypercall_abi::psci::{PsciFn, PsciResult};
use proptest::prelude::*;

use crate::addr::{GuestVa, Ipa};
use crate::context::TrapFrame;
use crate::domain::Domain;
use crate::exit;
use crate::fake::{Fake, Shared, reset, with};
use crate::hw::{IntId, PcpuId};
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::trap::registers::encoding;
use crate::{memory, smccc};

const RAM: u64 = 0x4000_0000;
const VECTORS: u64 = 0x8_0000;
const GICD: u64 = 0x0300_1000;
const GICR_SGI: u64 = 0x0303_0000;
const UART: u64 = 0x2200_0000;

/// A guest with two vCPUs, the first on the only pCPU.
struct Guest {
    kernel: &'static Kernel<Fake>,
    cpu: LocalCpu<Fake>,
    frame: TrapFrame,
    domain: Shared<Domain<Fake>>,
}

impl Guest {
    fn new() -> Guest {
        reset();
        let kernel: &'static Kernel<Fake> = Box::leak(Box::new(Kernel::empty()));
        // Takes the id of Dom0, whose end would be the machine's.
        create(kernel);
        let domain = create(kernel);
        kernel.unpause(&domain).unwrap();
        kernel.start_vcpu(&domain, &domain.vcpus()[0], RAM, 0).unwrap();
        let mut guest = Guest { kernel, cpu: LocalCpu::new(PcpuId(0)), frame: TrapFrame::default(), domain };
        crate::fake::choose(kernel, &mut guest.cpu, &mut guest.frame);
        with(|s| s.el1.vbar_el1 = VECTORS);
        guest
    }

    fn exit<const KIND: u8>(&mut self, esr: u64) {
        crate::fake::exit::<KIND>(self.kernel, &mut self.cpu, &mut self.frame, esr);
    }

    fn trap(&mut self, class: u64, iss: u64, ipa: u64) {
        self.abort(class, iss, ipa, ipa);
    }

    fn abort(&mut self, class: u64, iss: u64, far: u64, ipa: u64) {
        with(|s| s.fault = (GuestVa::new(far), Ipa::new(ipa)));
        self.exit::<{ exit::SYNC }>(class << 26 | 1 << 25 | iss);
    }

    /// A 32-bit access with x1.
    fn access(&mut self, write: bool, ipa: u64) {
        self.trap(0x24, 1 << 24 | 2 << 22 | 1 << 16 | u64::from(write) << 6 | 7, ipa);
    }

    fn load(&mut self, ipa: u64) -> u64 {
        self.frame.x[1] = u64::MAX;
        self.access(false, ipa);
        self.frame.x[1]
    }

    fn store(&mut self, ipa: u64, value: u64) {
        self.frame.x[1] = value;
        self.access(true, ipa);
    }

    fn msr(&mut self, register: u32, value: u64) {
        self.frame.x[1] = value;
        self.trap(0x18, u64::from(register) | 1 << 5, 0);
    }

    fn mrs(&mut self, register: u32) -> u64 {
        self.trap(0x18, u64::from(register) | 1 << 5 | 1, 0);
        self.frame.x[1]
    }

    fn smccc(&mut self, function: u32, args: [u64; 3]) -> u64 {
        self.frame.x[0] = u64::from(function);
        self.frame.x[1..4].copy_from_slice(&args);
        self.trap(0x16, 0, 0);
        self.frame.x[0]
    }

    /// Whether the guest has been sent to its handler, with this exception class.
    fn has_taken(&self, class: u64) -> bool {
        self.frame.pc == VECTORS + 0x200 && with(|s| s.el1.esr_el1 >> 26) == class
    }

    fn list_register(&self, n: usize) -> (u64, u64) {
        with(|s| (s.lrs[n] >> 62, s.lrs[n] & 0x3FF))
    }
}

fn create(kernel: &Kernel<Fake>) -> Shared<Domain<Fake>> {
    let params = DomainParams { vcpus: 2, max_pages: 32, max_grant_frames: 4, ..DomainParams::default() };
    let domain = kernel.create(&params, None).unwrap();
    assert_eq!(memory::populate(&domain, Ipa::new(RAM), 4), (4, Ok(())));
    domain
}

fn psci(result: PsciResult) -> u64 {
    (result as i64).cast_unsigned()
}

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
fn psci_switches_vcpus_on_and_tells_who_is_on() {
    let mut guest = Guest::new();
    let info = |guest: &mut Guest, vcpu| guest.smccc(PsciFn::AffinityInfo64 as u32, [vcpu, 0, 0]);
    assert_eq!(guest.smccc(PsciFn::Version as u32, [0; 3]), 0x1_0001);
    assert_eq!((info(&mut guest, 0), info(&mut guest, 1)), (0, 1));
    let on = PsciFn::CpuOn64 as u32;
    assert_eq!(guest.smccc(on, [1, RAM + 2, 7]), psci(PsciResult::InvalidAddress));
    assert_eq!(guest.smccc(on, [2, RAM, 7]), psci(PsciResult::InvalidParameters));
    assert_eq!(guest.smccc(on, [1 << 24 | 1, RAM, 7]), psci(PsciResult::InvalidParameters));
    assert_eq!(guest.smccc(on, [1, RAM + 0x40, 7]), 0);
    assert_eq!(guest.smccc(on, [1, RAM + 0x40, 7]), psci(PsciResult::AlreadyOn));
    assert_eq!(info(&mut guest, 1), 0);
    {
        let run = guest.domain.vcpus()[1].run.lock();
        let context = &run.context;
        assert_eq!((context.frame.pc, context.frame.x[0], context.el1.vmpidr_el2), (RAM + 0x40, 7, 1 << 31 | 1));
    }
    // The first switches itself off; the second takes the pCPU.
    guest.smccc(PsciFn::CpuOff as u32, [0; 3]);
    assert_eq!((guest.frame.pc, guest.frame.x[0]), (RAM + 0x40, 7));
    assert_eq!(info(&mut guest, 0), 1);
}

#[test]
fn psci_ends_the_domain() {
    for (function, args, reason) in
        [(PsciFn::SystemOff, [0; 3], 0), (PsciFn::SystemReset, [0; 3], 1), (PsciFn::SystemReset2_64, [0; 3], 1)]
    {
        let guest = Guest::new();
        let mut frame = TrapFrame::default();
        frame.x[0] = u64::from(function as u32);
        frame.x[1..4].copy_from_slice(&args);
        smccc::call(guest.kernel, &guest.cpu, &mut frame);
        assert_eq!(guest.domain.life(), (STATE_SHUTDOWN, reason));
    }
}

#[test]
fn features_and_calls_agree() {
    let mut guest = Guest::new();
    for id in (0x8400_0000..0x8400_0020).chain(0xC400_0000..0xC400_0020).chain(0x8400_0050..0x8400_0054) {
        let announced = guest.smccc(PsciFn::Features as u32, [id, 0, 0]) == 0;
        let ends = matches!(id & 0xFF, 2 | 8 | 9);
        // Arguments that make no function succeed.
        let number = u32::try_from(id).unwrap();
        if !ends && !matches!(id & 0xFF, 1) {
            let answered = guest.smccc(number, [1 << 31, 9, 9]) != psci(PsciResult::NotSupported);
            assert_eq!(announced, answered || number == PsciFn::Features as u32, "{id:#x}");
        }
    }
}

#[test]
fn smccc_names_the_hypervisor_as_xen_does() {
    let mut guest = Guest::new();
    assert_eq!(guest.smccc(0x8000_0000, [0; 3]), 0x1_0001);
    guest.smccc(0x8600_FF01, [0; 3]);
    let words = guest.frame.x[..4].iter().flat_map(|x| u32::try_from(*x).unwrap().to_le_bytes());
    let uuid = 0xa718_12dc_c698_4369_9acf_79d1_8dde_e667_u128;
    assert!(words.eq(uuid.to_be_bytes()));
    for unknown in [0x8400_0050, 0x8600_0000, 0xC600_FF01, 0x8000_8000, 0, u32::MAX] {
        assert_eq!(guest.smccc(unknown, [0; 3]), u64::MAX, "{unknown:#x}");
    }
    // By SMC too, which does not return behind itself.
    guest.frame.pc = RAM;
    guest.frame.x[0] = 0x8400_0000;
    guest.trap(0x17, 0, 0);
    assert_eq!((guest.frame.x[0], guest.frame.pc), (0x1_0001, RAM + 4));
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
