//! Tests of the control calls: who may, what they do, what a refused one leaves behind.

use hypercall_abi::control::{STATE_DYING, STATE_SHUTDOWN};

use super::*;
use crate::domain::MAX_DOMAINS;
use crate::fake::{Fake, GUEST_RAM, Shared, World, peek, poke, poke_bytes, with};
use crate::machine::Machine;
use crate::runstate::{PAUSED, STOPPED};

type Dom = Shared<Domain<Fake>>;

const AGAIN: i64 = XenError::Again as i64;
const PERM: i64 = XenError::Perm as i64;

/// A control call of Dom0's only vCPU: x0, x1, x2.
fn control(world: &mut World, caller: &Dom, op: Op, args: &[u64]) -> (i64, u64, u64) {
    let [x0, x1, x2] = world.call_of(caller, 0, op.number(), args);
    (x0.cast_signed(), x1, x2)
}

/// A domain made by a call; its capability and itself.
fn create(world: &mut World, dom0: &Dom) -> (u64, Dom) {
    let params = DomainParams { vcpus: 2, max_pages: 64, max_grant_frames: 4, ..DomainParams::default() };
    poke(dom0, GUEST_RAM, &params);
    let (x0, cap, domid) = control(world, dom0, Op::DomainCreate, &[0, GUEST_RAM]);
    assert_eq!(x0, 0);
    let id = hypercall_abi::ids::DomId(u16::try_from(domid).unwrap());
    (cap, world.find(id).expect("it is known"))
}

fn info(world: &mut World, dom0: &Dom, cap: u64) -> DomainInfo {
    assert_eq!(control(world, dom0, Op::DomainInfo, &[cap, GUEST_RAM]).0, 0);
    peek(dom0, GUEST_RAM)
}

#[test]
fn a_guest_is_refused_every_control_call_before_its_arguments_are_looked_at() {
    let (mut world, _dom0) = World::new();
    let guest = world.domain(4);
    let before = with(|s| s.counts.translations);
    for op in Op::ALL {
        for args in [[0, GUEST_RAM, GUEST_RAM, 16, 0, 0], [1, u64::MAX, 3, u64::MAX, 5, 6], [u64::MAX; 6]] {
            assert_eq!(control(&mut world, &guest, op, &args).0, PERM, "{op:?}");
        }
    }
    assert_eq!(with(|s| s.counts.translations), before, "no memory was looked at");
    assert_eq!(world.kernel.domains.at_or_after(hypercall_abi::ids::DomId(2)).map(|d| d.id), None);
}

#[test]
fn a_control_call_that_does_not_exist_is_no_call_for_anybody() {
    let (mut world, dom0) = World::new();
    let guest = world.domain(4);
    for caller in [&dom0, &guest] {
        for number in [control_base() + 7, control_base() + 0xFFF, u32::MAX] {
            assert_eq!(world.call(caller, number, &[0; 6]), XenError::NoSys as i64);
        }
    }
}

fn control_base() -> u32 {
    hypercall_abi::control::BASE
}

#[test]
fn a_capability_opens_only_what_it_names() {
    let (mut world, dom0) = World::new();
    let (cap, _domain) = create(&mut world, &dom0);
    let before = with(|s| s.counts.translations);
    for op in Op::ALL {
        let of_machine = matches!(
            op,
            Op::PlatformInfo
                | Op::ConsoleRead
                | Op::Power
                | Op::DeviceMap
                | Op::DomainCreate
                | Op::DomainLookup
                | Op::TraceRing
        );
        let wrong = match op {
            Op::Version => continue,
            _ if of_machine => [cap, cap + 1, 1 << 32],
            _ => [0, cap + 1, 1 << 32],
        };
        for wrong in wrong {
            assert_eq!(control(&mut world, &dom0, op, &[wrong, 0, GUEST_RAM]).0, PERM, "{op:?} of {wrong}");
        }
    }
    assert_eq!(with(|s| s.counts.translations), before);
}

#[test]
fn the_capabilities_of_a_table_are_its_own_and_run_out() {
    let (mut world, _dom0) = World::new();
    let domain = world.domain(1);
    let table = Caps::<Fake>::of_machine();
    for nothing in [0, 1, 511, 512, u64::MAX] {
        assert_eq!(table.domain(nothing).err(), Some(XenError::Perm));
        assert_eq!(table.remove(nothing), Err(XenError::Perm));
    }
    let caps: Vec<_> =
        core::iter::from_fn(|| table.add(domain.clone()).ok()).map(|cap| u64::from(cap.index())).collect();
    assert_eq!(caps, (1..512).collect::<Vec<_>>());
    assert_eq!(table.add(domain.clone()), Err(XenError::NoSpc));
    assert!(Fake::same(&table.domain(7).unwrap(), &domain));
    assert_eq!(table.domain(0).err(), Some(XenError::Perm), "the machine is no domain");
    for cap in [500, 3] {
        table.remove(cap).unwrap();
    }
    let again = [(); 2].map(|()| table.add(domain.clone()).unwrap().index());
    assert_eq!(again, [3, 500]);
}

#[test]
fn a_domain_is_made_filled_started_looked_at_and_destroyed() {
    let (mut world, dom0) = World::new();
    let free = Fake::frames().free_pages();
    assert_eq!(control(&mut world, &dom0, Op::Version, &[]), (0, u64::from(VERSION), 0));
    let (cap, domain) = create(&mut world, &dom0);
    assert_eq!(info(&mut world, &dom0, cap).state & STATE_PAUSED, STATE_PAUSED);
    let ram = 0x4000_0000;
    assert_eq!(control(&mut world, &dom0, Op::Populate, &[cap, ram, 65]).0, XenError::NoMem as i64);
    let given = info(&mut world, &dom0, cap).pages;
    assert_eq!(
        control(&mut world, &dom0, Op::Populate, &[cap, ram + given * 4096, 64 - given]),
        (0, 64 - given, 64 - given)
    );
    // A register without a result keeps its argument.
    poke_bytes(&dom0, GUEST_RAM + 4090, b"across a page");
    assert_eq!(
        control(&mut world, &dom0, Op::MemoryWrite, &[cap, ram + 8190, GUEST_RAM + 4090, 13]),
        (0, 13, GUEST_RAM + 4090)
    );
    assert_eq!(
        control(&mut world, &dom0, Op::MemoryRead, &[cap, ram + 8190, GUEST_RAM + 100, 13]),
        (0, 13, GUEST_RAM + 100)
    );
    assert_eq!(peek::<[u8; 13]>(&dom0, GUEST_RAM + 100), *b"across a page");

    assert_eq!(control(&mut world, &dom0, Op::VcpuStart, &[cap, 0, ram, 5]).0, 0);
    assert_eq!(control(&mut world, &dom0, Op::VcpuStart, &[cap, 0, ram, 5]).0, XenError::Exist as i64);
    for nobody in [2, 1 << 32, u64::MAX] {
        assert_eq!(control(&mut world, &dom0, Op::VcpuStart, &[cap, nobody, ram, 5]).0, XenError::NoEnt as i64);
    }
    assert_eq!(control(&mut world, &dom0, Op::VcpuAffinity, &[cap, 0, 1 << 9, 1]).0, XenError::Inval as i64);
    assert_eq!(control(&mut world, &dom0, Op::VcpuAffinity, &[cap, 0, u64::MAX, 1]).0, 0);
    assert_eq!(control(&mut world, &dom0, Op::DomainUnpause, &[cap]).0, 0);
    assert_eq!(control(&mut world, &dom0, Op::DomainUnpause, &[cap]).0, XenError::Inval as i64);
    let seen = info(&mut world, &dom0, cap);
    assert_eq!((seen.state & STATE_PAUSED, seen.pages, seen.vcpus, seen.online_vcpus), (0, 64, 2, 1));
    assert_eq!(seen.domid, u32::from(domain.id.0));
    assert_eq!(control(&mut world, &dom0, Op::DomainShutdown, &[cap, 6]).0, XenError::Inval as i64);
    assert_eq!(control(&mut world, &dom0, Op::DomainShutdown, &[cap, 1]).0, 0);
    let seen = info(&mut world, &dom0, cap);
    assert_eq!((seen.state & STATE_SHUTDOWN, seen.shutdown_reason), (STATE_SHUTDOWN, 1));

    let mut stretches = 0;
    while control(&mut world, &dom0, Op::DomainDestroy, &[cap]).0 == AGAIN {
        stretches += 1;
        assert_eq!(info(&mut world, &dom0, cap).state & STATE_DYING, STATE_DYING);
        for op in [Op::DomainUnpause, Op::Populate, Op::MemoryRead, Op::VcpuStart, Op::PortAlloc, Op::GrantSeed] {
            assert_eq!(control(&mut world, &dom0, op, &[cap, 0, 0, 0]).0, XenError::Srch as i64, "{op:?}");
        }
        assert!(stretches < 1000);
    }
    assert_eq!(control(&mut world, &dom0, Op::DomainInfo, &[cap, GUEST_RAM]).0, PERM, "the capability is gone");
    // The queue of a pCPU knows it until that looks for somebody to run.
    drop(domain);
    let left = free - Fake::frames().free_pages();
    assert!(left <= 4, "{left} frames beyond what a started vCPU takes");
}

#[test]
fn absurd_shares_and_masks_are_refused_and_change_nothing() {
    let (mut world, dom0) = World::new();
    let (cap, _domain) = create(&mut world, &dom0);
    assert_eq!(control(&mut world, &dom0, Op::DomainShare, &[cap, 512, 150]).0, 0);
    assert_eq!(control(&mut world, &dom0, Op::VcpuAffinity, &[cap, 1, 1 | 1 << 41, u64::MAX]).0, 0);
    let inval = XenError::Inval as i64;
    for (weight, limit) in [(0, 0), (65536, 0), (u64::MAX, 0), (1 << 32 | 1, 0), (256, 201), (256, u64::MAX)] {
        assert_eq!(control(&mut world, &dom0, Op::DomainShare, &[cap, weight, limit]).0, inval, "{weight} {limit}");
    }
    for (hard, soft) in [(0, 1), (1, 0), (2, 1), (1, 1 << 63)] {
        assert_eq!(control(&mut world, &dom0, Op::VcpuAffinity, &[cap, 1, hard, soft]).0, inval, "{hard} {soft}");
    }
    assert_eq!(control(&mut world, &dom0, Op::VcpuAffinity, &[cap, 2, 1, 1]).0, XenError::NoEnt as i64);
    let seen = info(&mut world, &dom0, cap);
    assert_eq!((seen.weight, seen.cap), (512, 150));
    assert_eq!(control(&mut world, &dom0, Op::VcpuInfo, &[cap, 1, GUEST_RAM]).0, 0);
    let vcpu: VcpuInfo = peek(&dom0, GUEST_RAM);
    assert_eq!((vcpu.affinity, vcpu.soft_affinity), (1, 1), "pCPUs that are not there are no part of it");
}

#[test]
fn a_vcpu_is_said_to_stand_as_what_holds_it_has_it() {
    let (mut world, dom0) = World::new();
    let (_, domain) = create(&mut world, &dom0);
    let vcpu = &domain.vcpus()[0];
    for (state, held, said) in [
        (Runstate::Running, 0, VcpuState::Running),
        (Runstate::Running, PAUSED, VcpuState::Running),
        (Runstate::Runnable, 0, VcpuState::Ready),
        (Runstate::Offline, CAPPED, VcpuState::Ready),
        (Runstate::Offline, OFFLINE | PAUSED, VcpuState::Offline),
        (Runstate::Blocked, BLOCKED, VcpuState::Blocked),
        (Runstate::Offline, BLOCKED | SERVED, VcpuState::Blocked),
        (Runstate::Offline, BLOCKED | PAUSED, VcpuState::Paused),
        (Runstate::Offline, STOPPED, VcpuState::Paused),
    ] {
        vcpu.take_back(u32::MAX);
        vcpu.add_reasons(held);
        vcpu.run.lock().enter(state, Fake::now());
        assert_eq!(vcpu_info(vcpu).state, said.raw(), "{state:?}, held for {held:#b}");
    }
}

#[test]
fn a_domain_whose_capability_finds_no_room_is_not_made() {
    let (mut world, dom0) = World::new();
    let caps = dom0.caps.clone().unwrap();
    while caps.add(dom0.clone()).is_ok() {}
    let free = Fake::frames().free_pages();
    poke(&dom0, GUEST_RAM, &DomainParams { vcpus: 64, max_pages: 64, ..DomainParams::default() });
    assert_eq!(control(&mut world, &dom0, Op::DomainCreate, &[0, GUEST_RAM]).0, XenError::NoSpc as i64);
    assert_eq!(Fake::frames().free_pages(), free);
    assert!(world.kernel.domains.at_or_after(hypercall_abi::ids::DomId(1)).is_none());
    assert_eq!(control(&mut world, &dom0, Op::DomainLookup, &[0, 0]).0, XenError::NoSpc as i64);
    (1..MAX_DOMAINS as u64).for_each(|cap| caps.remove(cap).unwrap());
}

#[test]
fn parameters_that_no_domain_can_have_are_refused() {
    let (mut world, dom0) = World::new();
    let good = DomainParams { vcpus: 1, max_pages: 8, ..DomainParams::default() };
    for bad in [
        DomainParams { vcpus: 0, ..good },
        DomainParams { vcpus: 65, ..good },
        DomainParams { flags: 2, ..good },
        DomainParams { flags: u32::MAX, ..good },
    ] {
        poke(&dom0, GUEST_RAM, &bad);
        assert_eq!(control(&mut world, &dom0, Op::DomainCreate, &[0, GUEST_RAM]).0, XenError::Inval as i64);
    }
    assert_eq!(control(&mut world, &dom0, Op::DomainCreate, &[0, u64::MAX]).0, XenError::Fault as i64);
    // The largest numbers are limits that are never reached, not sums that overflow.
    let max = u32::MAX;
    poke(&dom0, GUEST_RAM, &DomainParams { max_pages: u64::MAX, max_grant_frames: max, max_ports: max, ..good });
    let (x0, cap, _) = control(&mut world, &dom0, Op::DomainCreate, &[0, GUEST_RAM]);
    assert_eq!(x0, 0);
    assert_eq!(control(&mut world, &dom0, Op::DomainMaxPages, &[cap, u64::MAX]).0, 0);
    assert_eq!(control(&mut world, &dom0, Op::DomainDestroy, &[cap]).0, 0);
}

#[test]
fn nobody_destroys_the_ground_under_its_own_feet() {
    let (mut world, dom0) = World::new();
    let (x0, own, domid) = control(&mut world, &dom0, Op::DomainLookup, &[0, 0]);
    assert_eq!((x0, domid), (0, 0));
    assert_eq!(control(&mut world, &dom0, Op::DomainDestroy, &[own]).0, XenError::Inval as i64);
    assert!(!dom0.is_dying());
    assert_eq!(control(&mut world, &dom0, Op::CapDrop, &[own]).0, 0);
    assert_eq!(control(&mut world, &dom0, Op::CapDrop, &[own]).0, PERM);
    assert_eq!(control(&mut world, &dom0, Op::CapDrop, &[0]).0, PERM, "the machine's stays");
}

#[test]
fn a_lookup_finds_the_next_live_domain() {
    let (mut world, dom0) = World::new();
    let guests = [world.domain(1), world.domain(1), world.domain(1)];
    world.destroy(&guests[1]);
    for (from, found) in [(0, Some(0)), (1, Some(1)), (2, Some(3)), (3, Some(3)), (4, None), (65535, None)] {
        let (x0, _, domid) = control(&mut world, &dom0, Op::DomainLookup, &[0, from]);
        assert_eq!((x0 == 0).then_some(domid), found, "from {from}");
    }
    assert_eq!(control(&mut world, &dom0, Op::DomainLookup, &[0, 1 << 16]).0, XenError::Srch as i64);
}

#[test]
fn an_emulated_device_needs_a_range_of_its_own_and_a_port() {
    let (mut world, dom0) = World::new();
    let (cap, _domain) = create(&mut world, &dom0);
    let mut serve = |at, size, port| control(&mut world, &dom0, Op::IoServe, &[cap, at, size, port]).0;
    assert_eq!(serve(0x2200_0000, 0x1000, 1), XenError::Inval as i64, "there is no port yet");
    assert_eq!(control(&mut world, &dom0, Op::PortAlloc, &[cap, 0]), (0, 1, 0));
    assert_eq!(control(&mut world, &dom0, Op::PortAlloc, &[cap, 1 << 16]).0, XenError::Inval as i64);
    let mut serve = |at, size, port| control(&mut world, &dom0, Op::IoServe, &[cap, at, size, port]).0;
    assert_eq!(serve(0x2200_0000, 0, 1), XenError::Inval as i64);
    assert_eq!(serve(u64::MAX, 2, 1), XenError::Inval as i64);
    assert_eq!(serve(0x2200_0000, 0x1000, 1), 0);
    for (at, size) in [(0x2200_0FFF, 1), (0x2200_0000, 0x1000), (0x21FF_F000, 0x1001), (0, u64::MAX)] {
        assert_eq!(serve(at, size, 1), XenError::Exist as i64, "{at:#x}");
    }
    for n in 1..16 {
        assert_eq!(serve(0x3000_0000 + 0x1000 * n, 0x1000, 1), 0);
    }
    assert_eq!(serve(0x4000_0000, 0x1000, 1), XenError::NoSpc as i64);
    for (op, args) in [(Op::IoNext, [cap, 1, 0, GUEST_RAM]), (Op::IoAnswer, [cap, 1, 7, 0])] {
        assert_eq!(control(&mut world, &dom0, op, &args).0, XenError::NoEnt as i64, "nobody waits");
    }
    for irq in [0, 31, 32, 63, 1020, u64::MAX] {
        assert_eq!(control(&mut world, &dom0, Op::IrqLevel, &[cap, irq, 1]).0, 0, "{irq}");
    }
}

#[test]
fn a_domain_is_told_what_time_it_was_when_its_counter_was_zero() {
    let (mut world, dom0) = World::new();
    let (cap, domain) = create(&mut world, &dom0);
    let start = (1 << 32 | 7) * 1_000_000_000 + 123;
    let since = nanoseconds::<Fake>(Fake::now() - domain.counter_offset);
    assert_eq!(control(&mut world, &dom0, Op::WallClock, &[cap, start + since]).0, 0);
    let at = |offset: usize| <Fake as crate::hw::Memory>::load32(domain.shared_info.pa().add(offset as u64));
    let (version, nanoseconds) = (at(layout::WC_VERSION), at(layout::WC_NSEC));
    assert_eq!((version, at(layout::WC_SEC), nanoseconds, at(layout::WC_SEC_HI)), (0, 7, 123, 1));
}

#[test]
fn the_holder_of_the_machine_maps_registers_but_neither_ram_nor_the_gic() {
    let (mut world, dom0) = World::new();
    let at = |start, size| Range { start: Pa::new(start), size };
    let machine = Machine {
        ram: heapless::Vec::from_iter([at(0x8000_0000, 0x1000_0000)]),
        gicd: at(0x800_0000, 0x1_0000),
        gicr: heapless::Vec::from_iter([at(0x80a_0000, 0x2_0000), at(0x90_0000_0000, 0x2_0000)]),
        ..Machine::default()
    };
    world.kernel.machine.call_once(|| machine);
    let mut map = |start, pages| control(&mut world, &dom0, Op::DeviceMap, &[0, start, pages]).0;
    assert_eq!(map(0x900_0000, 1), 0);
    assert_eq!(map(0x900_0000, 1), XenError::Exist as i64);
    assert_eq!(map(0x10_0000_0000, 1 << 20), 0, "a window of PCI");
    for (start, pages) in [(0x8000_0000, 1), (0x7fff_f000, 2), (0x800_0000, 1), (0x90_0000_1000, 1), (0x1000, 0)] {
        assert_eq!(map(start, pages), PERM, "{start:#x}");
    }
    assert_eq!(map(0x900_2800, 1), XenError::Inval as i64);
    assert_eq!(map(0x900_2000, u64::MAX), XenError::Inval as i64);
    assert_eq!(map(u64::MAX - 0xfff, 2), PERM);
    let mapping = dom0.p2m.lookup(Ipa::new(0x900_0000)).expect("it is mapped");
    assert_eq!((mapping.pa, mapping.kind), (Pa::new(0x900_0000), MapKind::Device));
}

#[test]
fn the_log_is_read_in_parts_by_the_holder_of_the_machine() {
    let (mut world, dom0) = World::new();
    world.kernel.log(format_args!("{}", "x".repeat(588)));
    assert_eq!(control(&mut world, &dom0, Op::ConsoleRead, &[0, 0, GUEST_RAM, 1000]), (0, 600, 600));
    assert_eq!(peek::<[u8; 12]>(&dom0, GUEST_RAM), *b"(xenolith) x");
    assert_eq!(control(&mut world, &dom0, Op::ConsoleRead, &[0, 590, GUEST_RAM, 5]), (0, 595, 5));
    assert_eq!(control(&mut world, &dom0, Op::ConsoleRead, &[0, 600, u64::MAX, u64::MAX]), (0, 600, 0));
    assert_eq!(control(&mut world, &dom0, Op::ConsoleRead, &[0, 0, u64::MAX, 1]).0, XenError::Fault as i64);
    assert_eq!(control(&mut world, &dom0, Op::Power, &[0, 2]).0, XenError::Inval as i64);
}
