//! The buddy allocator: blocks of 2^0 to 2^18 frames on lists that run through the entries of free frames.
//!
//! Pages that were freed one by one rest first, unmerged: ballooning, grants and tables free a page and take one again
//! right away, and should not pay for merging nine orders up and splitting them again.

use core::sync::atomic::Ordering;

use heapless::Vec;

use super::{Entries, FrameEntry, State};

/// Order of the largest block: 1 GiB.
pub const MAX_ORDER: u32 = 18;
/// The end of a list.
const NONE: u32 = u32::MAX;
/// Mark of a frame that heads no block on a list.
const INSIDE: u32 = 0xFF;
/// Pages that rest at most.
const MAX_RESTING: usize = 64;

/// The free frames. Blocks and pages go by frame number, since they are aligned by address.
pub(super) struct Buddy {
    entries: Entries,
    heads: [u32; MAX_ORDER as usize + 1],
    resting: Vec<u32, MAX_RESTING>,
    /// Frames that are free.
    pub(super) free: u64,
    /// Frames that were ever released to the allocator.
    pub(super) total: u64,
}

impl Buddy {
    pub(super) const fn new(entries: Entries) -> Self {
        Buddy { entries, heads: [NONE; MAX_ORDER as usize + 1], resting: Vec::new(), free: 0, total: 0 }
    }

    /// Takes a block; its entries are off all lists, and their states are for the caller to set.
    pub(super) fn alloc(&mut self, order: u32) -> Option<u32> {
        let rested = if order == 0 { self.resting.pop() } else { None };
        let number = match rested.or_else(|| self.split(order)) {
            Some(number) => number,
            None => {
                // Resting pages may be what keeps a larger block apart; there are few.
                while let Some(page) = self.resting.pop() {
                    self.merge(page, 0);
                }
                self.split(order)?
            }
        };
        self.free -= 1 << order;
        Some(number)
    }

    /// Takes in a block of reserved frames, at a multiple of its size.
    pub(super) fn release(&mut self, number: u32, order: u32) {
        let block = self.entries.block(number, 1 << order);
        if !block.is_empty() && block.iter().all(FrameEntry::is_reserved) {
            block.iter().for_each(|entry| entry.state.store(State::free(INSIDE).0, Ordering::Relaxed));
            self.free += 1 << order;
            self.total += 1 << order;
            self.merge(number, order);
        }
    }

    /// Returns one frame.
    #[inline]
    pub(super) fn free(&mut self, number: u32) {
        self.free += 1;
        self.mark(number, INSIDE);
        if let Err(number) = self.resting.push(number) {
            self.merge(number, 0);
        }
    }

    /// The smallest block that is large enough, split down; lower halves go first, so that blocks taken one
    /// after the other lie one after the other.
    fn split(&mut self, order: u32) -> Option<u32> {
        let mut found = (order..=MAX_ORDER).find(|&order| self.heads[order as usize] != NONE)?;
        let number = self.heads[found as usize];
        self.unlink(number, found);
        // From here on it must not be taken for a free buddy, although its owner is only set later.
        self.mark(number, INSIDE);
        while found > order {
            found -= 1;
            self.link(number + (1 << found), found);
        }
        Some(number)
    }

    /// Puts a block on its list, joined with its buddy as long as that is free too.
    #[inline(never)]
    fn merge(&mut self, mut number: u32, mut order: u32) {
        while order < MAX_ORDER {
            let buddy = number ^ (1 << order);
            let state = self.entries.at(buddy).map(|entry| entry.state.load(Ordering::Relaxed));
            if state != Some(State::free(order).0) {
                break;
            }
            self.unlink(buddy, order);
            self.mark(number.max(buddy), INSIDE);
            number = number.min(buddy);
            order += 1;
        }
        self.link(number, order);
    }

    fn mark(&self, number: u32, mark: u32) {
        if let Some(entry) = self.entries.at(number) {
            entry.state.store(State::free(mark).0, Ordering::Relaxed);
        }
    }

    fn link(&mut self, number: u32, order: u32) {
        let Some(entry) = self.entries.at(number) else { return };
        let next = self.heads[order as usize];
        entry.next.store(next, Ordering::Relaxed);
        entry.prev.store(NONE, Ordering::Relaxed);
        entry.state.store(State::free(order).0, Ordering::Release);
        if let Some(next) = self.entries.at(next) {
            next.prev.store(number, Ordering::Relaxed);
        }
        self.heads[order as usize] = number;
    }

    fn unlink(&mut self, number: u32, order: u32) {
        let Some(entry) = self.entries.at(number) else { return };
        let (prev, next) = (entry.prev.load(Ordering::Relaxed), entry.next.load(Ordering::Relaxed));
        match self.entries.at(prev) {
            Some(prev) => prev.next.store(next, Ordering::Relaxed),
            None => self.heads[order as usize] = next,
        }
        if let Some(next) = self.entries.at(next) {
            next.prev.store(prev, Ordering::Relaxed);
        }
    }
}
