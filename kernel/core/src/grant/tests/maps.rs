//! Mapping and unmapping.

use crate::hw::Memory;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{GNTMAP_CONTAINS_PTE, GNTMAP_DEVICE_MAP, GTF_READING, GTF_WRITING, SwapGrantRef};

use super::*;
use crate::fake;

#[test]
fn a_mapped_page_is_the_granters_and_shows_as_such() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    let done = t.map_with(8, 0, GNTMAP_HOST_MAP);
    let frame = page(&t.a, 3);
    assert_eq!((done.status, done.dev_bus_addr), (OKAY, frame.raw()));
    assert_eq!(t.touch(0, Access::Write), Some(frame));
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    assert_eq!(Fake::frames().references(frame), 2);
    assert_eq!(t.unmap(done.handle, 0), OKAY);
    assert_eq!(t.touch(0, Access::Read), None);
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS);
    assert_eq!(Fake::frames().references(frame), 1);
    assert_eq!(t.unmap(done.handle, 0), GrantStatus::BadHandle.raw());
}

#[test]
fn a_grant_to_read_is_not_mapped_to_write() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, true);
    assert_eq!(t.map(8, 0, true), Err(GrantStatus::GeneralError.raw()));
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS | GTF_READONLY);
    let handle = t.map(8, 0, false).unwrap();
    assert_eq!(t.touch(0, Access::Write), None);
    assert_eq!(t.touch(0, Access::Read), Some(page(&t.a, 3)));
    assert_eq!(t.map(8, 1, true), Err(GrantStatus::GeneralError.raw()), "nor through an entry in use");
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS | GTF_READONLY | GTF_READING);
    assert_eq!(t.unmap(handle, 0), OKAY);
}

#[test]
fn reading_and_writing_are_shown_apart() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    let reader = t.map(8, 0, false).unwrap();
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS | GTF_READING);
    let writer = t.map(8, 1, true).unwrap();
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    t.unmap(writer, 1);
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS | GTF_READING);
    t.unmap(reader, 0);
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS);
}

#[test]
fn requests_that_make_no_sense_fail_and_cost_nothing() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    grant(&t.a, 9, 3, DomId(99), false);
    grant(&t.a, 10, 500, t.b.id, false);
    let warm = t.map(8, 0, true).unwrap();
    t.unmap(warm, 0);
    let free = Fake::frames().free_pages();
    let good = MapGrantRef {
        host_addr: SLOTS,
        flags: GNTMAP_HOST_MAP,
        gref: GrantRef(8),
        dom: t.a.id,
        ..MapGrantRef::default()
    };
    for (arg, status) in [
        (MapGrantRef { flags: GNTMAP_READONLY, ..good }, GrantStatus::BadGntRef),
        (MapGrantRef { flags: GNTMAP_HOST_MAP | GNTMAP_CONTAINS_PTE, ..good }, GrantStatus::GeneralError),
        (MapGrantRef { flags: GNTMAP_DEVICE_MAP, ..good }, GrantStatus::GeneralError),
        (MapGrantRef { host_addr: SLOTS + 1, ..good }, GrantStatus::BadVirtAddr),
        (MapGrantRef { host_addr: 1 << 40, ..good }, GrantStatus::BadVirtAddr),
        (MapGrantRef { host_addr: !0xFFF, ..good }, GrantStatus::BadVirtAddr),
        (MapGrantRef { host_addr: GUEST_RAM + PAGE_SIZE, ..good }, GrantStatus::GeneralError),
        (MapGrantRef { dom: DomId(99), ..good }, GrantStatus::BadDomain),
        (MapGrantRef { dom: DomId::SELF, ..good }, GrantStatus::BadDomain),
        (MapGrantRef { gref: GrantRef(512), ..good }, GrantStatus::BadGntRef),
        (MapGrantRef { gref: GrantRef(u32::MAX), ..good }, GrantStatus::BadGntRef),
        (MapGrantRef { gref: GrantRef(7), ..good }, GrantStatus::GeneralError),
        (MapGrantRef { gref: GrantRef(9), ..good }, GrantStatus::GeneralError),
        (MapGrantRef { gref: GrantRef(10), ..good }, GrantStatus::BadPage),
    ] {
        let (x0, done) = t.one(GrantOp::MapGrantRef, &arg);
        assert_eq!((x0, done.status), (0, status.raw()), "{arg:?}");
        assert_eq!(Fake::frames().free_pages(), free);
    }
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS);
    assert_eq!(flags(&t.a, 10), GTF_PERMIT_ACCESS, "the flag goes when the page turns out bad");
}

#[test]
fn a_page_that_is_not_the_granters_own_ram_cannot_be_granted() {
    let mut t = pair();
    // A grants its grant table's page, and a page of B that it has mapped.
    let table = frame_to_map(&t.a, 0, Gfn(FIRST)).unwrap();
    t.a.p2m.map(crate::addr::Ipa::new(SLOTS), table, 1, crate::p2m::MapKind::Shared).unwrap();
    grant(&t.a, 8, SLOTS / PAGE_SIZE - FIRST, t.b.id, false);
    assert_eq!(t.map(8, 0, true), Err(GrantStatus::BadPage.raw()));
}

#[test]
fn an_unmap_names_handle_and_place() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    let handle = t.map(8, 0, true).unwrap();
    assert_eq!(t.unmap(handle, 1), GrantStatus::GeneralError.raw());
    for wrong in [1, 127, 128, u32::MAX] {
        assert_eq!(t.unmap(GrantHandle(wrong), 0), GrantStatus::BadHandle.raw());
    }
    let nothing = UnmapGrantRef { handle, ..UnmapGrantRef::default() };
    assert_eq!(t.one(GrantOp::UnmapGrantRef, &nothing).1.status, OKAY);
    assert!(t.touch(0, Access::Write).is_some(), "a zero address is ignored");
    assert_eq!(t.unmap(handle, 0), OKAY);
}

#[test]
fn a_granter_that_changes_its_entry_for_ever_grants_nothing_but_harms_nobody() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    let at = entry(&t.a, 8);
    let word = Fake::load32(at);
    let churn = (0..100).map(|n| if n % 2 == 0 { word | 1 << 10 } else { word }).collect();
    fake::with(|s| s.interference.insert(at.raw(), churn));
    assert_eq!(t.map(8, 0, true), Err(GrantStatus::GeneralError.raw()));
    fake::with(|s| s.interference.clear());
    assert!(t.map(8, 0, true).is_ok());
}

#[test]
fn a_grant_that_is_withdrawn_at_the_last_moment_is_not_used() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    let at = entry(&t.a, 8);
    fake::with(|s| s.interference.insert(at.raw(), [0].into()));
    assert_eq!(t.map(8, 0, true), Err(GrantStatus::GeneralError.raw()));
    assert_eq!(flags(&t.a, 8), 0);
}

#[test]
fn batches_go_in_rounds_and_each_operation_has_its_status() {
    let mut t = pair();
    let count = 100u64;
    for n in 0..count {
        grant(&t.a, 8 + u32::try_from(n).unwrap(), n % 16, t.b.id, false);
    }
    let at = GUEST_RAM + 2 * PAGE_SIZE - 16;
    for n in 0..count {
        let arg = MapGrantRef {
            host_addr: SLOTS + n * PAGE_SIZE,
            flags: GNTMAP_HOST_MAP,
            gref: GrantRef(if n == 50 { 7 } else { 8 + u32::try_from(n).unwrap() }),
            dom: t.a.id,
            ..MapGrantRef::default()
        };
        poke(&t.b, at + n * 32, &arg);
    }
    assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[0, at, count]), 0);
    assert!(t.world.rounds > 1);
    for n in 0..count {
        let done: MapGrantRef = peek(&t.b, at + n * 32);
        assert_eq!(done.status == OKAY, n != 50);
        assert_eq!(t.touch(n, Access::Write), (n != 50).then(|| page(&t.a, n % 16)));
        let arg = UnmapGrantRef { host_addr: done.host_addr, handle: done.handle, ..UnmapGrantRef::default() };
        poke(&t.b, GUEST_RAM + 8 * PAGE_SIZE + n * 24, &arg);
    }
    fake::with(|s| s.counts = fake::Counts::default());
    let at = GUEST_RAM + 8 * PAGE_SIZE;
    assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[1, at, count]), 0);
    assert!(fake::with(|s| s.counts.invalidations) <= 16, "neighbours share an invalidation");
    for n in 0..count {
        // The handle of the operation that failed was left at zero, which by then was gone.
        let status = if n == 50 { GrantStatus::BadHandle.raw() } else { OKAY };
        assert_eq!(peek::<UnmapGrantRef>(&t.b, at + n * 24).status, status);
        assert_eq!(t.touch(n, Access::Read), None);
        assert_eq!(Fake::frames().references(page(&t.a, n % 16)), 1);
    }
}

#[test]
fn an_array_that_cannot_be_walked_is_a_fault() {
    let mut t = pair();
    for (at, count) in [(0, 1), (u64::MAX - 3, 1), (GUEST_RAM + 16 * PAGE_SIZE, 1), (SLOTS, 5)] {
        for command in [0, 1, 5, 7, 11] {
            let x0 = t.world.call(&t.b, GRANT_TABLE_OP, &[command, at, count]);
            assert_eq!(x0, XenError::Fault.raw(), "{command} {at:#x}");
        }
    }
    for count in [1 << 31, u64::from(u32::MAX)] {
        assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[0, GUEST_RAM, count]), XenError::Inval.raw());
    }
    assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[0, GUEST_RAM, 0]), 0);
}

#[test]
fn a_reference_is_mapped_255_times_and_not_once_more() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    assert!((0..255).all(|slot| t.map(8, slot, true).is_ok()));
    assert_eq!(t.map(8, 255, true), Err(GrantStatus::NoSpace.raw()));
    assert!(t.map(8, 255, false).is_ok(), "uses to read are counted apart");
    assert_eq!(Fake::frames().references(page(&t.a, 3)), 1 + 256);
}

#[test]
fn mapping_ends_with_the_pool_of_tables_and_leaves_no_use_behind() {
    let mut t = pair();
    // One reference is not mapped that often.
    (8..32).for_each(|gref| grant(&t.a, gref, 3, t.b.id, false));
    let gref = |n: u32| 8 + n / 200;
    // Each mapping takes a table of its own.
    let slot = |n: u32| u64::from(n) * 512;
    let mut mapped = 0;
    while t.map(gref(mapped), slot(mapped), true).is_ok() {
        mapped += 1;
    }
    assert!(mapped > 100);
    let free = Fake::frames().free_pages();
    assert_eq!(t.map(gref(mapped), slot(mapped), true), Err(GrantStatus::GeneralError.raw()));
    assert_eq!(t.touch(slot(mapped), Access::Read), None);
    assert_eq!((Fake::frames().free_pages(), Fake::frames().references(page(&t.a, 3))), (free, 1 + mapped));
}

#[test]
fn a_mapping_goes_by_its_own_handle_only() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    grant(&t.a, 9, 4, t.b.id, false);
    let handles = [t.map(8, 0, true), t.map(9, 1, true), t.map(8, 2, true)].map(Result::unwrap);
    for (slot, own) in (0..).zip(handles) {
        for other in handles.into_iter().filter(|other| *other != own) {
            assert_eq!(t.unmap(other, slot), GrantStatus::GeneralError.raw());
        }
        // The right place, but a reference that the page there does not go by.
        for gref in [7, 9, 4096, 0x7FFF] {
            let made_up = GrantHandle(gref << 16 | own.0 & 0xFFFF);
            assert!(made_up == own || t.unmap(made_up, slot) == GrantStatus::BadHandle.raw());
        }
        assert!(t.touch(slot, Access::Write).is_some());
    }
    for (slot, own) in (0..).zip(handles) {
        assert_eq!(t.unmap(own, slot), OKAY);
    }
}

#[test]
fn one_page_by_two_references_is_counted_right_whichever_name_a_mapping_goes_by() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    grant(&t.a, 9, 3, t.b.id, false);
    let handles = [t.map(8, 0, true).unwrap(), t.map(9, 1, true).unwrap()];
    // The first one goes in the name of the other's reference, which is in use, too.
    assert_eq!(t.unmap(GrantHandle(9 << 16 | handles[0].0 & 0xFFFF), 0), OKAY);
    assert_ne!(flags(&t.a, 8), GTF_PERMIT_ACCESS, "one mapping, one reference in use");
    assert_eq!(flags(&t.a, 9), GTF_PERMIT_ACCESS);
    assert_eq!(t.unmap(handles[1], 1), GrantStatus::BadHandle.raw());
    let b = t.b.clone();
    t.world.destroy(&b);
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS);
    assert_eq!(Fake::frames().references(page(&t.a, 3)), 1);
}

#[test]
fn entries_in_use_are_not_swapped() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    grant(&t.a, 9, 4, t.b.id, true);
    let swap = SwapGrantRef { ref_a: GrantRef(8), ref_b: GrantRef(9), ..SwapGrantRef::default() };
    let swapped = |t: &mut Pair| {
        let a = t.a.clone();
        poke(&a, GUEST_RAM, &swap);
        assert_eq!(t.world.call(&a, GRANT_TABLE_OP, &[11, GUEST_RAM, 1]), 0);
        peek::<SwapGrantRef>(&a, GUEST_RAM).status
    };
    let handle = t.map(8, 0, true).unwrap();
    assert_eq!(swapped(&mut t), GrantStatus::Eagain.raw());
    t.unmap(handle, 0);
    assert_eq!(swapped(&mut t), OKAY);
    assert!(t.map(8, 0, true).is_err(), "read-only now");
    assert_eq!(t.map(9, 0, true).map(|_| t.touch(0, Access::Write)), Ok(Some(page(&t.a, 3))));
}
