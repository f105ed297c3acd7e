//! A page that a hostile domain writes while we look at it.
//!
//! The interface has single-copy atomic loads and stores by offset and no way to borrow: a value that
//! was loaded is private, cannot change between its check and its use, and a second look is visibly a
//! second load.

/// Bytes in a shared page.
pub const PAGE_SIZE: usize = 4096;

/// Access to one page of memory shared with another domain.
///
/// Callers pass naturally aligned offsets within [`PAGE_SIZE`]. An implementation must not touch memory
/// outside the page even if they do not: a load answers 0 then, and a store does nothing.
pub trait SharedPage {
    /// Loads four bytes; later accesses to the page are not reordered before it (acquire).
    fn load_u32(&self, offset: usize) -> u32;

    /// Stores four bytes; earlier accesses to the page are not reordered after it (release).
    fn store_u32(&self, offset: usize, value: u32);

    /// Loads eight bytes, unordered.
    fn load_u64(&self, offset: usize) -> u64;

    /// Stores eight bytes, unordered.
    fn store_u64(&self, offset: usize, value: u64);

    /// Copies bytes out of the page, once, unordered. What lies past the end of the page reads as 0.
    fn copy_out(&self, offset: usize, into: &mut [u8]);

    /// Copies bytes into the page, unordered. What would lie past the end is dropped.
    fn copy_in(&self, offset: usize, from: &[u8]);

    /// Orders every earlier access before every later one, loads after stores included (`dmb ish`).
    fn full_barrier(&self);
}

impl<P: SharedPage + ?Sized> SharedPage for &P {
    fn load_u32(&self, offset: usize) -> u32 {
        (**self).load_u32(offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        (**self).store_u32(offset, value);
    }

    fn load_u64(&self, offset: usize) -> u64 {
        (**self).load_u64(offset)
    }

    fn store_u64(&self, offset: usize, value: u64) {
        (**self).store_u64(offset, value);
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        (**self).copy_out(offset, into);
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        (**self).copy_in(offset, from);
    }

    fn full_barrier(&self) {
        (**self).full_barrier();
    }
}
