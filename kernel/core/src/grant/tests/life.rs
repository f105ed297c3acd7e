//! Grants of domains that die, on either side.

use hypercall_abi::errno::XenError;

use super::super::seed;
use super::*;
use crate::frame::FrameKind;

#[test]
fn a_page_outlives_its_granter_until_the_peer_unmaps_it() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    let handle = t.map(8, 0, true).unwrap();
    let frame = page(&t.a, 3);
    let a = t.a.clone();
    t.world.destroy(&a);
    assert!(t.world.find(a.id).is_none());
    assert_eq!(t.touch(0, Access::Write), Some(frame));
    assert_eq!(Fake::frames().references(frame), 1);
    assert_eq!(t.map(8, 1, true), Err(GrantStatus::BadDomain.raw()));
    assert_eq!(t.unmap(handle, 0), OKAY);
    assert_eq!(Fake::frames().kind(frame), FrameKind::Free);
}

#[test]
fn a_dying_mapper_lets_go_of_what_it_mapped() {
    let mut t = pair();
    for gref in 8..40 {
        grant(&t.a, gref, 3, t.b.id, gref % 2 == 0);
        t.map(gref, u64::from(gref), gref % 2 != 0).unwrap();
    }
    assert_eq!(Fake::frames().references(page(&t.a, 3)), 33);
    let b = t.b.clone();
    t.world.destroy(&b);
    assert_eq!(Fake::frames().references(page(&t.a, 3)), 1);
    for gref in 8..40 {
        assert_eq!(flags(&t.a, gref) & !GTF_READONLY, GTF_PERMIT_ACCESS);
    }
}

#[test]
fn free_frames_are_as_they_were_after_two_friends_died() {
    let Pair { mut world, dom0: _dom0, a, b, free } = pair();
    for (granter, user) in [(&a, &b), (&b, &a)] {
        seed(granter, GrantRef(1), Gfn(FIRST + 5), user.id).unwrap();
        for slot in 0..3 {
            let arg = MapGrantRef {
                host_addr: SLOTS + slot * PAGE_SIZE,
                flags: GNTMAP_HOST_MAP,
                gref: GrantRef(1),
                dom: granter.id,
                ..MapGrantRef::default()
            };
            poke(user, GUEST_RAM, &arg);
            world.call(user, GRANT_TABLE_OP, &[0, GUEST_RAM, 1]);
            assert_eq!(peek::<MapGrantRef>(user, GUEST_RAM).status, OKAY);
        }
    }
    world.destroy(&a);
    world.destroy(&b);
    drop((a, b));
    assert_eq!(Fake::frames().free_pages(), free);
}

#[test]
fn a_later_domain_of_the_same_id_is_not_the_granter() {
    let mut t = pair();
    grant(&t.a, 8, 3, t.b.id, false);
    let handle = t.map(8, 0, true).unwrap();
    let frame = page(&t.a, 3);
    let a = t.a.clone();
    t.world.destroy(&a);
    // Ids are given out in turn: behind the last one comes the lowest that is free, which is A's.
    let last = DomId(DomId::FIRST_RESERVED.0 - 1);
    let made = |id| Err(if id == last { XenError::Exist } else { XenError::NoMem });
    while t.world.kernel.domains.add(made).err() == Some(XenError::NoMem) {}
    t.a = t.world.domain(16);
    assert_eq!(t.a.id, a.id);
    grant(&t.a, 8, 3, t.b.id, false);
    let own = t.map(8, 1, true).unwrap();
    assert_eq!(t.unmap(handle, 0), OKAY);
    assert_eq!(Fake::frames().kind(frame), FrameKind::Free, "the old frame's reference goes");
    assert_ne!(flags(&t.a, 8), GTF_PERMIT_ACCESS, "but nothing of the namesake's changes");
    assert_eq!(Fake::frames().references(page(&t.a, 3)), 2);
    assert_eq!(t.unmap(own, 1), OKAY);
    assert_eq!(flags(&t.a, 8), GTF_PERMIT_ACCESS);
}

#[test]
fn a_seeded_entry_can_be_mapped() {
    let mut t = pair();
    seed(&t.a, GrantRef(1), Gfn(FIRST + 2), t.b.id).unwrap();
    assert!(t.map(1, 0, true).is_ok());
    assert_eq!(t.touch(0, Access::Write), Some(page(&t.a, 2)));
    assert!(seed(&t.a, GrantRef(4 * 512), Gfn(FIRST), t.b.id).is_err());
    assert!(seed(&t.a, GrantRef(u32::MAX), Gfn(FIRST), t.b.id).is_err());
    assert!(seed(&t.a, GrantRef(1), Gfn(1 << 32), t.b.id).is_err());
}
