//! Set-up, size, version, and what is not there.

use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{
    CacheFlush, GNTTAB_CACHE_CLEAN, GNTTAB_CACHE_INVAL, GNTTAB_CACHE_SOURCE_GREF, GetVersion, QuerySize, SetVersion,
    SetupTable,
};
use hypercall_abi::ids::GuestPtr;
use hypercall_abi::memory::{AddToPhysmap, MapSpace};
use hypercall_abi::nr::MEMORY_OP;

use super::*;
use crate::fake;

#[test]
fn the_table_grows_by_mapping_and_by_set_up() {
    let mut t = pair();
    let tables = Fake::frames().tables_of(t.b.id) as u64;
    let before = t.b.quota.kernel() - tables;
    let arg = AddToPhysmap {
        domid: DomId::SELF,
        space: MapSpace::GrantTable.raw(),
        idx: 1,
        gpfn: Gfn(SLOTS / PAGE_SIZE),
        ..AddToPhysmap::default()
    };
    poke(&t.b, GUEST_RAM, &arg);
    assert_eq!(t.world.call(&t.b, MEMORY_OP, &[7, GUEST_RAM]), 0);
    let size = QuerySize { dom: DomId::SELF, ..QuerySize::default() };
    let done = t.one(GrantOp::QuerySize, &size).1;
    assert_eq!((done.nr_frames, done.max_nr_frames, done.status), (2, 4, OKAY));
    let list = GUEST_RAM + PAGE_SIZE;
    let setup = SetupTable { dom: DomId::SELF, nr_frames: 3, frame_list: GuestPtr(list), ..SetupTable::default() };
    assert_eq!(t.one(GrantOp::SetupTable, &setup).1.status, OKAY);
    assert_eq!(peek::<[u64; 3]>(&t.b, list), [u64::MAX, SLOTS / PAGE_SIZE, u64::MAX]);
    let setup = SetupTable { nr_frames: 5, ..setup };
    assert_eq!(t.one(GrantOp::SetupTable, &setup).1.status, GrantStatus::GeneralError.raw());
    let setup = SetupTable { dom: t.a.id, ..setup };
    assert_eq!(t.one(GrantOp::SetupTable, &setup).1.status, GrantStatus::PermissionDenied.raw());
    let setup = SetupTable { dom: DomId(99), ..setup };
    assert_eq!(t.one(GrantOp::SetupTable, &setup).1.status, GrantStatus::BadDomain.raw());
    let tables = Fake::frames().tables_of(t.b.id) as u64;
    assert_eq!(t.b.quota.kernel() - tables, before + 6, "three pages, each with one of ours");
}

#[test]
fn there_is_version_1_only() {
    let mut t = pair();
    assert_eq!(t.one(GrantOp::SetVersion, &SetVersion { version: 1 }), (0, SetVersion { version: 1 }));
    assert_eq!(t.one(GrantOp::SetVersion, &SetVersion { version: 2 }).0, XenError::NoSys.raw());
    assert_eq!(t.one(GrantOp::SetVersion, &SetVersion { version: 0 }).0, XenError::Inval.raw());
    let own = GetVersion { dom: DomId::SELF, ..GetVersion::default() };
    assert_eq!(t.one(GrantOp::GetVersion, &own).1.version, 1);
    let others = GetVersion { dom: t.dom0.id, ..GetVersion::default() };
    assert_eq!(t.one(GrantOp::GetVersion, &others).0, XenError::Perm.raw());
    assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[10, GUEST_RAM, 2]), XenError::Inval.raw());
}

#[test]
fn what_arm_does_not_have_is_an_error() {
    let mut t = pair();
    assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[4, GUEST_RAM, 1]), XenError::OpNotSupp.raw());
    for command in [3, 9, 13, 4095] {
        assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[command, GUEST_RAM, 1]), XenError::NoSys.raw());
    }
    assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[7, GUEST_RAM, 1]), 0);
    assert_eq!(peek::<i16>(&t.b, GUEST_RAM + 20), GrantStatus::GeneralError.raw());
}

#[test]
fn caches_are_cleaned_over_pages_that_the_caller_uses() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    let (foreign, op) = (page(&t.a, 3), GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL);
    let arg = CacheFlush { addr: foreign.raw(), offset: 64, length: 128, op };
    assert_eq!(t.one(GrantOp::CacheFlush, &arg).0, XenError::Perm.raw());
    t.map(8, 0, true).unwrap();
    fake::with(|s| s.counts.cleaned = 0);
    assert_eq!(t.one(GrantOp::CacheFlush, &arg).0, 0);
    assert_eq!(fake::with(|s| s.counts.cleaned), 128);
    let own = CacheFlush { addr: page(&t.b, 1).raw(), ..arg };
    assert_eq!(t.one(GrantOp::CacheFlush, &own).0, 0);
    for (arg, error) in [
        (CacheFlush { offset: 4000, ..arg }, XenError::Inval),
        (CacheFlush { op: 1 << 5, ..arg }, XenError::Inval),
        (CacheFlush { op: GNTTAB_CACHE_SOURCE_GREF, ..arg }, XenError::OpNotSupp),
        (CacheFlush { addr: u64::MAX, ..arg }, XenError::Perm),
        (CacheFlush { addr: 0, ..arg }, XenError::Perm),
    ] {
        assert_eq!(t.one(GrantOp::CacheFlush, &arg).0, error.raw(), "{arg:?}");
    }
}

#[test]
fn a_page_to_clean_may_be_named_at_the_very_end_of_memory() {
    let mut t = pair();
    let arg = CacheFlush { addr: page(&t.b, 1).raw(), offset: 0, length: 64, op: GNTTAB_CACHE_CLEAN };
    let last = GUEST_RAM + 16 * PAGE_SIZE - 16;
    poke(&t.b, last, &arg);
    assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[12, last, 1]), 0);
}

#[test]
fn a_list_of_pages_to_clean_goes_a_page_a_round() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    t.map(8, 0, true).unwrap();
    for (n, page) in [page(&t.a, 3), page(&t.b, 1), page(&t.a, 3)].into_iter().enumerate() {
        let arg = CacheFlush { addr: page.raw(), offset: 0, length: 64, op: GNTTAB_CACHE_CLEAN };
        poke(&t.b, GUEST_RAM + n as u64 * 16, &arg);
    }
    fake::with(|s| s.counts.cleaned = 0);
    assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[12, GUEST_RAM, 3]), 0);
    assert_eq!((t.world.rounds, fake::with(|s| s.counts.cleaned)), (3, 3 * 64));
}
