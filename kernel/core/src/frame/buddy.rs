//! The buddy allocator: blocks of 2^0 to 2^18 frames on lists that run through the entries of free frames.
//!
//! Pages that were freed one by one rest on a short list first, unmerged: ballooning, grants and tables free a
//! page and take one again right away, and should not pay for merging nine orders up and splitting them again.

use core::sync::atomic::Ordering;

use super::FrameEntry;
use super::state::State;
use crate::addr::Pa;

/// Order of the largest block: 1 GiB.
pub const MAX_ORDER: u8 = 18;
/// The end of a list.
pub(super) const NONE: u32 = u32::MAX;
/// Mark of a frame on the list of resting pages.
const RESTING: u8 = 0xFE;
/// Mark of a frame inside a free block, not at its head.
const INSIDE: u8 = 0xFF;
/// Pages that rest at most.
const MAX_RESTING: u32 = 64;

/// The heads of the free lists.
pub(super) struct Buddy {
    heads: [u32; MAX_ORDER as usize + 1],
    resting: u32,
    resting_count: u32,
    free_pages: u64,
    /// Frames between the last multiple of the largest block and the first entry: blocks are aligned by address,
    /// not by index.
    skew: u32,
}

impl Buddy {
    pub(super) const fn new(skew: u32) -> Self {
        Buddy { heads: [NONE; MAX_ORDER as usize + 1], resting: NONE, resting_count: 0, free_pages: 0, skew }
    }

    /// The largest order of a block that starts at `index` and has at most `pages` pages.
    pub(super) fn order_at(&self, index: u32, pages: u64) -> u8 {
        let aligned = (index + self.skew).trailing_zeros();
        let fits = pages.max(1).ilog2();
        (0..=MAX_ORDER).rev().find(|&order| u32::from(order) <= aligned.min(fits)).unwrap_or(0)
    }

    pub(super) const fn free_pages(&self) -> u64 {
        self.free_pages
    }

    /// Takes a block; its entries are off all lists, and their states are for the caller to set.
    pub(super) fn alloc(&mut self, entries: &[FrameEntry], order: u8) -> Option<u32> {
        if order > MAX_ORDER {
            return None;
        }
        let index = if order == 0 && self.resting != NONE {
            self.wake(entries)?
        } else if let Some(index) = self.take(entries, order) {
            index
        } else {
            // Resting pages may be what keeps a larger block apart; there are few.
            while self.resting != NONE {
                let index = self.wake(entries)?;
                self.merge(entries, index, 0);
            }
            self.take(entries, order)?
        };
        self.free_pages -= 1 << order;
        Some(index)
    }

    /// Takes in a block of frames that were reserved.
    pub(super) fn release(&mut self, entries: &[FrameEntry], index: u32, order: u8) {
        for n in index..index + (1 << order) {
            mark(entries, n, INSIDE);
        }
        self.free_pages += 1 << order;
        self.merge(entries, index, order);
    }

    /// Returns one frame.
    pub(super) fn free(&mut self, entries: &[FrameEntry], index: u32) {
        self.free_pages += 1;
        if self.resting_count < MAX_RESTING {
            if let Some(entry) = at(entries, index) {
                entry.next.store(self.resting, Ordering::Relaxed);
                entry.state.store(State::free(RESTING).raw(), Ordering::Release);
                self.resting = index;
                self.resting_count += 1;
            }
            return;
        }
        self.merge(entries, index, 0);
    }

    fn wake(&mut self, entries: &[FrameEntry]) -> Option<u32> {
        let index = self.resting;
        self.resting = at(entries, index)?.next.load(Ordering::Relaxed);
        self.resting_count -= 1;
        Some(index)
    }

    /// The smallest block that is large enough, split down; lower halves go first, so that blocks taken one
    /// after the other lie one after the other.
    fn take(&mut self, entries: &[FrameEntry], order: u8) -> Option<u32> {
        let mut found = (order..=MAX_ORDER).find(|&o| self.head(o) != NONE)?;
        let index = self.head(found);
        self.unlink(entries, index, found);
        // From here on it must not be taken for a free buddy, although its owner is only set later.
        mark(entries, index, INSIDE);
        while found > order {
            found -= 1;
            self.link(entries, index + (1 << found), found);
        }
        Some(index)
    }

    /// Puts a block on its list, joined with its buddy as long as that is free too.
    fn merge(&mut self, entries: &[FrameEntry], mut index: u32, mut order: u8) {
        while order < MAX_ORDER {
            let Some(buddy) = ((index + self.skew) ^ (1 << order)).checked_sub(self.skew) else { break };
            let is_free =
                at(entries, buddy).is_some_and(|entry| entry.state.load(Ordering::Relaxed) == State::free(order).raw());
            if !is_free {
                break;
            }
            self.unlink(entries, buddy, order);
            mark(entries, index.max(buddy), INSIDE);
            index = index.min(buddy);
            order += 1;
        }
        self.link(entries, index, order);
    }

    fn head(&self, order: u8) -> u32 {
        self.heads.get(usize::from(order)).copied().unwrap_or(NONE)
    }

    fn set_head(&mut self, order: u8, index: u32) {
        if let Some(head) = self.heads.get_mut(usize::from(order)) {
            *head = index;
        }
    }

    fn link(&mut self, entries: &[FrameEntry], index: u32, order: u8) {
        let Some(entry) = at(entries, index) else { return };
        let next = self.head(order);
        entry.next.store(next, Ordering::Relaxed);
        entry.prev.store(NONE, Ordering::Relaxed);
        entry.state.store(State::free(order).raw(), Ordering::Release);
        if let Some(next) = at(entries, next) {
            next.prev.store(index, Ordering::Relaxed);
        }
        self.set_head(order, index);
    }

    fn unlink(&mut self, entries: &[FrameEntry], index: u32, order: u8) {
        let Some(entry) = at(entries, index) else { return };
        let (prev, next) = (entry.prev.load(Ordering::Relaxed), entry.next.load(Ordering::Relaxed));
        match at(entries, prev) {
            Some(prev) => prev.next.store(next, Ordering::Relaxed),
            None => self.set_head(order, next),
        }
        if let Some(next) = at(entries, next) {
            next.prev.store(prev, Ordering::Relaxed);
        }
    }
}

/// See [`Buddy::skew`](Buddy).
pub(super) const fn skew(base: Pa) -> u32 {
    let into_block = base.number() & ((1 << MAX_ORDER) - 1);
    let bytes = into_block.to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn at(entries: &[FrameEntry], index: u32) -> Option<&FrameEntry> {
    entries.get(usize::try_from(index).ok()?)
}

fn mark(entries: &[FrameEntry], index: u32, mark: u8) {
    if let Some(entry) = at(entries, index) {
        entry.state.store(State::free(mark).raw(), Ordering::Relaxed);
    }
}
