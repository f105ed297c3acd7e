//! Tests of the physical map: against a simple model, and against a TLB that goes stale.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::addr::GuestVa;
use crate::fake::{self, Fake};
use crate::hw::{Access, Translation};

const OWNER: DomId = DomId(1);
const PEER: DomId = DomId(2);
const P0: PcpuId = PcpuId(0);
const MIB2: u64 = 2 << 20;
const GIB: u64 = 1 << 30;

fn p2m() -> P2m<Fake> {
    P2m::new(OWNER).unwrap()
}

fn ram(owner: DomId) -> Pa {
    Fake::frames().alloc(owner, FrameKind::Ram, 1).unwrap()
}

/// Loads the map, as a pCPU does that runs the domain.
fn run(p2m: &P2m<Fake>) -> VmidAllocator {
    let vmids = VmidAllocator::new();
    Fake::load_stage2(p2m.vttbr(&vmids, P0));
    vmids
}

/// Takes out whatever is mapped in a range.
fn unmap(p2m: &P2m<Fake>, ipa: Ipa, pages: u64) {
    let mut removal = p2m.removal();
    for n in 0..pages {
        let taken = removal.take(ipa.add(n * PAGE_SIZE), |_| Ok(()));
        assert!(matches!(taken, Ok(_) | Err(XenError::NoEnt)), "{taken:?}");
    }
}

fn touch(ipa: u64) -> Option<Pa> {
    Fake::translate(GuestVa::new(ipa), Access::Read)
}

#[test]
fn memory_is_mapped_in_the_largest_blocks_that_alignment_allows() {
    fake::reset();
    let p2m = p2m();
    p2m.map(
        Ipa::new(GIB - MIB2 - PAGE_SIZE),
        Pa::new(5 * GIB - MIB2 - PAGE_SIZE),
        1 + 512 + (1 << 18),
        MapKind::Device,
    )
    .unwrap();
    assert_eq!(Fake::frames().tables_of(OWNER), 4, "two root tables, one of level 2, one of level 3");
    run(&p2m);
    for at in [GIB - MIB2 - PAGE_SIZE, GIB - MIB2 + 0x1234, GIB + 0x1234_5678] {
        assert_eq!(touch(at), Some(Pa::new(at + 4 * GIB)));
    }
    assert_eq!(touch(2 * GIB), None);
}

#[test]
fn both_root_tables_are_in_use() {
    fake::reset();
    let p2m = p2m();
    let high = (1 << 40) - GIB;
    p2m.map(Ipa::new(high), Pa::new(GIB), 1 << 18, MapKind::Device).unwrap();
    run(&p2m);
    assert_eq!(touch(high + 8), Some(Pa::new(GIB + 8)));
    assert_eq!(p2m.highest(), (1 << 28) - 1);
}

#[test]
fn a_map_that_fails_in_the_middle_leaves_nothing() {
    fake::reset();
    let p2m = p2m();
    p2m.map(Ipa::new(0x5000), Pa::new(0x9000), 1, MapKind::Device).unwrap();
    assert_eq!(p2m.map(Ipa::new(0x3000), Pa::new(0x3000), 4, MapKind::Device), Err(XenError::Exist));
    assert_eq!(p2m.lookup(Ipa::new(0x3000)), None);
    assert_eq!(p2m.lookup(Ipa::new(0x5000)), Some(Mapping { pa: Pa::new(0x9000), kind: MapKind::Device }));
}

#[test]
fn ranges_outside_the_space_are_refused() {
    fake::reset();
    let p2m = p2m();
    let top = 1u64 << 40;
    for (ipa, pages) in [(top, 1), (top - PAGE_SIZE, 2), (0x1001, 1), (0, u64::MAX), (0, IPA_PAGES + 1)] {
        assert_eq!(p2m.map(Ipa::new(ipa), Pa::new(0), pages, MapKind::Device), Err(XenError::Inval));
    }
    assert_eq!(p2m.map(Ipa::new(0), Pa::new(1), 1, MapKind::Device), Err(XenError::Inval));
    for ipa in [top, 0x1001, u64::MAX - 0xFFF, u64::MAX] {
        assert_eq!(p2m.removal::<()>().take(Ipa::new(ipa), |_| Ok(())), Err(XenError::Inval));
    }
    assert_eq!(p2m.lookup(Ipa::new(top)), None);
    assert_eq!(p2m.lookup(Ipa::new(u64::MAX)), None);
}

#[test]
fn a_block_is_split_by_break_before_make_when_a_part_of_it_goes() {
    fake::reset();
    let p2m = p2m();
    p2m.map(Ipa::new(0), Pa::new(GIB), 1 << 18, MapKind::Device).unwrap();
    run(&p2m);
    assert_eq!(touch(0x20_1000), Some(Pa::new(GIB + 0x20_1000)));
    fake::with(|s| s.counts = fake::Counts::default());
    unmap(&p2m, Ipa::new(0x20_1000), 1);
    assert_eq!(touch(0x20_1000), None);
    assert_eq!(touch(0x20_0000), Some(Pa::new(GIB + 0x20_0000)));
    assert_eq!(touch(0x20_2000), Some(Pa::new(GIB + 0x20_2000)));
    assert_eq!(touch(0x40_0000), Some(Pa::new(GIB + 0x40_0000)));
    assert_eq!(fake::with(|s| s.counts.invalidations), 3, "two blocks broken, one page removed");
}

#[test]
fn a_page_that_was_removed_is_in_no_tlb_when_its_frame_is_free() {
    fake::reset();
    let p2m = p2m();
    let free = Fake::frames().free_pages();
    let pages: Vec<Pa> = (0..3).map(|_| ram(OWNER)).collect();
    for (n, &pa) in (0u64..).zip(&pages) {
        p2m.map(Ipa::new(n * PAGE_SIZE), pa, 1, MapKind::Ram).unwrap();
    }
    run(&p2m);
    for n in 0..3 {
        assert_eq!(touch(n * PAGE_SIZE), Some(pages[usize::try_from(n).unwrap()]));
    }
    fake::with(|s| s.counts = fake::Counts::default());
    let mut removal = p2m.removal();
    for n in 0..3 {
        let withdraw = |m: Mapping| Fake::frames().withdraw(m.pa, OWNER).ok_or(XenError::Busy);
        removal.take(Ipa::new(n * PAGE_SIZE), withdraw).unwrap();
    }
    assert_eq!(Fake::frames().kind(pages[0]), FrameKind::Leaving, "still held: TLBs may know it");
    drop(removal);
    assert_eq!(fake::with(|s| (s.counts.invalidations, s.counts.invalidated_pages)), (1, 3));
    assert_eq!(touch(0), None);
    assert_eq!(Fake::frames().free_pages(), free - 2, "the tables of the place are kept for the next mapping");
}

#[test]
fn what_a_removal_does_not_accept_stays_mapped() {
    fake::reset();
    let p2m = p2m();
    let page = ram(OWNER);
    p2m.map(Ipa::new(0), page, 1, MapKind::Ram).unwrap();
    assert_eq!(p2m.removal::<()>().take(Ipa::new(0), |_| Err(XenError::Busy)), Err(XenError::Busy));
    assert_eq!(p2m.removal::<()>().take(Ipa::new(0x1000), |_| Ok(())), Err(XenError::NoEnt));
    assert!(p2m.pin(Ipa::new(0)).is_ok());
}

#[test]
fn a_page_is_pinned_only_as_own_ram() {
    fake::reset();
    let p2m = p2m();
    let (own, foreign) = (ram(OWNER), ram(PEER));
    p2m.map(Ipa::new(0x1000), own, 1, MapKind::Ram).unwrap();
    for (n, kind) in (2..).zip([MapKind::GrantRw, MapKind::GrantRo, MapKind::Foreign, MapKind::Device, MapKind::Shared])
    {
        p2m.map(Ipa::from_number(n), own, 1, kind).unwrap();
        assert_eq!(p2m.pin(Ipa::from_number(n)).map(|pin| pin.pa()), Err(XenError::NoEnt), "{kind:?}");
    }
    p2m.map(Ipa::new(0x7000), foreign, 1, MapKind::Ram).unwrap();
    assert_eq!(p2m.pin(Ipa::new(0x1008)).map(|pin| pin.pa()), Ok(own));
    assert!(p2m.pin(Ipa::new(0x7000)).is_err(), "the frame's owner decides, not the map");
    assert!(p2m.pin(Ipa::new(0x8000)).is_err());
}

#[test]
fn the_pool_of_tables_is_bounded() {
    fake::reset();
    Fake::frames().quota(OWNER).set_max(0);
    let p2m = p2m();
    let mut mapped = 0;
    let error = loop {
        match p2m.map(Ipa::new(mapped * GIB), Pa::new(0), 1, MapKind::Device) {
            Ok(()) => mapped += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((mapped, error), (1023, XenError::NoMem), "two root tables, and two for each page");
    Fake::frames().quota(OWNER).set_max(512);
    assert!(p2m.map(Ipa::new(1023 * GIB), Pa::new(0), 1, MapKind::Device).is_ok());
}

#[test]
fn an_empty_table_does_not_keep_a_block_out() {
    fake::reset();
    let p2m = p2m();
    p2m.map(Ipa::new(0), Pa::new(0), 1, MapKind::Device).unwrap();
    unmap(&p2m, Ipa::new(0), 1);
    assert_eq!(Fake::frames().tables_of(OWNER), 4);
    p2m.map(Ipa::new(0), Pa::new(GIB), 1 << 18, MapKind::Device).unwrap();
    assert_eq!(Fake::frames().tables_of(OWNER), 2);
}

#[test]
fn mapping_one_page_again_and_again_builds_no_tables() {
    fake::reset();
    let p2m = p2m();
    p2m.map(Ipa::new(0), Pa::new(0), 1, MapKind::Device).unwrap();
    unmap(&p2m, Ipa::new(0), 1);
    let free = Fake::frames().free_pages();
    for n in 0..600 {
        p2m.map(Ipa::new(n * MIB2), Pa::new(0), 1, MapKind::Device).unwrap();
        unmap(&p2m, Ipa::new(n * MIB2), 1);
        assert!(Fake::frames().tables_of(OWNER) <= 6);
    }
    p2m.map(Ipa::new(0), Pa::new(0), 1, MapKind::Device).unwrap();
    unmap(&p2m, Ipa::new(0), 1);
    assert!(Fake::frames().free_pages() >= free - 2);
}

#[test]
fn teardown_returns_everything_in_bounded_steps() {
    fake::reset();
    let free = Fake::frames().free_pages();
    let p2m = p2m();
    let block = Fake::frames().alloc(OWNER, FrameKind::Ram, 512).unwrap();
    p2m.map(Ipa::new(GIB), block, 512, MapKind::Ram).unwrap();
    p2m.map(Ipa::new(0x5000), ram(OWNER), 1, MapKind::Ram).unwrap();
    let shared = Fake::frames().alloc(OWNER, FrameKind::Shared, 1).unwrap();
    p2m.map(Ipa::new(0x9000), shared, 1, MapKind::Shared).unwrap();
    let foreign = ram(PEER);
    p2m.map(Ipa::new(0xA000), Fake::frames().get(foreign, PEER).unwrap().keep(), 1, MapKind::Foreign).unwrap();
    let used_by_peer = Fake::frames().get(block, OWNER).unwrap();
    run(&p2m);
    touch(GIB);
    let mut steps = 0;
    while !p2m.teardown(100, &|_| ()) {
        steps += 1;
    }
    assert!(steps >= 10, "512 pages do not go in one step");
    assert_eq!(touch(GIB), None, "the TLBs were told first");
    assert_eq!(p2m.lookup(Ipa::new(GIB)), None);
    assert_eq!(p2m.map(Ipa::new(0), Pa::new(0), 1, MapKind::Device), Err(XenError::Srch));
    assert_eq!(Fake::frames().references(foreign), 1);
    assert_eq!(Fake::frames().references(shared), 1);
    drop(used_by_peer);
    drop(p2m);
    Fake::frames().put(foreign);
    Fake::frames().put(shared);
    assert_eq!(Fake::frames().free_pages(), free);
}

#[derive(Clone, Debug)]
enum Step {
    Map { page: u64, pages: u64, pa: u64 },
    Unmap { page: u64, pages: u64 },
    Take { page: u64 },
    Touch { page: u64 },
}

/// Pages near a boundary of 2 MiB or 1 GiB, or of either.
fn place() -> impl Strategy<Value = u64> {
    (prop::sample::select(vec![0u64, 512, 1 << 18, (1 << 18) + 512]), 0u64..4, prop::bool::ANY)
        .prop_map(|(base, near, below)| if below { base.saturating_sub(near) } else { base + near })
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 1u64..4, 1 => Just(512), 1 => Just(513), 1 => 1u64..600]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (place(), length(), place()).prop_map(|(page, pages, pa)| Step::Map { page, pages, pa }),
        1 => (0u64..3, 0u64..2).prop_map(|(gib, pa)| Step::Map { page: gib << 18, pages: 1 << 18, pa: pa << 18 }),
        2 => (place(), length()).prop_map(|(page, pages)| Step::Unmap { page, pages }),
        2 => place().prop_map(|page| Step::Take { page }),
        2 => place().prop_map(|page| Step::Touch { page }),
    ]
}

/// Runs of pages: first page to (pages, first frame). Enough of a model, and fast.
#[derive(Default)]
struct Model(BTreeMap<u64, (u64, u64)>);

impl Model {
    fn find(&self, page: u64) -> Option<u64> {
        let (&first, &(pages, pa)) = self.0.range(..=page).next_back()?;
        (page - first < pages).then(|| pa + page - first)
    }

    fn is_free(&self, page: u64, pages: u64) -> bool {
        self.find(page).is_none() && self.0.range(page..page + pages).next().is_none()
    }

    fn cut(&mut self, at: u64) {
        if let Some((&first, &(pages, pa))) = self.0.range(..at).next_back()
            && first + pages > at
        {
            self.0.insert(first, (at - first, pa));
            self.0.insert(at, (first + pages - at, pa + at - first));
        }
    }

    fn remove(&mut self, page: u64, pages: u64) {
        self.cut(page);
        self.cut(page + pages);
        self.0.retain(|&first, _| first < page || first >= page + pages);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is mapped and unmapped in whatever order, tables, look-up and TLB agree with the model.
    #[test]
    fn the_map_behaves_like_a_map(steps in prop::collection::vec(step(), 1..40)) {
        fake::reset();
        let free = Fake::frames().free_pages();
        let p2m = p2m();
        run(&p2m);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Map { page, pages, pa } => {
                    let result = p2m.map(Ipa::from_number(page), Pa::from_number(pa), pages, MapKind::Device);
                    let expected = if model.is_free(page, pages) { Ok(()) } else { Err(XenError::Exist) };
                    prop_assert_eq!(result, expected);
                    if result.is_ok() {
                        model.0.insert(page, (pages, pa));
                    }
                }
                Step::Unmap { page, pages } => {
                    unmap(&p2m, Ipa::from_number(page), pages);
                    model.remove(page, pages);
                }
                Step::Take { page } => {
                    let mut found = None;
                    let _ = p2m.removal().take(Ipa::from_number(page), |m| {
                        found = Some(m.pa.number());
                        Ok(())
                    });
                    prop_assert_eq!(found, model.find(page));
                    model.remove(page, 1);
                }
                Step::Touch { page } => {
                    let expected = model.find(page).map(Pa::from_number);
                    prop_assert_eq!(touch(page * PAGE_SIZE), expected);
                    prop_assert_eq!(p2m.lookup(Ipa::from_number(page)).map(|m| m.pa), expected);
                }
            }
        }
        for page in [0, 511, 512, (1 << 18) - 1, 1 << 18, (1 << 18) + 511, (1 << 18) + 512] {
            prop_assert_eq!(touch(page * PAGE_SIZE), model.find(page).map(Pa::from_number));
        }
        drop(p2m);
        prop_assert_eq!(Fake::frames().free_pages(), free);
    }
}
