//! Tests of the life of a domain: what its making and its end leave behind.

use hypercall_abi::control::{DomainParams, STATE_DYING, STATE_SHUTDOWN};
use hypercall_abi::ids::{GrantRef, Port};

use super::*;
use crate::addr::PAGE_SIZE;
use crate::evtchn;
use crate::fake::{Fake, GUEST_RAM, Shared, World, params, peek, poke, pretend, with};
use crate::frame::FrameKind;
use crate::hw::PcpuId;
use crate::kernel::MAX_VCPUS_TOTAL;
use crate::sched::Alarm;

fn free_frames() -> u64 {
    Fake::frames().free_pages()
}

/// vCPUs that can still be made.
fn vcpus_left() -> usize {
    MAX_VCPUS_TOTAL - Fake::frames().vcpus.load(Ordering::Relaxed)
}

/// What going to sleep does for a vCPU with a timer.
fn set_alarm(kernel: &Kernel<Fake>, domain: &Shared<Domain<Fake>>, n: usize, at: u64) {
    let vcpu = &domain.vcpus()[n];
    vcpu.run.lock().alarm = at;
    kernel.sched.queues(PcpuId(0)).alarms.set(at, Alarm::Vcpu(vcpu.clone()));
}

#[test]
fn a_domain_that_cannot_be_made_for_want_of_frames_leaves_nothing_at_any_step() {
    let (world, _dom0) = World::new();
    let kernel = world.kernel;
    let plan = DomainParams { vcpus: 3, nr_spis: 988, ..params(4) };
    let (frames, vcpus) = (free_frames(), vcpus_left());
    let made = kernel.create(&plan, Some(GicLayout::of_guest(None))).unwrap();
    let needed = frames - free_frames();
    assert!(destroy(kernel, &made));
    drop(made);
    assert_eq!(free_frames(), frames);
    // Everything but `left` frames is somebody else's.
    let mut others: Vec<_> = core::iter::from_fn(|| Fake::frames().alloc(DomId(77), FrameKind::Ram, 1).ok()).collect();
    let mut failures = 0;
    for left in 0..=2 * needed {
        assert_eq!(free_frames(), left);
        match kernel.create(&plan, Some(GicLayout::of_guest(None))) {
            Err(error) => {
                assert_eq!(error, XenError::NoMem);
                failures += 1;
            }
            Ok(domain) => {
                assert!(destroy(kernel, &domain));
            }
        }
        assert_eq!(free_frames(), left, "frames after a failure with {left} left");
        assert_eq!(vcpus_left(), vcpus, "vCPUs after a failure with {left} left");
        Fake::frames().put(others.pop().unwrap());
    }
    assert!(failures >= needed, "each of the {needed} frames can be the one that is missing");
    assert!(kernel.domains.at_or_after(DomId(1)).is_none());
}

#[test]
fn a_domain_needs_between_one_and_sixty_four_vcpus_and_room_for_them_all() {
    let (world, _dom0) = World::new();
    let kernel = world.kernel;
    for vcpus in [0, 65, u32::MAX] {
        assert_eq!(kernel.create(&DomainParams { vcpus, ..params(1) }, None).err(), Some(XenError::Inval));
    }
    assert_eq!(vcpus_left(), MAX_VCPUS_TOTAL - 1, "dom0 has one");
    Fake::frames().vcpus.fetch_add(MAX_VCPUS_TOTAL - 4, Ordering::Relaxed);
    assert_eq!(kernel.create(&DomainParams { vcpus: 4, ..params(1) }, None).err(), Some(XenError::NoSpc));
    assert_eq!(vcpus_left(), 3, "the three that were free are so again");
    assert!(kernel.create(&DomainParams { vcpus: 3, ..params(1) }, None).is_ok());
}

#[test]
fn an_id_is_not_used_again_while_its_domain_is_known_and_ids_grow() {
    let (world, dom0) = World::new();
    let kernel = world.kernel;
    let first = kernel.create(&params(1), None).unwrap();
    let mut last = first.id;
    for _ in 0..3 * crate::domain::MAX_DOMAINS {
        let domain = kernel.create(&params(1), None).unwrap();
        assert!(domain.id > last && domain.id != first.id && domain.id != dom0.id);
        last = domain.id;
        assert!(destroy(kernel, &domain));
        assert!(kernel.domains.get(domain.id).is_none());
    }
    assert!(Fake::same(&kernel.domains.get(first.id).unwrap(), &first));
    assert_eq!(kernel.domains.at_or_after(DomId(1)).unwrap().id, first.id);
}

#[test]
fn a_domain_gives_back_every_frame_though_its_peers_hold_on_to_it() {
    let (mut world, dom0) = World::new();
    let kernel = world.kernel;
    let free = free_frames();
    let domain = world.domain_like(&DomainParams { vcpus: 4, ..params(64) }, 64);
    // A channel to Dom0, a grant that Dom0 maps, a page that the vCPU's record pins.
    let port = crate::fake::open_port(&domain, dom0.id);
    poke(
        &dom0,
        GUEST_RAM,
        &hypercall_abi::evtchn::BindInterdomain { remote_dom: domain.id, remote_port: port, ..Default::default() },
    );
    assert_eq!(world.call(&dom0, hypercall_abi::nr::EVENT_CHANNEL_OP, &[0, GUEST_RAM]), 0);
    crate::grant::seed(&domain, GrantRef(1), hypercall_abi::ids::Gfn(GUEST_RAM / PAGE_SIZE + 3), dom0.id).unwrap();
    let map = hypercall_abi::grant::MapGrantRef {
        host_addr: 0x8000_0000,
        flags: hypercall_abi::grant::GNTMAP_HOST_MAP,
        gref: GrantRef(1),
        dom: domain.id,
        ..Default::default()
    };
    poke(&dom0, GUEST_RAM, &map);
    assert_eq!(world.call(&dom0, hypercall_abi::nr::GRANT_TABLE_OP, &[0, GUEST_RAM, 1]), 0);
    let handle = peek::<hypercall_abi::grant::MapGrantRef>(&dom0, GUEST_RAM).handle;
    let record = hypercall_abi::vcpu::RegisterVcpuInfo {
        mfn: hypercall_abi::ids::Gfn(GUEST_RAM / PAGE_SIZE + 5),
        ..Default::default()
    };
    poke(&domain, GUEST_RAM, &record);
    let vcpu_op = hypercall_abi::nr::VCPU_OP;
    assert_eq!(world.call(&domain, vcpu_op, &[10, 1, GUEST_RAM]), 0);
    set_alarm(kernel, &domain, 2, 1 << 40);
    poke(&domain, GUEST_RAM, &hypercall_abi::sched::Watchdog { id: 0, timeout: 100 });
    assert_eq!(world.call(&domain, hypercall_abi::nr::SCHED_OP, &[6, GUEST_RAM]), 1);

    world.destroy(&domain);
    assert_eq!(domain.life(), (STATE_DYING, 0));
    assert_eq!(evtchn::send(kernel, &dom0, Port(1)), Ok(()), "dom0's end waits for nobody");
    drop(domain);
    let unmap = hypercall_abi::grant::UnmapGrantRef { host_addr: 0x8000_0000, handle, ..Default::default() };
    poke(&dom0, GUEST_RAM, &unmap);
    assert_eq!(world.call(&dom0, hypercall_abi::nr::GRANT_TABLE_OP, &[1, GUEST_RAM, 1]), 0);
    // What is left is Dom0's own: a frame of ports, tables of its stage 2.
    let own = free - free_frames();
    assert!(own <= 8, "{own} frames are gone");
    assert_eq!(vcpus_left(), MAX_VCPUS_TOTAL - 1);
    let before = free_frames();
    let domain = world.domain(64);
    world.destroy(&domain);
    drop(domain);
    assert_eq!(free_frames(), before);
}

#[test]
fn a_domain_is_not_taken_apart_while_a_vcpu_of_it_is_on_a_pcpu() {
    let (mut world, _dom0) = World::new();
    let domain = world.domain(4);
    let vcpu = &domain.vcpus()[0];
    pretend(vcpu, Some(PcpuId(1)));
    let free = free_frames();
    for _ in 0..3 {
        assert!(!destroy(world.kernel, &domain));
    }
    assert!(domain.is_dying() && vcpu.held() & STOPPED != 0);
    assert!(with(|s| s.kicks.contains(&PcpuId(1))), "its pCPU is told to let go");
    assert_eq!(free_frames(), free);
    pretend(vcpu, None);
    world.destroy(&domain);
}

#[test]
fn what_is_still_known_of_a_dead_domain_does_not_reach_who_came_after_it() {
    let (mut world, _dom0) = World::new();
    let kernel = world.kernel;
    let dead = world.domain(4);
    world.destroy(&dead);
    let heir = world.domain(4);
    set_alarm(kernel, &heir, 0, 12345);
    let left = vcpus_left();
    assert!(destroy(kernel, &dead), "through a capability that outlived it");
    assert_eq!(vcpus_left(), left);
    assert_eq!(kernel.sched.queues(PcpuId(0)).alarms.earliest(), Some(12345), "the heir's alarm stands");
    assert!(kernel.domains.get(heir.id).is_some());
}

#[test]
fn pauses_are_counted_and_never_below_none() {
    let (world, _dom0) = World::new();
    let domain = world.kernel.create(&params(1), None).unwrap();
    let paused = || domain.vcpus()[0].held() & PAUSED != 0;
    assert!(paused(), "a domain is born paused once");
    world.kernel.pause(&domain).unwrap();
    world.kernel.unpause(&domain).unwrap();
    assert!(paused());
    world.kernel.unpause(&domain).unwrap();
    assert!(!paused());
    assert_eq!(world.kernel.unpause(&domain), Err(XenError::Inval));
    assert!(!paused());
    *domain.pauses.lock() = u32::MAX;
    assert_eq!(world.kernel.pause(&domain), Err(XenError::Overflow));
}

#[test]
fn a_domain_that_has_shut_down_can_only_die() {
    let (mut world, _dom0) = World::new();
    let domain = world.domain(1);
    shutdown(world.kernel, &domain, ShutdownReason::Crash);
    shutdown(world.kernel, &domain, ShutdownReason::Poweroff);
    assert_eq!(domain.life(), (STATE_SHUTDOWN, 3));
    world.destroy(&domain);
    shutdown(world.kernel, &domain, ShutdownReason::Poweroff);
    assert_eq!(domain.life(), (STATE_DYING, 0));
}
