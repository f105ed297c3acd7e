//! Tests of `memory_op`, made as hypercalls of a guest.

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, Gfn, GuestPtr};
use hypercall_abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, DomainArg, MapSpace, MemoryOp, RemoveFromPhysmap, Reservation,
};
use hypercall_abi::nr::MEMORY_OP;
use zerocopy::{Immutable, IntoBytes};

use super::{copy_foreign, populate};
use crate::addr::{GuestVa, Ipa, PAGE_SIZE};
use crate::domain::Domain;
use crate::fake::{self, Fake, GUEST_RAM, Shared, World, frame_of, peek, poke, poke_bytes};
use crate::frame::FrameKind;
use crate::hw::{Access, Hw, Memory, Translation};
use crate::p2m::MapKind;

const LIST: u64 = GUEST_RAM + 0x800;
/// The frame number of the first page.
const FIRST: u64 = GUEST_RAM / PAGE_SIZE;
/// Somewhere without memory.
const HOLE: u64 = 0x8000_0000 / PAGE_SIZE;

fn op<T: IntoBytes + Immutable>(world: &mut World, domain: &Shared<Domain<Fake>>, op: MemoryOp, arg: &T) -> i64 {
    poke(domain, GUEST_RAM, arg);
    world.call(domain, MEMORY_OP, &[u64::from(op.raw()), GUEST_RAM])
}

fn reservation(domain: &Domain<Fake>, gfns: &[u64], order: u32) -> Reservation {
    for (n, gfn) in gfns.iter().enumerate() {
        poke(domain, LIST + n as u64 * 8, gfn);
    }
    Reservation {
        extent_start: GuestPtr(LIST),
        nr_extents: gfns.len() as u64,
        extent_order: order,
        domid: DomId::SELF,
        ..Reservation::default()
    }
}

#[test]
fn a_page_that_was_ballooned_out_can_come_back_and_is_zero() {
    let (mut world, _) = World::new();
    let domain = world.domain(8);
    let free = Fake::frames().free_pages();
    poke(&domain, GUEST_RAM + 0x3000, &0x005E_C2E7u64);
    let arg = reservation(&domain, &[FIRST + 3], 0);
    assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &arg), 1);
    assert_eq!(domain.p2m.lookup(Ipa::new(GUEST_RAM + 0x3000)), None);
    assert_eq!((domain.quota.owned(), Fake::frames().free_pages()), (7, free + 1));
    assert_eq!(op(&mut world, &domain, MemoryOp::PopulatePhysmap, &arg), 1);
    assert_eq!(peek::<u64>(&domain, GUEST_RAM + 0x3000), 0);
    assert_eq!((domain.quota.owned(), Fake::frames().free_pages()), (8, free));
}

#[test]
fn no_tlb_knows_a_page_that_was_given_back() {
    let (mut world, _) = World::new();
    let domain = world.domain(8);
    Fake::load_stage2(domain.p2m.vttbr(&world.kernel.vmids, crate::hw::PcpuId(0)));
    let hot = GuestVa::new(GUEST_RAM + 0x3000);
    assert!(Fake::translate(hot, Access::Write).is_some());
    let arg = reservation(&domain, &[FIRST + 3, FIRST + 4, FIRST + 5], 0);
    fake::with(|s| s.counts = fake::Counts::default());
    assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &arg), 3);
    assert_eq!(Fake::translate(hot, Access::Write), None);
    assert_eq!(fake::with(|s| s.counts.invalidations), 1, "one round for neighbours");
}

#[test]
fn a_page_that_someone_uses_is_not_given_back() {
    let (mut world, _) = World::new();
    let domain = world.domain(8);
    let user = domain.p2m.pin(Ipa::new(GUEST_RAM + 0x3000)).unwrap();
    let arg = reservation(&domain, &[FIRST + 2, FIRST + 3, FIRST + 4], 0);
    assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &arg), 1, "up to the page in use");
    assert!(domain.p2m.lookup(Ipa::new(GUEST_RAM + 0x3000)).is_some());
    drop(user);
    assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &reservation(&domain, &[FIRST + 3], 0)), 1);
}

#[test]
fn partial_results_are_exact() {
    let (mut world, _) = World::new();
    let domain = world.domain(8);
    for bad in [HOLE, 1 << 28, u64::MAX] {
        let arg = reservation(&domain, &[FIRST + 2, bad, FIRST + 3], 0);
        assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &arg), 1);
        assert_eq!(op(&mut world, &domain, MemoryOp::PopulatePhysmap, &arg), if bad == HOLE { 2 } else { 1 });
        op(&mut world, &domain, MemoryOp::DecreaseReservation, &reservation(&domain, &[HOLE], 0));
    }
    assert_eq!(domain.quota.owned(), 8);
}

#[test]
fn nobody_populates_beyond_the_quota_or_over_memory_that_is_there() {
    let (mut world, _) = World::new();
    let domain = world.domain(8);
    let arg = reservation(&domain, &(0..10).map(|n| HOLE + n).collect::<Vec<_>>(), 0);
    assert_eq!(op(&mut world, &domain, MemoryOp::PopulatePhysmap, &arg), 8);
    assert_eq!(domain.quota.owned(), 16);
    let (free, owned) = (Fake::frames().free_pages(), domain.quota.owned());
    domain.quota.set_max(100);
    assert_eq!(op(&mut world, &domain, MemoryOp::PopulatePhysmap, &reservation(&domain, &[FIRST], 0)), 0);
    assert_eq!((Fake::frames().free_pages(), domain.quota.owned()), (free, owned), "a refusal costs nothing");
}

#[test]
fn large_extents_are_blocks() {
    let (mut world, _) = World::new();
    let domain = world.domain(1024);
    let before = Fake::frames().tables_of(domain.id);
    let arg = reservation(&domain, &[HOLE, HOLE + 512], 9);
    assert_eq!(op(&mut world, &domain, MemoryOp::PopulatePhysmap, &arg), 2);
    assert_eq!(world.rounds, 2, "each of 512 pages is a stretch of its own");
    assert_eq!(Fake::frames().tables_of(domain.id), before + 1, "level 2 only");
    assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &arg), 2);
    assert_eq!(domain.quota.owned(), 1024);
    for (gfn, order) in [(HOLE + 1, 9), (HOLE, 10), (HOLE, u32::MAX)] {
        let arg = reservation(&domain, &[gfn], order);
        assert_eq!(op(&mut world, &domain, MemoryOp::PopulatePhysmap, &arg), 0);
    }
}

#[test]
fn a_long_list_is_done_in_rounds_and_counted_once() {
    let (mut world, _) = World::new();
    let domain = world.domain(300);
    let gfns: Vec<u64> = (1..=250).map(|n| FIRST + n).collect();
    for (n, gfn) in gfns.iter().enumerate() {
        poke(&domain, GUEST_RAM + 260 * PAGE_SIZE + n as u64 * 8, gfn);
    }
    let arg = Reservation {
        extent_start: GuestPtr(GUEST_RAM + 260 * PAGE_SIZE),
        nr_extents: 250,
        domid: DomId::SELF,
        ..Reservation::default()
    };
    assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &arg), 250);
    assert!(world.rounds > 2);
    assert_eq!(op(&mut world, &domain, MemoryOp::PopulatePhysmap, &arg), 250);
}

#[test]
fn lists_that_end_nowhere_stop_at_their_last_good_element() {
    let (mut world, _) = World::new();
    let domain = world.domain(8);
    poke(&domain, GUEST_RAM + 8 * PAGE_SIZE - 8, &(FIRST + 3));
    for (start, extents, expected) in [
        (GUEST_RAM + 8 * PAGE_SIZE - 8, 2, 1),
        (u64::MAX - 7, 2, 0),
        (HOLE * PAGE_SIZE, 1, 0),
        (LIST, u64::MAX, 0),
        (LIST, 0, 0),
    ] {
        let arg = Reservation {
            extent_start: GuestPtr(start),
            nr_extents: extents,
            domid: DomId::SELF,
            ..Reservation::default()
        };
        assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &arg), expected, "{start:#x} {extents}");
    }
}

#[test]
fn a_guest_without_the_right_does_nothing_to_others() {
    let (mut world, _) = World::new();
    let (domain, victim) = (world.domain(8), world.domain(8));
    let arg = Reservation { domid: victim.id, ..reservation(&domain, &[FIRST + 3], 0) };
    assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &arg), 0);
    assert_eq!(victim.quota.owned(), 8);
    let perm = XenError::Perm.raw();
    assert_eq!(op(&mut world, &domain, MemoryOp::CurrentReservation, &DomainArg { domid: victim.id }), perm);
    let arg = RemoveFromPhysmap { domid: victim.id, gpfn: Gfn(FIRST), ..RemoveFromPhysmap::default() };
    assert_eq!(op(&mut world, &domain, MemoryOp::RemoveFromPhysmap, &arg), perm);
}

#[test]
fn the_privileged_domain_works_on_others() {
    let (mut world, dom0) = World::new();
    let domain = world.domain(8);
    assert_eq!(op(&mut world, &dom0, MemoryOp::CurrentReservation, &DomainArg { domid: domain.id }), 8);
    assert_eq!(op(&mut world, &dom0, MemoryOp::MaximumReservation, &DomainArg { domid: domain.id }), 16);
    let highest = (FIRST + 7).cast_signed();
    assert_eq!(op(&mut world, &dom0, MemoryOp::MaximumGpfn, &DomainArg { domid: domain.id }), highest);
    let srch = XenError::Srch.raw();
    assert_eq!(op(&mut world, &dom0, MemoryOp::CurrentReservation, &DomainArg { domid: DomId(77) }), srch);
}

#[test]
fn the_shared_information_page_takes_the_place_of_ram() {
    let (mut world, _) = World::new();
    let domain = world.domain(8);
    let free = Fake::frames().free_pages();
    let arg = AddToPhysmap {
        domid: DomId::SELF,
        space: MapSpace::SharedInfo.raw(),
        gpfn: Gfn(FIRST + 3),
        ..AddToPhysmap::default()
    };
    assert_eq!(op(&mut world, &domain, MemoryOp::AddToPhysmap, &arg), 0);
    assert_eq!(frame_of(&domain, GUEST_RAM + 0x3000), domain.shared_info.pa());
    assert_eq!((domain.quota.owned(), Fake::frames().free_pages()), (7, free + 1));
    let arg = RemoveFromPhysmap { domid: DomId::SELF, gpfn: Gfn(FIRST + 3), ..RemoveFromPhysmap::default() };
    assert_eq!(op(&mut world, &domain, MemoryOp::RemoveFromPhysmap, &arg), 0);
    assert_eq!(Fake::frames().kind(domain.shared_info.pa()), FrameKind::Shared, "it outlives its mapping");
    assert_eq!(op(&mut world, &domain, MemoryOp::RemoveFromPhysmap, &arg), XenError::NoEnt.raw());
}

#[test]
fn spaces_that_a_guest_may_not_map_are_refused() {
    let (mut world, dom0) = World::new();
    let domain = world.domain(8);
    let arg =
        |space: u32, idx| AddToPhysmap { domid: DomId::SELF, space, idx, gpfn: Gfn(HOLE), ..AddToPhysmap::default() };
    for (space, idx, error) in [
        (MapSpace::SharedInfo.raw(), 1, XenError::Inval),
        (MapSpace::GrantTable.raw(), 4, XenError::Inval),
        (MapSpace::GrantTable.raw(), 0x8000_0000, XenError::Inval),
        (MapSpace::GrantTable.raw(), u64::MAX, XenError::Inval),
        (MapSpace::Gmfn.raw(), 0, XenError::NoSys),
        (MapSpace::GmfnForeign.raw(), 0, XenError::NoSys),
        (MapSpace::DevMmio.raw(), 0x9000, XenError::Acces),
        (6, 0, XenError::NoSys),
        (u32::MAX, 0, XenError::NoSys),
    ] {
        assert_eq!(op(&mut world, &domain, MemoryOp::AddToPhysmap, &arg(space, idx)), error.raw(), "{space}");
    }
    let far = AddToPhysmap { gpfn: Gfn(1 << 28), ..arg(MapSpace::SharedInfo.raw(), 0) };
    assert_eq!(op(&mut world, &dom0, MemoryOp::AddToPhysmap, &far), XenError::Inval.raw());
}

fn foreign(domain: &Domain<Fake>, owner: DomId, idx: u64, gpfn: u64) -> AddToPhysmapBatch {
    poke(domain, LIST, &idx);
    poke(domain, LIST + 8, &gpfn);
    poke(domain, LIST + 16, &-1i32);
    AddToPhysmapBatch {
        domid: DomId::SELF,
        space: u16::try_from(MapSpace::GmfnForeign.raw()).unwrap(),
        size: 1,
        foreign_domid: owner,
        idxs: GuestPtr(LIST),
        gpfns: GuestPtr(LIST + 8),
        errs: GuestPtr(LIST + 16),
    }
}

#[test]
fn foreign_memory_is_for_the_privileged_and_holds_the_page() {
    let (mut world, dom0) = World::new();
    let domain = world.domain(8);
    let page = frame_of(&domain, GUEST_RAM + 0x3000);
    let arg = foreign(&dom0, domain.id, FIRST + 3, HOLE);
    assert_eq!(op(&mut world, &dom0, MemoryOp::AddToPhysmapBatch, &arg), 0);
    assert_eq!(peek::<i32>(&dom0, LIST + 16), 0);
    assert_eq!((frame_of(&dom0, HOLE * PAGE_SIZE), Fake::frames().references(page)), (page, 2));
    world.destroy(&domain);
    assert_eq!(Fake::frames().references(page), 1, "the page outlives its owner");
    let arg = RemoveFromPhysmap { domid: DomId::SELF, gpfn: Gfn(HOLE), ..RemoveFromPhysmap::default() };
    assert_eq!(op(&mut world, &dom0, MemoryOp::RemoveFromPhysmap, &arg), 0);
    assert_eq!(Fake::frames().kind(page), FrameKind::Free);
    let guest = world.domain(8);
    let arg = foreign(&guest, dom0.id, FIRST, HOLE);
    assert_eq!(op(&mut world, &guest, MemoryOp::AddToPhysmapBatch, &arg), XenError::Perm.raw());
}

#[test]
fn each_element_of_a_batch_has_an_error_of_its_own() {
    let (mut world, dom0) = World::new();
    let domain = world.domain(8);
    let arg = foreign(&dom0, domain.id, HOLE, HOLE);
    assert_eq!(op(&mut world, &dom0, MemoryOp::AddToPhysmapBatch, &arg), 0);
    assert_eq!(i64::from(peek::<i32>(&dom0, LIST + 16)), XenError::Inval.raw());
    let arg = AddToPhysmapBatch { errs: GuestPtr(HOLE * PAGE_SIZE), ..foreign(&dom0, domain.id, FIRST, HOLE) };
    assert_eq!(op(&mut world, &dom0, MemoryOp::AddToPhysmapBatch, &arg), XenError::Fault.raw());
}

#[test]
fn unknown_commands_and_bad_pointers_are_errors() {
    let (mut world, _) = World::new();
    let domain = world.domain(8);
    for command in [8, 11, 16, 27, 63] {
        assert_eq!(world.call(&domain, MEMORY_OP, &[command, GUEST_RAM]), XenError::NoSys.raw());
    }
    for pointer in [0, HOLE * PAGE_SIZE, u64::MAX, u64::MAX - 15, GUEST_RAM + 8 * PAGE_SIZE - 31] {
        assert_eq!(world.call(&domain, MEMORY_OP, &[6, pointer]), XenError::Fault.raw(), "{pointer:#x}");
    }
}

#[test]
fn arguments_may_lie_across_pages_that_are_no_neighbours() {
    let (mut world, _) = World::new();
    let domain = world.domain(8);
    op(&mut world, &domain, MemoryOp::DecreaseReservation, &reservation(&domain, &[FIRST + 2, FIRST + 3], 0));
    op(&mut world, &domain, MemoryOp::PopulatePhysmap, &reservation(&domain, &[FIRST + 3, FIRST + 2], 0));
    let arg = reservation(&domain, &[FIRST + 5], 0);
    poke(&domain, GUEST_RAM + 0x3000 - 13, &arg);
    assert_eq!(world.call(&domain, MEMORY_OP, &[1, GUEST_RAM + 0x3000 - 13]), 1);
}

#[test]
fn memory_for_a_new_domain_comes_in_blocks_zeroed_and_clean() {
    let (mut world, _) = World::new();
    let domain = world.domain(2048);
    let cleaned = fake::with(|s| s.counts.cleaned);
    let at = Ipa::new(0x8000_0000 - 2 * PAGE_SIZE);
    assert_eq!(populate(&domain, at, 1026), (1026, Ok(())));
    assert_eq!(fake::with(|s| s.counts.cleaned) - cleaned, 1026 * PAGE_SIZE);
    assert_eq!(domain.p2m.lookup(Ipa::new(0x8000_0000)).map(|m| m.kind), Some(MapKind::Ram));
    assert_eq!(frame_of(&domain, 0x8020_0000).raw() % (2 << 20), 0);
    assert_eq!(populate(&domain, at, 1), (0, Err(XenError::Exist)));
    assert_eq!(populate(&domain, Ipa::new(0x1_0000_0000), 2048), (1022, Err(XenError::NoMem)), "the quota's end");
    assert_eq!(populate(&domain, Ipa::new(1 << 40), 1), (0, Err(XenError::Inval)));
    assert_eq!(populate(&domain, Ipa::new(0x1001), 1), (0, Err(XenError::Inval)));
}

#[test]
fn memory_that_was_zeroed_ahead_is_given_as_it_is_and_what_a_domain_leaves_is_zeroed_again() {
    let (mut world, _) = World::new();
    let domain = world.domain(8);
    domain.quota.set_max(1024);
    let cleaned = || fake::with(|s| s.counts.cleaned);
    let be_idle = || {
        let before = cleaned();
        while Fake::frames().scrub::<Fake>() {}
        cleaned() - before
    };
    let (total, _) = Fake::frames().pages();
    assert_eq!(be_idle(), total / 4 * PAGE_SIZE);
    assert_eq!(be_idle(), 0);
    let (before, at) = (cleaned(), HOLE * PAGE_SIZE);
    assert_eq!(populate(&domain, Ipa::new(at), 512), (512, Ok(())));
    assert_eq!(cleaned(), before, "it is clean");
    assert_eq!(peek::<u64>(&domain, at), 0);
    let secret = at + 300 * PAGE_SIZE;
    poke(&domain, secret, &0x005E_C2E7u64);
    let pa = frame_of(&domain, secret);
    let arg = reservation(&domain, &[HOLE], 9);
    assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &arg), 1);
    assert_eq!(Fake::load64(pa), 0x005E_C2E7, "nobody has been idle");
    assert_eq!(op(&mut world, &domain, MemoryOp::PopulatePhysmap, &arg), 1);
    assert_eq!(peek::<u64>(&domain, secret), 0);
    assert_eq!(op(&mut world, &domain, MemoryOp::DecreaseReservation, &arg), 1);
    assert_ne!(be_idle(), 0);
    assert_eq!(Fake::load64(pa), 0);
}

#[test]
fn builders_copy_across_pages_and_say_how_far_they_came() {
    let (mut world, dom0) = World::new();
    let domain = world.domain(4);
    // A hole between the caller's pages.
    op(&mut world, &dom0, MemoryOp::DecreaseReservation, &reservation(&dom0, &[FIRST + 4], 0));
    let text: Vec<u8> = (0..6000u32).map(|n| n.to_le_bytes()[0]).collect();
    poke_bytes(&dom0, GUEST_RAM + 0x1800, &text);
    let (from, to) = (GuestVa::new(GUEST_RAM + 0x1800), Ipa::new(GUEST_RAM + 0x123));
    assert_eq!(copy_foreign(&dom0, from, &domain, to, 6000, Access::Write), (6000, Ok(())));
    assert_eq!(peek::<[u8; 6000]>(&domain, GUEST_RAM + 0x123)[..], text[..]);
    let back = GuestVa::new(GUEST_RAM + 0x5000);
    assert_eq!(copy_foreign(&dom0, back, &domain, to, 6000, Access::Read), (6000, Ok(())));
    assert_eq!(peek::<[u8; 6000]>(&dom0, GUEST_RAM + 0x5000)[..], text[..]);
    let late = GuestVa::new(GUEST_RAM + 0x4000 - 100);
    assert_eq!(copy_foreign(&dom0, late, &domain, to, 200, Access::Write), (100, Err(XenError::Fault)));
    let end = Ipa::new(GUEST_RAM + 0x4000 - 50);
    assert_eq!(copy_foreign(&dom0, from, &domain, end, 200, Access::Write), (50, Err(XenError::NoEnt)));
    assert_eq!(copy_foreign(&dom0, from, &domain, Ipa::new(u64::MAX), 2, Access::Write), (0, Err(XenError::Fault)));
}
