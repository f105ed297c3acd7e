//! Memory for the attacks.

use core::sync::atomic::{AtomicU64, Ordering};

use pv_guest_lib::addr::{Ipa, IpaRange};

/// Where RAM begins.
pub const RAM: u64 = 1 << 30;

/// Base and size of what a vCPU has shared.
static SHARED: (AtomicU64, AtomicU64) = (AtomicU64::new(0), AtomicU64::new(0));

/// Memory that belongs to no Rust object.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    range: IpaRange,
}

impl Scratch {
    /// Pages of its own, or nothing when RAM is short.
    pub fn take(pages: u64) -> Option<Self> {
        pv_guest_lib::pages::take(pages).map(|range| Self { range })
    }

    /// The page of the hypervisor's or the tool stack's at `address`, below RAM, where no Rust object is.
    pub fn special(address: u64) -> Option<Self> {
        if address >= RAM || !address.is_multiple_of(4096) {
            return None;
        }
        IpaRange::new(Ipa::new(address), 4096).map(|range| Self { range })
    }

    /// Lets the other vCPU find this memory.
    pub fn share(&self) {
        SHARED.0.store(self.base(), Ordering::Release);
        SHARED.1.store(self.size(), Ordering::Release);
    }

    /// The memory that the other vCPU has shared.
    pub fn shared() -> Option<Self> {
        let (base, size) = (SHARED.0.load(Ordering::Acquire), SHARED.1.load(Ordering::Acquire));
        IpaRange::new(Ipa::new(base), size).filter(|range| range.size() != 0).map(|range| Self { range })
    }

    /// The first address.
    pub fn base(&self) -> u64 {
        self.range.start().raw()
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.range.size()
    }

    /// The address `offset` bytes into the memory, which wraps around.
    pub fn at(&self, offset: u64) -> u64 {
        self.base() + offset % self.size()
    }

    /// Writes eight bytes; the offset wraps around and is rounded down.
    pub fn set(&self, offset: u64, value: u64) {
        let at = (self.at(offset) & !7) as *mut u64;
        // SAFETY: aligned and inside pages that `take` gave to nobody else.
        unsafe { at.write_volatile(value) };
    }

    /// Reads eight bytes, as `set` writes them.
    pub fn get(&self, offset: u64) -> u64 {
        let at = (self.at(offset) & !7) as *const u64;
        // SAFETY: as for `set`; any bytes are a number.
        unsafe { at.read_volatile() }
    }

    /// Writes four bytes; the offset is a multiple of 4 and wraps around.
    pub fn set32(&self, offset: u64, value: u32) {
        // SAFETY: as for `set`.
        unsafe { ((self.at(offset) & !3) as *mut u32).write_volatile(value) };
    }

    /// Reads four bytes, as `set32` writes them.
    pub fn get32(&self, offset: u64) -> u32 {
        // SAFETY: as for `set`.
        unsafe { ((self.at(offset) & !3) as *const u32).read_volatile() }
    }

    /// Reads a byte.
    pub fn get8(&self, offset: u64) -> u8 {
        // SAFETY: as for `set`.
        unsafe { (self.at(offset) as *const u8).read_volatile() }
    }

    /// Writes bytes one by one.
    pub fn fill(&self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            // SAFETY: inside pages that `take` gave to nobody else.
            unsafe { (self.at(at) as *mut u8).write_volatile(*byte) };
        }
    }
}
