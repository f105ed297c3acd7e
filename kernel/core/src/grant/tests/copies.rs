//! Copies.

use hypercall_abi::grant::{Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GTF_READING, GTF_WRITING};

use super::*;
use crate::fake::{self, poke_bytes};

fn own(page: u64, offset: u16) -> CopyPtr {
    CopyPtr::frame(DomId::SELF, Gfn(FIRST + page), offset)
}

impl Pair {
    fn copy(&mut self, source: CopyPtr, dest: CopyPtr, len: u16, flags: u16) -> i16 {
        let (x0, done) = self.one(GrantOp::Copy, &Copy { source, dest, len, flags, ..Copy::default() });
        assert_eq!(x0, 0);
        done.status
    }
}

#[test]
fn bytes_go_both_ways_and_nothing_stays_pinned() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    let granted = CopyPtr::gref(t.a.id, GrantRef(8), 100);
    poke_bytes(&t.a, GUEST_RAM + 3 * PAGE_SIZE + 100, b"from a");
    assert_eq!(t.copy(granted, own(2, 7), 6, GNTCOPY_SOURCE_GREF), OKAY);
    assert_eq!(&peek::<[u8; 6]>(&t.b, GUEST_RAM + 2 * PAGE_SIZE + 7), b"from a");
    poke_bytes(&t.b, GUEST_RAM + 2 * PAGE_SIZE, b"to a!!");
    assert_eq!(t.copy(own(2, 0), granted, 6, GNTCOPY_DEST_GREF), OKAY);
    assert_eq!(&peek::<[u8; 6]>(&t.a, GUEST_RAM + 3 * PAGE_SIZE + 100), b"to a!!");
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS);
    assert_eq!(Fake::frames().references(page(&t.a, 3)), 1);
    assert_eq!(Fake::frames().references(page(&t.b, 2)), 1);
}

#[test]
fn copies_that_make_no_sense_fail_and_move_nothing() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, true);
    grant(&t.a, 9, 4, DomId(99), false);
    let granted = |gref| CopyPtr::gref(t.a.id, GrantRef(gref), 0);
    let (ok, bad_entry, far, peer) = (granted(8), granted(9), granted(5000), t.a.id);
    let stranger = CopyPtr::gref(DomId(77), GrantRef(8), 0);
    let others = CopyPtr::frame(peer, Gfn(FIRST), 0);
    fake::with(|s| s.counts.copied = 0);
    for (source, dest, len, flags, status) in [
        (own(1, 0), ok, 8, GNTCOPY_DEST_GREF, GrantStatus::GeneralError),
        (bad_entry, own(1, 0), 8, GNTCOPY_SOURCE_GREF, GrantStatus::GeneralError),
        (far, own(1, 0), 8, GNTCOPY_SOURCE_GREF, GrantStatus::BadGntRef),
        (stranger, own(1, 0), 8, GNTCOPY_SOURCE_GREF, GrantStatus::BadDomain),
        (others, own(1, 0), 8, 0, GrantStatus::PermissionDenied),
        (own(1, 0), others, 8, 0, GrantStatus::PermissionDenied),
        (own(99, 0), own(1, 0), 8, 0, GrantStatus::BadPage),
        (own(u64::MAX - FIRST, 0), own(1, 0), 8, 0, GrantStatus::BadPage),
        (own(1, 4090), own(2, 0), 7, 0, GrantStatus::BadCopyArg),
        (own(1, 0), own(2, 4090), 7, 0, GrantStatus::BadCopyArg),
        (own(1, u16::MAX), own(2, 0), u16::MAX, 0, GrantStatus::BadCopyArg),
    ] {
        assert_eq!(t.copy(source, dest, len, flags), status.raw(), "{source:?} {dest:?}");
    }
    assert_eq!(fake::with(|s| s.counts.copied), 0);
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS | GTF_READONLY);
    assert_eq!(t.copy(own(1, 4090), own(2, 4090), 6, 0), OKAY, "up to the page's last byte");
    assert_eq!(t.copy(own(1, 0), own(2, 0), 0, 0), OKAY);
}

#[test]
fn of_two_wrong_sides_the_source_is_blamed_alone_and_in_a_batch_and_domains_ahead_of_pages() {
    let mut t = pair();
    grant(&t.a, 9, 4, DomId(99), false);
    let granted = |gref| CopyPtr::gref(t.a.id, GrantRef(gref), 0);
    let (far, bad_entry, stranger) = (granted(5000), granted(9), CopyPtr::gref(DomId(77), GrantRef(8), 0));
    let (others, nowhere) = (CopyPtr::frame(t.a.id, Gfn(FIRST), 0), own(99, 0));
    let (from, to) = (GNTCOPY_SOURCE_GREF, GNTCOPY_DEST_GREF);
    for (source, dest, flags, status) in [
        (stranger, others, from, GrantStatus::BadDomain),
        (others, stranger, to, GrantStatus::PermissionDenied),
        (others, far, to, GrantStatus::PermissionDenied),
        (far, others, from, GrantStatus::PermissionDenied),
        (nowhere, stranger, to, GrantStatus::BadDomain),
        (far, stranger, from | to, GrantStatus::BadDomain),
        (nowhere, far, to, GrantStatus::BadPage),
        (far, nowhere, from, GrantStatus::BadGntRef),
        (bad_entry, far, from | to, GrantStatus::GeneralError),
    ] {
        assert_eq!(t.copy(source, dest, 8, flags), status.raw(), "{source:?} {dest:?}");
        let arg = Copy { source, dest, len: 8, flags, ..Copy::default() };
        poke(&t.b, GUEST_RAM, &[arg, arg]);
        assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[5, GUEST_RAM, 2]), 0);
        assert_eq!(peek::<[Copy; 2]>(&t.b, GUEST_RAM).map(|done| done.status), [status.raw(); 2]);
    }
}

#[test]
fn a_copy_inside_one_page_may_overlap() {
    let mut t = pair();
    poke_bytes(&t.b, GUEST_RAM + PAGE_SIZE, b"abcdefgh");
    assert_eq!(t.copy(own(1, 0), own(1, 2), 8, 0), OKAY);
    assert_eq!(&peek::<[u8; 10]>(&t.b, GUEST_RAM + PAGE_SIZE), b"ababcdefgh");
}

#[test]
fn a_batch_pins_a_page_once_and_lets_go_of_it_at_the_end() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, true);
    grant(&t.a, 9, 4, t.b.id, true);
    let at = GUEST_RAM + 4 * PAGE_SIZE;
    let source = |n: u64| CopyPtr::gref(t.a.id, GrantRef(if n < 100 { 8 } else { 9 }), u16::try_from(n * 8).unwrap());
    for n in 0..200u64 {
        poke(&t.a, GUEST_RAM + (if n < 100 { 3 } else { 4 }) * PAGE_SIZE + n * 8, &n);
        let dest = own(1, u16::try_from(n * 8).unwrap());
        let arg = Copy { source: source(n), dest, len: 8, flags: GNTCOPY_SOURCE_GREF, ..Copy::default() };
        poke(&t.b, at + n * 40, &arg);
    }
    assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[5, at, 200]), 0);
    assert_eq!(peek::<[u64; 200]>(&t.b, GUEST_RAM + PAGE_SIZE), core::array::from_fn(|n| n as u64));
    for gref in [8, 9] {
        assert_eq!(flags(&t.a, gref) & GTF_READING, 0);
    }
    assert_eq!(Fake::frames().references(page(&t.a, 3)), 1);
}

#[test]
fn the_granter_sees_the_use_while_bytes_move_and_not_after() {
    let mut t = pair();
    let granted = |gref| CopyPtr::gref(t.a.id, GrantRef(gref), 0);
    let (from, to, both) = (GNTCOPY_SOURCE_GREF, GNTCOPY_DEST_GREF, GTF_READING | GTF_WRITING);
    let cases = [
        (granted(8), own(1, 0), from, 8, GTF_READING),
        (own(1, 0), granted(8), to, 8, both),
        (granted(9), granted(8), from | to, 8, both),
        (granted(9), granted(8), from | to, 9, GTF_READING),
        (granted(8), granted(8), from | to, 8, both),
    ];
    for (source, dest, flags_of_copy, gref, seen) in cases {
        for count in [1, 2] {
            grant(&t.a, 8, 3, t.b.id, false);
            grant(&t.a, 9, 4, t.b.id, true);
            let word = entry(&t.a, gref);
            fake::with(|s| s.watched = (Some(word), Vec::new()));
            let arg = Copy { source, dest, len: 8, flags: flags_of_copy, ..Copy::default() };
            poke(&t.b, GUEST_RAM, &[arg, arg]);
            assert_eq!(t.world.call(&t.b, GRANT_TABLE_OP, &[5, GUEST_RAM, count]), 0);
            for done in &peek::<[Copy; 2]>(&t.b, GUEST_RAM)[..usize::try_from(count).unwrap()] {
                assert_eq!(done.status, OKAY);
            }
            let found = fake::with(|s| core::mem::take(&mut s.watched.1));
            assert_eq!(found.len(), usize::try_from(count).unwrap());
            assert!(found.iter().all(|word| word & u32::from(both) == u32::from(seen)), "{dest:?}: {found:x?}");
            assert_eq!([flags(&t.a, 8), flags(&t.a, 9)], [GTF_PERMIT_ACCESS, GTF_PERMIT_ACCESS | GTF_READONLY]);
            assert_eq!([3, 4].map(|n| Fake::frames().references(page(&t.a, n))), [1, 1]);
        }
    }
}

#[test]
fn a_page_may_be_copied_and_mapped_at_the_same_time() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    let handle = t.map(8, 0, false).unwrap();
    let granted = CopyPtr::gref(t.a.id, GrantRef(8), 0);
    assert_eq!(t.copy(own(1, 0), granted, 64, GNTCOPY_DEST_GREF), OKAY);
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS | GTF_READING, "the mapping is still there");
    assert_eq!(t.unmap(handle, 0), OKAY);
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS);
}
