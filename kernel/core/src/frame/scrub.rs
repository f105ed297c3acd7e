//! Zeroing free frames ahead of need, by pCPUs that have nothing else to do. Whoever gets one that is not zero yet zeroes it
//! himself, so that nothing but time depends on it.

use core::sync::atomic::Ordering::Relaxed;

use super::{FrameTable, State};
use crate::addr::{PAGE_SIZE, Pa};
use crate::hw::Hw;

/// The part of all frames that is zeroed ahead.
const SHARE: usize = 4;

impl FrameTable {
    /// Looks at the next frame, and zeroes it if it is free and not zero; false once there is nothing to do. The lock keeps
    /// it free meanwhile, which others wait for no longer than for a page; who finds it taken leaves this to its holder.
    pub fn scrub<H: Hw>(&self) -> bool {
        let Some(mut buddy) = self.buddy.try_lock() else { return false };
        let index = buddy.dirty;
        let Some(entry) = self.entries.all.get(index) else { return false };
        let wanted = buddy.clean < self.entries.all.len() / SHARE;
        buddy.dirty += usize::from(wanted);
        // It must be in the tree, and not with somebody who has just taken it and has yet to say so.
        if wanted && entry.nodes[0].load(Relaxed) != 0 && entry.state.load(Relaxed) == State::FREE.0 {
            H::zero_to_poc(Pa::from_number(self.entries.first + index as u64), PAGE_SIZE);
            entry.state.store(State::CLEAN.0, Relaxed);
            buddy.clean += 1;
        }
        wanted
    }
}
