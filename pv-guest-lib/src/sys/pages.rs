//! Whole pages of RAM: for rings and data that are granted to other domains, and for the heap.
//!
//! The pool starts with all RAM that the image, the FDT, an initial RAM disk and reserved ranges leave free.
//!
//! Example: `examples/memory.rs`.

use core::cell::RefCell;

use critical_section::Mutex;
use heapless::Vec;
use hypercall_abi::PAGE_SIZE;
use hypercall_abi::ids::Gfn;

use crate::addr::{Ipa, IpaRange};
use crate::shared::Shared;

/// Ranges of RAM that the pool can start with.
pub(crate) const MAX_RANGES: usize = 16;

struct Pool {
    /// RAM that was never handed out; ranges shrink from both ends.
    fresh: Vec<IpaRange, MAX_RANGES>,
    /// Head of the list of pages that came back.
    returned: Option<Ipa>,
    free: u64,
}

static POOL: Mutex<RefCell<Pool>> = Mutex::new(RefCell::new(Pool { fresh: Vec::new(), returned: None, free: 0 }));

/// Hands the pool its RAM; the ranges are mapped, page-aligned and used by nobody.
pub(crate) fn init(ranges: Vec<IpaRange, MAX_RANGES>) {
    critical_section::with(|cs| {
        let mut pool = POOL.borrow(cs).borrow_mut();
        pool.free = ranges.iter().map(|range| range.size() / PAGE_SIZE as u64).sum();
        pool.fresh = ranges;
    });
}

/// Pages that are free now.
#[must_use]
pub fn free_pages() -> u64 {
    critical_section::with(|cs| POOL.borrow(cs).borrow().free)
}

/// Takes `count` pages that follow each other, for good; `None` when no range is long enough. The content is
/// whatever was in RAM.
#[must_use]
pub fn take(count: u64) -> Option<IpaRange> {
    let bytes = count.checked_mul(PAGE_SIZE as u64)?;
    critical_section::with(|cs| {
        let mut pool = POOL.borrow(cs).borrow_mut();
        let range = pool.fresh.iter_mut().find(|range| range.size() >= bytes)?;
        let taken = IpaRange::new(range.start(), bytes)?;
        let [_, rest] = range.without(taken);
        *range = rest;
        pool.free -= count;
        Some(taken)
    })
}

/// One page of RAM, zeroed when it is made; goes back to the pool when it is dropped.
#[derive(Debug)]
pub struct Page {
    at: Ipa,
}

impl Page {
    /// A zeroed page, or `None` when none is free.
    #[must_use]
    pub fn new() -> Option<Self> {
        let at = critical_section::with(|cs| POOL.borrow(cs).borrow_mut().pop())?;
        // SAFETY: the pool just gave the page away, and its RAM is mapped.
        unsafe { zero(at) };
        Some(Self { at })
    }

    /// The page at `at`.
    ///
    /// # Safety
    /// It must be mapped RAM that nobody else has.
    pub(super) unsafe fn at(at: Ipa) -> Self {
        Self { at }
    }

    /// Where the page is.
    #[must_use]
    pub const fn ipa(&self) -> Ipa {
        self.at
    }

    /// Its frame number.
    #[must_use]
    pub const fn gfn(&self) -> Gfn {
        self.at.gfn()
    }

    /// A view of its bytes.
    #[must_use]
    pub fn shared(&self) -> Shared<'_> {
        // SAFETY: the page is ours, mapped, and holds no Rust object, since nothing but such views reach it.
        unsafe { view(self.at) }
    }

    /// Gives the page up for ever and returns where it is.
    #[must_use]
    pub fn leak(self) -> Ipa {
        let at = self.at;
        core::mem::forget(self);
        at
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        critical_section::with(|cs| POOL.borrow(cs).borrow_mut().push(self.at));
    }
}

impl Pool {
    fn pop(&mut self) -> Option<Ipa> {
        let page = if let Some(page) = self.returned {
            // SAFETY: pages on the list are free and carry a note.
            self.returned = unsafe { link(page) };
            page
        } else {
            self.cut_fresh()?
        };
        self.free -= 1;
        Some(page)
    }

    /// Cuts a page off the end of the last range that has one, far from where [`take`] cuts.
    fn cut_fresh(&mut self) -> Option<Ipa> {
        let range = self.fresh.iter_mut().rev().find(|range| !range.is_empty())?;
        let rest = range.size() - PAGE_SIZE as u64;
        let page = range.start().offset(rest);
        *range = IpaRange::new(range.start(), rest)?;
        Some(page)
    }

    fn push(&mut self, page: Ipa) {
        // SAFETY: the page's owner gives it back; it is RAM of the pool.
        unsafe { set_link(page, self.returned) };
        self.returned = Some(page);
        self.free += 1;
    }
}

/// Fills a page of the pool with zeros.
///
/// # Safety
/// The page must be mapped RAM that belongs to the pool and to nobody else.
unsafe fn zero(page: Ipa) {
    // SAFETY: the caller owns the page.
    unsafe { core::ptr::write_bytes(page.raw() as *mut u8, 0, PAGE_SIZE) };
}

/// Notes in a free page which one is free next.
///
/// # Safety
/// As for [`zero`].
unsafe fn set_link(page: Ipa, next: Option<Ipa>) {
    // SAFETY: the caller owns the page; it is aligned.
    unsafe { (page.raw() as *mut u64).write(next.map_or(0, Ipa::raw)) };
}

/// Reads the note of [`set_link`].
///
/// # Safety
/// The page must be free and carry a note.
unsafe fn link(page: Ipa) -> Option<Ipa> {
    // SAFETY: the caller says that the note is there.
    let next = unsafe { (page.raw() as *const u64).read() };
    (next != 0).then_some(Ipa::new(next))
}

/// A view of a page of the pool, for as long as its owner keeps it.
///
/// # Safety
/// The page must be mapped RAM, owned by who calls for `'a`, and hold no Rust object.
unsafe fn view<'a>(page: Ipa) -> Shared<'a> {
    // SAFETY: the caller's promise is the one that is asked for.
    unsafe { Shared::new(page, PAGE_SIZE) }
}
