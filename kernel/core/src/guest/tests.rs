//! Tests of guest pointers: what a guest can name with one, and what it cannot.

use super::*;
use crate::addr::{Ipa, PAGE_SIZE};
use crate::fake::{self, Fake, GUEST_RAM, Shared, World, frame_of, peek, poke};
use crate::frame::FrameKind;
use crate::hw::{PcpuId, Translation};
use crate::p2m::MapKind;

const FAULT: Result<(), XenError> = Err(XenError::Fault);

/// A domain whose vCPU "runs here", so that its addresses are the ones that are translated.
fn running() -> (World, Shared<Domain<Fake>>) {
    let (mut world, _) = World::new();
    let domain = world.domain(4);
    Fake::load_stage2(domain.p2m.vttbr(&world.kernel.vmids, PcpuId(0)));
    (world, domain)
}

/// Writes as a call does that answers with a value.
fn write(domain: &Domain<Fake>, va: GuestVa, value: u64) -> Result<(), XenError> {
    copy_out(domain, va, value.as_bytes())
}

fn va(offset: u64) -> GuestVa {
    GuestVa::new(GUEST_RAM + offset)
}

#[test]
fn values_lie_at_any_alignment_and_across_page_ends() {
    let (_world, domain) = running();
    for offset in [0, 1, 7, PAGE_SIZE - 8, PAGE_SIZE - 7, PAGE_SIZE - 1, 2 * PAGE_SIZE - 3] {
        let value = 0x1122_3344_5566_7788 ^ offset;
        write(&domain, va(offset), value).unwrap();
        assert_eq!(peek::<u64>(&domain, GUEST_RAM + offset), value);
        assert_eq!(read::<Fake, u64>(&domain, va(offset)), Ok(value));
        let mut array = Array::<Fake, WRITE>::default();
        assert_eq!(array.read::<u64>(&domain, va(offset)), Ok(value));
        array.element::<u64>(&domain, va(offset)).unwrap().write(0, &!value).unwrap();
        assert_eq!(peek::<u64>(&domain, GUEST_RAM + offset), !value);
    }
}

#[test]
fn an_element_is_read_and_written_in_part_wherever_it_lies_and_nothing_behind_it() {
    let (_world, domain) = running();
    for offset in [8, PAGE_SIZE - 16, PAGE_SIZE - 9, PAGE_SIZE - 8, PAGE_SIZE - 1] {
        poke(&domain, GUEST_RAM + offset, &[1u64, 2, 3]);
        let (mut array, mut value) = (Array::<Fake, WRITE>::default(), [0; 2]);
        let element = array.element::<[u64; 2]>(&domain, va(offset)).unwrap();
        element.read_into(&mut value).unwrap();
        assert_eq!(value, [1, 2]);
        element.write(8, &4u64).unwrap();
        assert_eq!([9, 16, usize::MAX].map(|beyond| element.write(beyond, &5u64)), [FAULT; 3]);
        assert_eq!(peek::<[u64; 3]>(&domain, GUEST_RAM + offset), [1, 4, 3]);
    }
    let mut array = Array::<Fake, WRITE>::default();
    let last = array.element::<[u64; 2]>(&domain, GuestVa::new(u64::MAX - 7)).unwrap();
    assert_eq!((last.read_into(&mut [0; 2]), last.write(8, &0u64)), (FAULT, FAULT), "it would wrap");
}

#[test]
fn pointers_to_nothing_and_past_the_end_of_everything_are_faults() {
    let (_world, domain) = running();
    for at in [0, GUEST_RAM - 1, GUEST_RAM + 4 * PAGE_SIZE, GUEST_RAM + 4 * PAGE_SIZE - 7, u64::MAX, u64::MAX - 7] {
        let at = GuestVa::new(at);
        assert_eq!(read::<Fake, u64>(&domain, at).map(drop), FAULT, "{at:?}");
        assert_eq!(write(&domain, at, 1), FAULT, "{at:?}");
        assert_eq!(Array::<Fake, READ>::default().read::<u64>(&domain, at).map(drop), FAULT, "{at:?}");
    }
    assert_eq!(copy_in::<Fake>(&domain, GuestVa::new(u64::MAX), &mut []), Ok(()), "nothing is nowhere");
    assert_eq!(element(GuestVa::new(8), u64::MAX, 8), Err(XenError::Fault));
    assert_eq!(element(GuestVa::new(u64::MAX - 8), 2, 8), Err(XenError::Fault));
}

#[test]
fn what_the_guest_may_not_write_is_not_written_for_it() {
    let (_world, domain) = running();
    fake::with(|s| s.read_only.insert(GUEST_RAM / PAGE_SIZE + 1));
    poke(&domain, GUEST_RAM + PAGE_SIZE, &7u64);
    assert_eq!(read::<Fake, u64>(&domain, va(PAGE_SIZE)), Ok(7));
    assert_eq!(write(&domain, va(PAGE_SIZE), 8), FAULT);
    assert_eq!(write(&domain, va(PAGE_SIZE - 4), 8), FAULT, "nor when only its end is");
    assert_eq!(peek::<u64>(&domain, GUEST_RAM + PAGE_SIZE), 7);
    fake::with(|s| s.unmapped.insert(GUEST_RAM / PAGE_SIZE + 1));
    assert_eq!(read::<Fake, u64>(&domain, va(PAGE_SIZE)).map(drop), FAULT);
}

#[test]
fn pages_that_are_not_the_domains_own_are_not_reached_through_a_pointer() {
    let (mut world, domain) = running();
    let victim = world.domain(1);
    let foreign = frame_of(&victim, GUEST_RAM);
    let table = Fake::frames().alloc(domain.id, FrameKind::Table, 1).unwrap();
    for (n, (pa, kind)) in
        [(foreign, MapKind::GrantRw), (foreign, MapKind::Ram), (table, MapKind::Ram), (table, MapKind::Device)]
            .into_iter()
            .enumerate()
    {
        let at = 0x8000_0000 + n as u64 * PAGE_SIZE;
        domain.p2m.map(Ipa::new(at), pa, 1, kind).unwrap();
        assert_eq!(read::<Fake, u64>(&domain, GuestVa::new(at)).map(drop), FAULT, "{kind:?}");
        assert_eq!(write(&domain, GuestVa::new(at), 1), FAULT, "{kind:?}");
    }
}

#[test]
fn an_array_translates_a_page_once_and_holds_it_meanwhile() {
    let (_world, domain) = running();
    fake::with(|s| s.counts.translations = 0);
    let mut array = Array::<Fake, WRITE>::default();
    for n in 0..512 {
        array.read::<u64>(&domain, va(n * 8)).unwrap();
        array.element::<u64>(&domain, va(n * 8)).unwrap().write(0, &n).unwrap();
    }
    assert_eq!(fake::with(|s| s.counts.translations), 1);
    let frame = frame_of(&domain, GUEST_RAM);
    assert_eq!(Fake::frames().references(frame), 2);
    array.read::<u64>(&domain, va(PAGE_SIZE)).unwrap();
    assert_eq!(Fake::frames().references(frame), 1);
}

#[test]
fn a_copy_says_when_it_came_to_a_bad_page() {
    let (_world, domain) = running();
    let mut buffer = [0; 64];
    assert_eq!(copy_in::<Fake>(&domain, va(4 * PAGE_SIZE - 32), &mut buffer), FAULT);
    assert_eq!(copy_out::<Fake>(&domain, va(4 * PAGE_SIZE - 32), &buffer), FAULT);
    assert_eq!(copy_out::<Fake>(&domain, va(4 * PAGE_SIZE - 64), &buffer), Ok(()));
}
