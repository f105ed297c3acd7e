//! Caps: the most that a domain may run in each period, all its vCPUs together.
//!
//! A vCPU borrows a part of its domain's budget when it is put on a pCPU and gives back what it has not used. One that
//! finds nothing left is held until the next period, where what turns have taken too much is missing.

use super::fair::period;
use crate::hw::{Hw, NEVER, Ticks};
use crate::sync::{AtomicU32, Ordering, SpinMutex};

/// What a domain may run.
#[derive(Default)]
pub struct Budget {
    /// In per cent of one pCPU; 0 is no limit. Relaxed: the lock of `run` is taken behind a change, an old one lasts a turn.
    cap: AtomicU32,
    /// What is left of this period.
    pool: SpinMutex<Pool>,
}

#[derive(Default)]
struct Pool {
    /// Ticks, less what is lent; below zero when turns have taken too much.
    left: i64,
    /// When the period ends.
    until: Ticks,
}

impl Budget {
    /// The cap, in per cent of one pCPU; 0 is none.
    pub fn cap(&self) -> u32 {
        self.cap.load(Ordering::Relaxed)
    }

    /// Sets the cap, from now on.
    pub fn set_cap(&self, percent: u32) {
        *self.pool.lock() = Pool::default();
        self.cap.store(percent, Ordering::Relaxed);
    }

    /// Until when a turn may last that begins at `now`, or when to try again.
    #[inline]
    pub(super) fn lend<H: Hw>(&self, now: Ticks) -> Result<Ticks, Ticks> {
        if self.cap() == 0 { Ok(NEVER) } else { self.lend_part::<H>(now) }
    }

    #[inline(never)]
    fn lend_part<H: Hw>(&self, now: Ticks) -> Result<Ticks, Ticks> {
        let pool = &mut *self.pool.lock();
        let full = u64::from(self.cap()) * period::<H>() / 100;
        let budget = full.cast_signed();
        if now >= pool.until {
            let missed = (now - pool.until) / period::<H>();
            pool.until = now + period::<H>() - (now - pool.until) % period::<H>();
            // What periods without a turn have left unused is gone.
            pool.left = if missed > 0 { budget } else { pool.left.saturating_add(budget).min(budget) };
        }
        if pool.left <= 0 {
            return Err(pool.until);
        }
        // In parts, of 0.1 ms at least, so that another vCPU of the domain finds some of it; and not beyond the period.
        let part = (full / 4).max(period::<H>() / 100).min(pool.left.cast_unsigned()).min(pool.until - now);
        pool.left -= part.cast_signed();
        Ok(now + part)
    }

    /// A turn that might have lasted until `limit` has ended at `now`.
    #[inline]
    pub(super) fn settle(&self, limit: Ticks, now: Ticks) {
        if limit != NEVER {
            self.pool.lock().left += limit.cast_signed() - now.cast_signed();
        }
    }
}
