//! How many frames each domain has, and how many it may have.
//!
//! The frame table counts: a frame is charged to its owner from its allocation until it is free or nobody's. Kernel
//! objects that a domain causes are counted apart from its RAM and have a limit of their own: a domain that exhausts
//! either one gets an error, and nobody else notices.

use core::sync::atomic::{AtomicU64, Ordering};

/// Kernel frames that any domain may cause, whatever its size: vCPUs, event channels, grants, stage-2 tables.
const KERNEL_BASE: u64 = 2048;
/// One kernel frame more for each so many pages of RAM.
const KERNEL_SHARE: u64 = 64;

/// The counts of one domain, in frames of 4 KiB. Relaxed: each changes in one step and tells nothing but itself; a charge
/// that is under way may go by the limit of a moment ago.
#[derive(Debug)]
pub struct Quota {
    owned: AtomicU64,
    max: AtomicU64,
    kernel: AtomicU64,
}

impl Quota {
    /// Nothing owned, at most `max` pages of RAM.
    pub const fn new(max: u64) -> Self {
        Quota { owned: AtomicU64::new(0), max: AtomicU64::new(max), kernel: AtomicU64::new(0) }
    }

    /// Counts frames of RAM or else of the kernel, if the limit allows.
    pub(crate) fn charge(&self, ram: bool, frames: u64) -> bool {
        let limit = if ram { self.max() } else { KERNEL_BASE.saturating_add(self.max() / KERNEL_SHARE) };
        let more = |now: u64| now.checked_add(frames).filter(|sum| *sum <= limit);
        self.count(ram).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Takes frames off the count again.
    pub(crate) fn refund(&self, ram: bool, frames: u64) {
        self.count(ram).fetch_sub(frames, Ordering::Relaxed);
    }

    fn count(&self, ram: bool) -> &AtomicU64 {
        if ram { &self.owned } else { &self.kernel }
    }

    /// Pages of RAM now.
    pub fn owned(&self) -> u64 {
        self.owned.load(Ordering::Relaxed)
    }

    /// The most pages of RAM.
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Sets the limit; a domain that is above it keeps what it has and gets nothing more.
    pub fn set_max(&self, pages: u64) {
        self.max.store(pages, Ordering::Relaxed);
    }

    /// Frames of kernel objects now.
    pub fn kernel(&self) -> u64 {
        self.kernel.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_past_the_limit_changes_nothing() {
        let quota = Quota::new(10);
        assert!(quota.charge(true, 10));
        assert!(!quota.charge(true, 1));
        assert!(!quota.charge(true, u64::MAX));
        assert_eq!(quota.owned(), 10);
        quota.refund(true, 4);
        assert!(quota.charge(true, 4));
    }

    #[test]
    fn a_lowered_limit_takes_nothing_away_but_gives_nothing_more() {
        let quota = Quota::new(10);
        assert!(quota.charge(true, 8));
        quota.set_max(4);
        assert!(!quota.charge(true, 1));
        assert_eq!(quota.owned(), 8);
    }

    #[test]
    fn kernel_frames_have_a_limit_of_their_own() {
        let quota = Quota::new(0);
        assert!(quota.charge(false, KERNEL_BASE));
        assert!(!quota.charge(false, 1));
        assert_eq!((quota.owned(), quota.kernel()), (0, KERNEL_BASE));
    }
}
