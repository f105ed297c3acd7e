//! The memory balloon: pages that the domain gives back to the hypervisor and takes again, as the tool stack asks for
//! (`xl mem-set`) in the store's node `memory/target`.
//!
//! ```ignore
//! #[embassy_executor::task]
//! async fn balloon(guest_memory: u64, store: XenStore) {
//!     let Err(error) = balloon::follow(guest_memory, &store).await;
//!     println!("no balloon: {error}");
//! }
//! ```
//!
//! Example: `examples/balloon.rs`.

use core::convert::Infallible;
use core::sync::atomic::Ordering;

use embassy_futures::yield_now;
use hypercall_abi::PAGE_SIZE;

use crate::addr::Ipa;
use crate::pages::{self, Page};
use crate::sys::balloon;
use crate::xenstore::{XenStore, XsError};

/// Where the tool stack says how much memory the domain is to have, in KiB.
const TARGET: &str = "memory/target";
/// Pages that stay with the pool, however little the tool stack wants to leave: what is in use goes on to work.
const KEPT: u64 = 64;
/// Places that one page can list.
const PER_LIST: usize = PAGE_SIZE / 8;
/// Pages of lists: enough for 2 GiB.
const LISTS: usize = 1024;
/// Pages that move before other tasks have their turn.
const AT_ONCE: u64 = 64;

/// Where pages were given back from.
struct Holes {
    lists: heapless::Vec<Page, LISTS>,
    count: usize,
}

/// Keeps the domain's memory at what the tool stack asks for, for as long as the store answers. `ram` is the domain's RAM
/// in bytes, as the device tree has it ([`BootInfo::memory`](crate::BootInfo::memory)): more than that it never gets.
///
/// Pages are taken from the free ones ([`pages::free_pages`]), so a target below what is in use is met as far as it goes,
/// and when the hypervisor has no page to give, until the target changes next.
///
/// # Errors
/// As the store refuses.
pub async fn follow(ram: u64, store: &XenStore) -> Result<Infallible, XsError> {
    let mut holes = Holes { lists: heapless::Vec::new(), count: 0 };
    let mut watch = store.watch(TARGET).await?;
    loop {
        watch.changed().await;
        let kib = match store.read_number::<u64>(TARGET).await {
            Ok(kib) => kib,
            Err(error) if error.is_missing() => continue,
            Err(error) => return Err(error),
        };
        let wanted = ram.saturating_sub(kib.saturating_mul(1024)) / PAGE_SIZE as u64;
        let mut moved = 0u64;
        while holes.step(wanted) {
            moved += 1;
            if moved.is_multiple_of(AT_ONCE) {
                yield_now().await;
            }
        }
    }
}

impl Holes {
    /// Moves one page towards `wanted` holes; false when there is nothing to do, or nothing to be done.
    fn step(&mut self, wanted: u64) -> bool {
        match wanted.cmp(&(self.count as u64)) {
            core::cmp::Ordering::Equal => false,
            core::cmp::Ordering::Greater => self.give(),
            core::cmp::Ordering::Less => self.take(),
        }
    }

    fn give(&mut self) -> bool {
        if pages::free_pages() <= KEPT {
            return false;
        }
        if self.count == self.lists.len() * PER_LIST {
            // The list itself is a page that stays.
            let Some(list) = Page::new() else { return false };
            if self.lists.push(list).is_err() {
                return false;
            }
        }
        let Some(at) = Page::new().and_then(|page| balloon::give(page).ok()) else { return false };
        if let Some(list) = self.lists.last() {
            list.shared().u64(self.count % PER_LIST * 8).store(at.raw(), Ordering::Relaxed);
            self.count += 1;
        }
        true
    }

    fn take(&mut self) -> bool {
        let Some((list, last)) = self.lists.last().zip(self.count.checked_sub(1)) else { return false };
        let at = Ipa::new(list.shared().u64(last % PER_LIST * 8).load(Ordering::Relaxed));
        // The page goes to the pool at once.
        if balloon::take(at).map(drop).is_err() {
            return false;
        }
        self.count = last;
        if last.is_multiple_of(PER_LIST) {
            self.lists.pop();
        }
        true
    }
}
