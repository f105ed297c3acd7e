//! The heap: a global allocator over RAM that the image takes from the page pool; talc behind a lock that
//! masks interrupts.
//!
//! Example: `examples/memory.rs`.

use core::sync::atomic::{AtomicBool, Ordering};

use critical_section::RestoreState;
use talc::DefaultBinning;
use talc::lock_api::{GuardNoSend, RawMutex};
use talc::source::Manual;
use talc::sync::TalcLock;

use crate::addr::IpaRange;

/// A critical section as a lock.
struct MaskedLock {
    held: AtomicBool,
    was_unmasked: AtomicBool,
}

// SAFETY: whoever is in a critical section excludes everybody else, on this vCPU and on others; the flag keeps out who is
// in it already.
unsafe impl RawMutex for MaskedLock {
    const INIT: Self = Self { held: AtomicBool::new(false), was_unmasked: AtomicBool::new(false) };
    type GuardMarker = GuardNoSend;

    fn lock(&self) {
        assert!(self.try_lock(), "the heap was entered from within the heap");
    }

    fn try_lock(&self) -> bool {
        // SAFETY: released in `unlock`, or just below when the lock is not to be had.
        let state = unsafe { critical_section::acquire() };
        if self.held.swap(true, Ordering::Relaxed) {
            // SAFETY: pairs with the acquire above.
            unsafe { critical_section::release(state) };
            return false;
        }
        self.was_unmasked.store(raw_state(state), Ordering::Relaxed);
        true
    }

    unsafe fn unlock(&self) {
        let was_unmasked = self.was_unmasked.load(Ordering::Relaxed);
        self.held.store(false, Ordering::Relaxed);
        // SAFETY: pairs with the acquire of `try_lock`, whose state this is.
        unsafe { critical_section::release(restore_state(was_unmasked)) };
    }
}

/// Whether interrupts were unmasked when the section was entered.
fn raw_state(state: RestoreState) -> bool {
    // SAFETY: with the feature `restore-state-bool`, the state is a transparent bool.
    unsafe { core::mem::transmute::<RestoreState, bool>(state) }
}

/// The opposite of [`raw_state`].
fn restore_state(was_unmasked: bool) -> RestoreState {
    // SAFETY: as there.
    unsafe { core::mem::transmute::<bool, RestoreState>(was_unmasked) }
}

#[global_allocator]
static HEAP: TalcLock<MaskedLock, Manual, DefaultBinning> = TalcLock::new(Manual);

/// Adds a range to the heap; `false` when it is too small to be of use.
///
/// # Safety
/// The range must be mapped RAM that the heap owns from now on.
unsafe fn claim(range: IpaRange) -> bool {
    let size = usize::try_from(range.size()).unwrap_or(0);
    // SAFETY: the caller gives the range to the heap.
    unsafe { HEAP.lock().claim(range.start().raw() as *mut u8, size) }.is_some()
}

/// Why no heap was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall;

/// Gives `pages` consecutive pages of the pool to the heap and returns where they are; may be called again to
/// add more.
///
/// # Errors
/// [`TooSmall`] when the pool has no such range, or the range is too small to manage.
pub fn init(pages: u64) -> Result<IpaRange, TooSmall> {
    let range = crate::pages::take(pages).ok_or(TooSmall)?;
    // SAFETY: the pool gave the range away for good; its RAM is mapped.
    let claimed = unsafe { claim(range) };
    if claimed { Ok(range) } else { Err(TooSmall) }
}
