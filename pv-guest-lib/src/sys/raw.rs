//! Memory that others may change at any time, reached without ever making a reference to it.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::addr::Ipa;

/// A view of memory shared with another domain or the hypervisor.
///
/// Single fields are reached as atomics, everything else is copied in or out with volatile accesses; no
/// ordinary reference to the memory exists. What was read is a private copy and can be validated; reading the
/// same field twice may give two values.
///
/// Offsets come from ring indices that the caller has masked or from the ABI's constants. An access beyond the
/// view is a bug of the caller and panics; it is not something that the peer can cause.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    base: NonNull<u8>,
    size: usize,
    owner: PhantomData<&'a ()>,
}

// SAFETY: all accesses are atomic or volatile and may race with the peer anyhow.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

macro_rules! atomic {
    ($(#[$meta:meta])* $name:ident, $atomic:ident) => {
        $(#[$meta])*
        ///
        /// # Panics
        /// When the field is not aligned or not in the view.
        #[must_use]
        pub fn $name(&self, offset: usize) -> &'a $atomic {
            let pointer = self.at(offset, size_of::<$atomic>()).cast::<$atomic>();
            assert!(pointer.is_aligned(), "atomic field at unaligned offset {offset:#x}");
            // SAFETY: in bounds and aligned as checked; the memory lives for `'a`; a foreign store is just
            // another atomic access for an atomic.
            unsafe { pointer.as_ref() }
        }
    };
}

impl<'a> Shared<'a> {
    /// A view of `size` bytes from `base`.
    ///
    /// # Safety
    /// The memory must stay mapped as normal memory for `'a`, hold no Rust object, and be accessed only through
    /// views like this one meanwhile.
    pub(crate) unsafe fn new(base: Ipa, size: usize) -> Self {
        let pointer = NonNull::new(base.raw() as *mut u8);
        Self { base: pointer.expect("shared memory is not at address 0"), size, owner: PhantomData }
    }

    /// Length of the view in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The part of `size` bytes from `offset`.
    ///
    /// # Panics
    /// When the part is not in the view.
    #[must_use]
    pub fn part(&self, offset: usize, size: usize) -> Self {
        Self { base: self.at(offset, size), size, owner: PhantomData }
    }

    fn at(&self, offset: usize, size: usize) -> NonNull<u8> {
        assert!(
            offset.checked_add(size).is_some_and(|end| end <= self.size),
            "access of {size} bytes at {offset:#x} in shared memory of {:#x}",
            self.size
        );
        // SAFETY: in bounds, as just checked.
        unsafe { self.base.add(offset) }
    }

    atomic! {
        /// The byte at `offset`.
        u8, AtomicU8
    }
    atomic! {
        /// The 16-bit field at `offset`.
        u16, AtomicU16
    }
    atomic! {
        /// The 32-bit field at `offset`.
        u32, AtomicU32
    }
    atomic! {
        /// The 64-bit field at `offset`.
        u64, AtomicU64
    }

    /// Copies out of shared memory.
    ///
    /// # Panics
    /// When the source is not in the view.
    pub fn read_bytes(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len()).as_ptr().cast_const();
        // SAFETY: the source is in bounds, the target is exclusively borrowed, and the two cannot overlap, since
        // no Rust object is in shared memory.
        unsafe { copy_volatile(from, to.as_mut_ptr(), to.len()) };
    }

    /// Copies into shared memory.
    ///
    /// # Panics
    /// When the target is not in the view.
    pub fn write_bytes(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len()).as_ptr();
        // SAFETY: as for `read_bytes`, with the directions exchanged.
        unsafe { copy_volatile(from.as_ptr(), to, from.len()) };
    }

    /// Copies a wire structure out of shared memory, once.
    ///
    /// # Panics
    /// When it is not in the view.
    #[must_use]
    pub fn read<T: FromBytes + IntoBytes>(&self, offset: usize) -> T {
        let mut value = T::new_zeroed();
        self.read_bytes(offset, value.as_mut_bytes());
        value
    }

    /// Copies a wire structure into shared memory.
    ///
    /// # Panics
    /// When it does not fit into the view there.
    pub fn write<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) {
        self.write_bytes(offset, value.as_bytes());
    }
}

/// Copies by 8 bytes where both sides are aligned alike, else byte by byte.
///
/// # Safety
/// Both sides must be valid for `length` bytes and not overlap.
unsafe fn copy_volatile(from: *const u8, to: *mut u8, length: usize) {
    let mut done = 0;
    if (from as usize ^ to as usize).is_multiple_of(8) {
        let head = from.align_offset(8).min(length);
        // SAFETY: `head <= length`.
        unsafe { copy_by_bytes(from, to, 0, head) };
        done = head;
        while done + 8 <= length {
            // SAFETY: in bounds by the condition; aligned on both sides after the head.
            unsafe {
                let word = from.add(done).cast::<u64>().read_volatile();
                to.add(done).cast::<u64>().write_volatile(word);
            }
            done += 8;
        }
    }
    // SAFETY: the caller's bounds.
    unsafe { copy_by_bytes(from, to, done, length) };
}

/// # Safety
/// Both sides must be valid up to `end`.
unsafe fn copy_by_bytes(from: *const u8, to: *mut u8, start: usize, end: usize) {
    for i in start..end {
        // SAFETY: in bounds, says the caller.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
}
