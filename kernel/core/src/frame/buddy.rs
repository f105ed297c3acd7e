//! The free frames, as a tree: the block of 2^n frames at a multiple of its size has two halves, which are blocks too,
//! and each block knows the largest one in it that is free. One way down finds a block, one way up returns it.
//!
//! Pages that were freed one by one rest first, outside of the tree: ballooning, grants and tables free a page and take
//! one again right away.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use heapless::Vec;

use super::{Entries, FrameEntry, State};

/// Pages that rest at most.
const MAX_RESTING: usize = 64;

/// The free frames. Blocks and pages go by frame number, since they are aligned by address.
pub(super) struct Buddy {
    entries: Entries,
    /// Number and order of the smallest block that holds all frames.
    root: (u64, u32),
    /// Pages that rest. Who takes one sets its state.
    pub(super) resting: Vec<u64, MAX_RESTING>,
    /// Index of the first frame that may be in the tree and not zero.
    pub(super) dirty: usize,
    /// Frames in the tree that are zero; only a measure.
    pub(super) clean: usize,
    /// Frames that are free and in the tree.
    free: u64,
    /// Frames that were ever released to the allocator.
    pub(super) total: u64,
}

impl Buddy {
    pub(super) const fn new(entries: Entries) -> Self {
        let last = entries.first + (entries.all.len() as u64).saturating_sub(1);
        let order = u64::BITS - (entries.first ^ last).leading_zeros();
        let root = (entries.first >> order << order, order);
        Buddy { entries, root, resting: Vec::new(), dirty: 0, clean: 0, free: 0, total: 0 }
    }

    /// Frames that are free.
    pub(super) fn free_pages(&self) -> u64 {
        self.free + self.resting.len() as u64
    }

    /// Takes `pages` frames in a row, the lowest that there are in the tree, aligned to their number rounded up to a power
    /// of two. Their states are for the caller to set. Says as well whether all are zero.
    pub(super) fn alloc(&mut self, pages: u32) -> Option<(u64, bool)> {
        let order = pages.checked_next_power_of_two()?.trailing_zeros();
        let number = self.take(order).or_else(|| {
            // Resting pages may be what keeps a larger block apart; there are few.
            while let Some(page) = self.resting.pop() {
                self.join(page);
            }
            self.take(order)
        })?;
        let clean = self.entries.block(number, 1 << order).iter().filter(|entry| entry.is_clean()).count();
        self.clean = self.clean.saturating_sub(clean);
        self.free -= 1 << order;
        (number + u64::from(pages)..number + (1 << order)).for_each(|extra| self.free(extra));
        Some((number, clean == 1 << order))
    }

    /// Takes in a block of reserved frames, at a multiple of its size.
    pub(super) fn release(&mut self, number: u64, order: u32) {
        let block = self.entries.block(number, 1 << order);
        if !block.is_empty() && block.iter().all(FrameEntry::is_reserved) {
            block.iter().for_each(|entry| entry.state.store(State::FREE.0, Relaxed));
            self.free += 1 << order;
            self.total += 1 << order;
            self.mark(number, order, true);
        }
    }

    /// Returns one frame.
    #[inline]
    pub(super) fn free(&mut self, number: u64) {
        if let Err(number) = self.resting.push(number) {
            self.join(number);
        }
    }

    /// Returns a page to the tree.
    fn join(&mut self, number: u64) {
        self.free += 1;
        self.note(number, 0, 1);
    }

    fn take(&mut self, order: u32) -> Option<u64> {
        let (mut number, mut size) = self.root;
        if self.largest(number, size) <= order {
            return None;
        }
        while size > order {
            size -= 1;
            if self.largest(number, size) <= order {
                number += 1 << size;
            }
        }
        self.mark(number, order, false);
        Some(number)
    }

    /// Notes that a block is free, or not, and all that is in it.
    fn mark(&mut self, number: u64, order: u32, free: bool) {
        let largest = |order| if free { order + 1 } else { 0 };
        self.note(number, order, largest(order));
        for (n, entry) in (0u64..).zip(self.entries.block(number, 1 << order)) {
            entry.nodes[0].store(largest(0), Relaxed);
            // The first frame starts the middle of a larger block.
            if n > 0 {
                entry.nodes[1].store(largest(n.trailing_zeros() + 1), Relaxed);
            }
        }
    }

    /// Where it is noted of a block that lies in RAM what [`largest`](Self::largest) returns: no other one has the same
    /// middle.
    fn node(&self, number: u64, order: u32) -> Option<&'static AtomicU32> {
        let [page, block] = &self.entries.at(number + (1 << order) / 2)?.nodes;
        Some(if order == 0 { page } else { block })
    }

    /// 1 + the order of the largest block in this one that is free, or 0.
    fn largest(&self, mut number: u64, mut order: u32) -> u32 {
        loop {
            match self.node(number, order) {
                Some(node) => return node.load(Relaxed),
                None if order == 0 => return 0,
                None => order -= 1,
            }
            // If the middle is not in RAM, one half is not either.
            if number + (1 << order) < self.entries.first {
                number += 1 << order;
            }
        }
    }

    /// Notes of a block what `largest` is to return, and of those that it lies in what follows.
    #[inline(never)]
    fn note(&mut self, mut number: u64, mut order: u32, mut largest: u32) {
        if largest > 0 {
            self.dirty = self.dirty.min(usize::try_from(number.saturating_sub(self.entries.first)).unwrap_or(0));
        }
        while self.node(number, order).is_none_or(|node| node.swap(largest, Relaxed) != largest) {
            if order == self.root.1 {
                break;
            }
            let other = self.largest(number ^ (1 << order), order);
            // Two halves that are free in whole are a block that is.
            largest = if largest == other && largest > order { order + 2 } else { largest.max(other) };
            number &= !(1 << order);
            order += 1;
        }
    }
}
