//! How many frames a domain has, and how many it may have.
//!
//! Kernel objects that a domain causes are counted apart from its RAM and have a limit of their own: a domain
//! that exhausts either one gets an error, and nobody else notices.

use core::sync::atomic::{AtomicU64, Ordering};

/// The domain may not have that many more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaExceeded;

/// Kernel frames that any domain may cause, whatever its size: vCPUs, event channels, grant tables.
const KERNEL_BASE: u64 = 1024;
/// One kernel frame more for each so many pages of RAM.
const KERNEL_SHARE: u64 = 64;

/// The counts of one domain, in frames of 4 KiB.
#[derive(Debug, Default)]
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

    /// Counts `pages` pages of RAM, if the limit allows.
    pub fn charge(&self, pages: u64) -> Result<(), QuotaExceeded> {
        add_below(&self.owned, pages, self.max())
    }

    /// Takes pages of RAM off the count.
    pub fn refund(&self, pages: u64) {
        subtract(&self.owned, pages);
    }

    /// Counts frames of kernel objects, if the limit allows.
    pub fn charge_kernel(&self, frames: u64) -> Result<(), QuotaExceeded> {
        add_below(&self.kernel, frames, KERNEL_BASE.saturating_add(self.max() / KERNEL_SHARE))
    }

    /// Takes frames of kernel objects off the count.
    pub fn refund_kernel(&self, frames: u64) {
        subtract(&self.kernel, frames);
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

fn add_below(count: &AtomicU64, more: u64, limit: u64) -> Result<(), QuotaExceeded> {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| now.checked_add(more).filter(|&sum| sum <= limit))
        .map(|_| ())
        .map_err(|_| QuotaExceeded)
}

fn subtract(count: &AtomicU64, less: u64) {
    // Never below zero: a count that wrapped would lift the limit.
    let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(less)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_past_the_limit_changes_nothing() {
        let quota = Quota::new(10);
        assert_eq!(quota.charge(10), Ok(()));
        assert_eq!(quota.charge(1), Err(QuotaExceeded));
        assert_eq!(quota.charge(u64::MAX), Err(QuotaExceeded));
        assert_eq!(quota.owned(), 10);
        quota.refund(4);
        assert_eq!(quota.charge(4), Ok(()));
    }

    #[test]
    fn a_lowered_limit_takes_nothing_away_but_gives_nothing_more() {
        let quota = Quota::new(10);
        quota.charge(8).unwrap();
        quota.set_max(4);
        assert_eq!(quota.charge(1), Err(QuotaExceeded));
        assert_eq!(quota.owned(), 8);
    }

    #[test]
    fn kernel_frames_have_a_limit_of_their_own() {
        let quota = Quota::new(0);
        assert_eq!(quota.charge_kernel(KERNEL_BASE), Ok(()));
        assert_eq!(quota.charge_kernel(1), Err(QuotaExceeded));
        assert_eq!(quota.owned(), 0);
    }
}
