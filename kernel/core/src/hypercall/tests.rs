//! The gate as a whole: any number with any arguments has an answer and harms nobody.

mod multicall;

use hypercall_abi::control::DomainParams;
use hypercall_abi::ids::{DomId, VcpuId};
use hypercall_abi::vcpu::{RegisterVcpuInfo, VcpuOp};
use proptest::prelude::*;

use super::*;
use crate::context::TrapFrame;
use crate::exit::{self, Left};
use crate::fake::{Fake, GUEST_RAM, World, params, peek, poke, poke_bytes};
use crate::hw::{Hw, PcpuId, Translation};

const NUMBERS: [u32; 12] = [
    nr::EVENT_CHANNEL_OP,
    nr::SCHED_OP,
    nr::GRANT_TABLE_OP,
    nr::MEMORY_OP,
    nr::XEN_VERSION,
    nr::CONSOLE_IO,
    nr::VCPU_OP,
    nr::VM_ASSIST,
    nr::HVM_OP,
    nr::MULTICALL,
    nr::PHYSDEV_OP,
    control::BASE,
];

/// Values that arguments tend to break at.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..40u64,
        4 => (0..0x3000u64).prop_map(|offset| GUEST_RAM + (offset & !3)),
        1 => (0..0x3000u64).prop_map(|offset| GUEST_RAM + offset),
        1 => prop::sample::select(vec![u64::MAX, u64::MAX - 7, 1 << 31, 1 << 32, 0x7FF0, 0x7FF1, 1 << 63, 4095, 4096]),
        1 => any::<u64>(),
    ]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => prop::sample::select(&NUMBERS[..]),
        1 => 0..70u32,
        1 => (0..40u32).prop_map(|n| control::BASE + n),
        1 => any::<u32>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_call_has_an_answer_and_nothing_is_left_of_who_made_them(
        calls in prop::collection::vec(
            (number(), prop::array::uniform6(value()), prop::collection::vec(value(), 48), 0..2usize), 1..60),
    ) {
        let (mut world, dom0) = World::new();
        let free = Fake::frames().free_pages();
        let victim = world.domain(4);
        let guest = world.domain_like(&DomainParams { vcpus: 2, ..params(3) }, 3);
        poke_bytes(&victim, GUEST_RAM, b"untouched");
        for (number, args, memory, vcpu) in &calls {
            // What calls find in memory is just as random, where the memory is still there.
            for (at, word) in (GUEST_RAM..).step_by(8).zip(memory) {
                if guest.p2m.lookup(crate::addr::Ipa::new(at)).is_some() {
                    poke(&guest, at, word);
                }
            }
            let [x0, ..] = world.call_of(&guest, *vcpu, *number, args);
            prop_assert!(!NUMBERS.contains(number) || x0 as i64 >= -4096, "{} answered {:#x}", number, x0);
            prop_assert!(*number < control::BASE || (x0 as i64) < 0);
        }
        prop_assert_eq!(peek::<[u8; 9]>(&victim, GUEST_RAM), *b"untouched");
        prop_assert!(!dom0.is_dying() && !victim.is_dying());
        prop_assert_eq!(victim.events.port(hypercall_abi::ids::Port(1)).is_ok(), false);
        for domain in [&guest, &victim] {
            world.destroy(domain);
        }
        // A run queue does not hold them: neither was started.
        drop((guest, victim));
        prop_assert_eq!(Fake::frames().free_pages(), free);
    }
}

#[test]
fn a_number_counts_with_its_low_half_only_and_other_registers_stay() {
    let (world, dom0) = World::new();
    let mut cpu = LocalCpu::new(crate::hw::PcpuId(0));
    let current = || crate::local::Current { vcpu: dom0.vcpus()[0].clone(), domain: dom0.clone() };
    let mut frame = TrapFrame { pc: 0x1000, ..TrapFrame::default() };
    frame.x = core::array::from_fn(|n| n as u64 + 100);
    (frame.x[0], frame.x[16]) = (0, 0xFFFF_FFFF_0000_0000 | u64::from(nr::XEN_VERSION));
    let before = frame;
    cpu.current = Some(current());
    dispatch(world.kernel, &cpu, frame.x.first_chunk_mut().unwrap());
    assert_eq!(frame.x[0], 4 << 16 | 17);
    assert_eq!((&frame.x[1..], frame.pc), (&before.x[1..], 0x1000));
    assert!(cpu.current.is_some(), "the vCPU is back");
    frame.x[16] = 63;
    dispatch(world.kernel, &cpu, frame.x.first_chunk_mut().unwrap());
    assert_eq!(frame.x[0].cast_signed(), XenError::NoSys as i64);
}

#[test]
fn what_is_left_to_do_behind_a_call_is_said_and_done() {
    const LONG: u64 = 3 * 4096;
    for (number, args, interrupts, wanted) in [
        (nr::XEN_VERSION, [0; 3], false, Left::Nothing),
        (nr::XEN_VERSION, [0; 3], true, Left::Flush),
        (nr::SCHED_OP, [1, 0, 0], false, Left::Choose),
        (nr::CONSOLE_IO, [0, LONG, GUEST_RAM], false, Left::Again),
    ] {
        let (mut world, _dom0) = World::new();
        let guest = world.domain(4);
        Fake::load_stage2(guest.p2m.vttbr(&world.kernel.vmids, PcpuId(0)));
        let (mut cpu, vcpu) = (LocalCpu::new(PcpuId(0)), guest.vcpus()[0].clone());
        cpu.current = Some(crate::local::Current { vcpu: vcpu.clone(), domain: guest.clone() });
        if interrupts {
            crate::vgic::on_maintenance(&cpu);
        }
        let mut frame = TrapFrame { pc: 0x1004, ..TrapFrame::default() };
        frame.x[..3].copy_from_slice(&args);
        frame.x[16] = u64::from(number);
        let left = exit::hypercall(world.kernel, &cpu, frame.x.first_chunk_mut().unwrap());
        assert_eq!((left, frame.pc), (wanted, 0x1004), "{number}");
        if left == Left::Again {
            if exit::finish(world.kernel, &cpu, &mut frame, left) {
                crate::fake::choose(world.kernel, &mut cpu, &mut frame);
            }
            assert_eq!((frame.pc, frame.x[16]), (0x1000, u64::from(number)), "it is issued again");
            assert!(frame.x[1] < LONG, "with what is left");
        }
    }
}

#[test]
fn a_vcpu_moves_its_record_once_and_is_told_of_everything_then() {
    let (mut world, _dom0) = World::new();
    let guest = world.domain_like(&DomainParams { vcpus: 2, ..params(4) }, 4);
    let mut register = |vcpu: u64, page: u64, offset: u32| {
        let mfn = hypercall_abi::ids::Gfn(GUEST_RAM / 4096 + page);
        poke(&guest, GUEST_RAM, &RegisterVcpuInfo { mfn, offset, ..RegisterVcpuInfo::default() });
        let command = VcpuOp::RegisterVcpuInfo as u64;
        world.call(&guest, nr::VCPU_OP, &[command, vcpu, GUEST_RAM])
    };
    let inval = XenError::Inval as i64;
    for (offset, wrong) in [(4096 - 40, inval), (u32::MAX, inval), (4, inval)] {
        assert_eq!(register(1, 1, offset), wrong);
    }
    assert!(register(1, 99, 0) < 0, "there is no such page");
    assert_eq!(register(2, 1, 0), XenError::NoEnt as i64);
    assert_eq!(register(1 << 32, 1, 0), XenError::NoEnt as i64);
    assert_eq!(register(1, 1, 4096 - 48), 0);
    assert_eq!(register(1, 2, 0), inval);
    let record = GUEST_RAM + 2 * 4096 - 48;
    assert_eq!(peek::<u8>(&guest, record), 1);
    assert_eq!(peek::<u64>(&guest, record + 8), u64::MAX);
    assert_eq!(guest.vcpu(VcpuId(1)).unwrap().info().unwrap(), crate::fake::frame_of(&guest, record).add(4096 - 48));
    assert_eq!(guest.id, DomId(1));
}
