//! Calls of firmware, PSCI and SMCCC, as exits.

use hypercall_abi::control::STATE_SHUTDOWN;
use hypercall_abi::psci::{PsciFn, PsciResult};

use super::guest::{Guest, RAM};
use crate::context::TrapFrame;
use crate::smccc;

fn psci(result: PsciResult) -> u64 {
    (result as i64).cast_unsigned()
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
