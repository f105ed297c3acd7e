//! Tests of the frame table and its allocator.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::addr::PAGE_SIZE;

const BASE: Pa = Pa::new(0x4000_0000);
const A: DomId = DomId(1);
const B: DomId = DomId(2);

impl FrameKind {
    fn of(word: u64) -> Self {
        use FrameKind::{Clean, Free, Leaving, Object, Ram, Reserved, Shared, Table};
        let bits = word & (RAM | ((1 << OWNER_SHIFT) - (1 << KIND_SHIFT)));
        let kinds = [Reserved, Free, Object, Table, Clean, Leaving, Ram, Shared];
        kinds.into_iter().find(|kind| *kind as u64 == bits).unwrap()
    }
}

/// What only tests ask.
impl FrameTable {
    /// Frames that are free.
    pub(crate) fn free_pages(&self) -> u64 {
        self.pages().1
    }

    /// Stage-2 tables of a domain.
    pub(crate) fn tables_of(&self, owner: DomId) -> usize {
        let word = State::live(owner, FrameKind::Table).0;
        self.entries.all.iter().filter(|entry| entry.state.load(Ordering::Acquire) == word).count()
    }

    fn word(&self, pa: Pa) -> u64 {
        self.entries.of(pa).map_or(State::RESERVED.0, |entry| entry.state.load(Ordering::Acquire))
    }

    /// What the frame is now.
    pub(crate) fn kind(&self, pa: Pa) -> FrameKind {
        FrameKind::of(self.word(pa))
    }

    /// References on the frame now.
    pub(crate) fn references(&self, pa: Pa) -> u32 {
        let state = State(self.word(pa)).0;
        u32::try_from((state & u64::from(u32::MAX)) + 1 - REFERENCED).unwrap()
    }
}

fn table_at(base: Pa, pages: u64) -> &'static FrameTable {
    let entries: Vec<FrameEntry> = (0..pages).map(|_| FrameEntry::default()).collect();
    let quotas = Box::leak(Box::new([const { Quota::new(u64::MAX) }; MAX_DOMAINS]));
    Box::leak(Box::new(FrameTable::new(entries.leak(), base, quotas)))
}

fn table(pages: u64) -> &'static FrameTable {
    let table = table_at(BASE, pages);
    table.release_range(BASE, pages);
    table
}

#[test]
fn frames_that_were_never_released_stay_out_of_reach() {
    let table = table_at(BASE, 64);
    table.release_range(BASE.add(8 * PAGE_SIZE), 8);
    assert_eq!(table.pages(), (8, 8));
    assert_eq!(table.alloc(A, FrameKind::Ram, 8), Ok(BASE.add(8 * PAGE_SIZE)));
    assert_eq!(table.alloc(A, FrameKind::Ram, 1), Err(XenError::NoMem));
    assert!(table.get(BASE, A).is_none());
    assert!(table.get(BASE.add(64 * PAGE_SIZE), A).is_none());
    assert!(table.get(Pa::new(0), A).is_none());
}

#[test]
fn a_range_is_not_released_twice() {
    let table = table(64);
    let page = table.alloc(A, FrameKind::Ram, 1).unwrap();
    table.release_range(BASE, 64);
    assert_eq!(table.pages(), (64, 63));
    assert_eq!(table.owner(page), A);
}

#[test]
fn adopted_frames_are_live_where_they_are() {
    let table = table_at(BASE, 16);
    assert_eq!(table.adopt(BASE, 8, A), Ok(()));
    assert_eq!(table.adopt(BASE.add(7 * PAGE_SIZE), 2, A), Err(XenError::NoMem));
    assert!(table.get(BASE, A).is_some());
    table.put(BASE);
    assert_eq!(table.pages(), (8, 1));
}

#[test]
fn blocks_are_aligned_by_address_even_when_ram_starts_between() {
    let base = Pa::new(0x4000_3000);
    let table = table_at(base, 61);
    table.release_range(base, 61);
    for order in [5, 4, 3, 2] {
        let block = table.alloc(A, FrameKind::Ram, 1 << order).unwrap();
        assert!(block.is_aligned(PAGE_SIZE << order), "{block:?} order {order}");
    }
}

#[test]
fn pages_of_a_block_return_one_by_one_and_join_again() {
    let table = table(512);
    let block = table.alloc(A, FrameKind::Ram, 512).unwrap();
    assert_eq!(table.free_pages(), 0);
    for n in 0..512 {
        table.put(block.add(n * PAGE_SIZE));
    }
    assert_eq!(table.free_pages(), 512);
    assert_eq!(table.alloc(B, FrameKind::Ram, 512), Ok(block));
}

#[test]
fn pages_freed_lately_are_taken_first_and_count_as_free_until_then() {
    let table = table(256);
    let pages: Vec<Pa> = (0..100).map(|_| table.alloc_page(A, FrameKind::Ram).unwrap()).collect();
    for (n, page) in (1..).zip(&pages) {
        table.put(*page);
        assert_eq!((table.free_pages(), table.quota(A).owned()), (156 + n, 100 - n));
        assert_eq!(table.kind(*page), FrameKind::Free);
        assert!(table.get(*page, A).is_none());
    }
    table.quota(B).set_max(1);
    let again = table.alloc_page(B, FrameKind::Ram).unwrap();
    assert_eq!((table.owner(again), table.references(again), table.free_pages()), (B, 1, 255));
    assert_eq!(again, pages[63], "as many rest");
    assert_eq!(table.alloc_page(B, FrameKind::Ram), Err(XenError::NoMem));
    assert_eq!(table.free_pages(), 255, "a refusal costs nothing");
    table.put(again);
    // Those that rest join with the others when they are what is missing.
    assert_eq!(table.alloc(A, FrameKind::Ram, 256), Ok(BASE));
    assert_eq!(table.free_pages(), 0);
}

#[test]
fn one_gibibyte_is_a_block() {
    let table = table(1 << 18);
    assert_eq!(table.alloc(A, FrameKind::Ram, 1 << 18), Ok(BASE));
    assert_eq!(table.alloc(A, FrameKind::Ram, 1 << 19), Err(XenError::NoMem));
    assert_eq!(table.free_pages(), 0);
}

#[test]
fn blocks_taken_one_after_the_other_lie_one_after_the_other() {
    let table = table(4096);
    for n in 0..8 {
        assert_eq!(table.alloc(A, FrameKind::Ram, 512), Ok(BASE.add(n * 512 * PAGE_SIZE)));
    }
}

#[test]
fn only_the_owner_gets_a_reference_and_only_on_pages_that_guests_see() {
    let table = table(16);
    let ram = table.alloc(A, FrameKind::Ram, 1).unwrap();
    let tables = table.alloc(A, FrameKind::Table, 1).unwrap();
    assert!(table.get(ram, A).is_some());
    assert!(table.get(ram, B).is_none());
    assert!(table.get(tables, A).is_none());
}

#[test]
fn a_frame_is_free_when_its_last_user_lets_go() {
    let table = table(16);
    let page = table.alloc(A, FrameKind::Ram, 1).unwrap();
    let pin = table.get(page, A).unwrap();
    table.put(page);
    assert_eq!(table.free_pages(), 15);
    drop(pin);
    assert_eq!(table.free_pages(), 16);
    table.put(page);
    assert_eq!(table.free_pages(), 16, "a reference that does not exist cannot be dropped");
}

#[test]
fn a_page_in_use_cannot_be_withdrawn_and_a_withdrawn_one_not_used() {
    let table = table(16);
    let page = table.alloc(A, FrameKind::Ram, 1).unwrap();
    let pin = table.get(page, A).unwrap();
    assert!(table.withdraw(page, A).is_none());
    drop(pin);
    assert!(table.withdraw(page, B).is_none());
    let last = table.withdraw(page, A);
    assert!(last.is_some());
    assert!(table.get(page, A).is_none());
    assert!(table.withdraw(page, A).is_none());
    drop(last);
    assert_eq!(table.free_pages(), 16);
}

#[test]
fn a_count_ends_before_it_spills_into_the_kind() {
    let table = table(16);
    let page = table.alloc(A, FrameKind::Ram, 1).unwrap();
    let state = &table.entries.of(page).unwrap().state;
    let one = state.load(Ordering::Acquire);
    state.store(one + COUNT, Ordering::Release);
    let last = table.get(page, A).map(FrameRef::keep);
    assert!(last.is_some() && table.get(page, A).is_none());
    assert_eq!((table.owner(page), table.kind(page), table.references(page)), (A, FrameKind::Ram, (1 << 30) + 1));
}

#[test]
fn who_drops_a_reference_that_nobody_has_changes_nothing() {
    let table = table(16);
    for kind in [FrameKind::Ram, FrameKind::Object, FrameKind::Shared] {
        let page = table.alloc(A, kind, 1).unwrap();
        table.put(page);
        let free = table.word(page);
        table.put(page);
        assert_eq!((table.word(page), table.free_pages()), (free, 16));
    }
}

#[test]
fn an_abandoned_page_belongs_to_nobody_until_its_users_let_go() {
    let table = table(16);
    let page = table.alloc(A, FrameKind::Ram, 1).unwrap();
    let pin = table.get(page, A).unwrap();
    table.abandon(page);
    assert!(table.get(page, A).is_none(), "a later domain of the same id gets nothing");
    assert_eq!(table.free_pages(), 15);
    drop(pin);
    assert_eq!(table.free_pages(), 16);
}

#[test]
fn a_frame_counts_for_its_owner_until_it_is_free_or_nobodys() {
    let table = table(64);
    let counts = |owner| (table.quota(owner).owned(), table.quota(owner).kernel());
    let page = table.alloc(A, FrameKind::Ram, 1).unwrap();
    let object = table.alloc(A, FrameKind::Object, 3).unwrap();
    table.alloc(B, FrameKind::Table, 2).unwrap();
    assert_eq!((counts(A), counts(B)), ((1, 3), (0, 2)));
    assert_eq!(table.free_pages(), 64 - 6, "what is too much of a block is free");
    let peer = table.get(page, A).unwrap();
    table.abandon(page);
    table.put(object);
    assert_eq!(counts(A), (0, 2));
    drop(peer);
    assert_eq!((counts(A), counts(B), table.free_pages()), ((0, 2), (0, 2), 64 - 4));
    table.quota(A).set_max(8);
    assert!(table.alloc(A, FrameKind::Ram, 16).is_err());
    assert_eq!((counts(A), table.free_pages()), ((0, 2), 64 - 4), "a refusal costs nothing");
    assert!(table.alloc(A, FrameKind::Ram, 8).is_ok());
    assert!(table.alloc(B, FrameKind::Ram, 16).is_ok());
    assert_eq!(table.alloc(B, FrameKind::Ram, 64), Err(XenError::NoMem));
    assert_eq!(counts(B), (16, 2));
}

proptest! {
    /// Blocks never overlap, are aligned, and all of RAM joins into one block again.
    #[test]
    fn allocation_never_hands_out_a_frame_twice(steps in prop::collection::vec((0u32..6, any::<prop::sample::Index>()), 1..80)) {
        let table = table(256);
        let mut held: Vec<Pa> = Vec::new();
        for (order, which) in steps {
            if order == 5 {
                if !held.is_empty() {
                    table.put(held.swap_remove(which.index(held.len())));
                }
                continue;
            }
            if let Ok(block) = table.alloc(A, FrameKind::Ram, 1 << order) {
                prop_assert!(block.is_aligned(PAGE_SIZE << order));
                for n in 0..1u64 << order {
                    let page = block.add(n * PAGE_SIZE);
                    prop_assert!(!held.contains(&page));
                    held.push(page);
                }
            }
            prop_assert_eq!(table.free_pages(), 256 - held.len() as u64);
        }
        for page in held {
            table.put(page);
        }
        prop_assert_eq!(table.alloc(B, FrameKind::Ram, 256), Ok(BASE));
    }
}

proptest! {
    /// Wherever RAM starts and ends, and whatever holes it has, a block is found if there is one.
    #[test]
    fn a_block_is_found_if_there_is_one(
        first in 0x4_0000u64..0x4_0046,
        holes in prop::collection::vec(0u64..150, 0..4),
        steps in prop::collection::vec((0u32..8, any::<prop::sample::Index>()), 1..60),
    ) {
        let table = table_at(Pa::from_number(first), 150);
        let mut free: BTreeSet<u64> = (first..first + 150).filter(|n| !holes.contains(&(n - first))).collect();
        free.iter().for_each(|n| table.release_range(Pa::from_number(*n), 1));
        let mut held: Vec<u64> = Vec::new();
        for (order, which) in steps {
            if order == 7 && !held.is_empty() {
                let page = held.swap_remove(which.index(held.len()));
                table.put(Pa::from_number(page));
                free.insert(page);
            } else if order < 7 {
                let block = |n: u64| n..n + (1 << order);
                let is_free = |n: u64| n.is_multiple_of(1 << order) && block(n).all(|n| free.contains(&n));
                let found = table.alloc(A, FrameKind::Ram, 1 << order).ok().map(Pa::number);
                prop_assert_eq!(found.is_some(), free.iter().any(|n| is_free(*n)));
                if let Some(found) = found {
                    prop_assert!(is_free(found));
                    free.retain(|n| !block(found).contains(n));
                    held.extend(block(found));
                }
            }
        }
    }
}
