//! A device's registers behind a raw pointer: the crate's only unsafe code.
#![allow(unsafe_code, reason = "volatile access to device registers")]

use core::ptr::NonNull;

use crate::regs::Registers;

/// The mapped registers of one device.
#[derive(Debug)]
pub struct MmioRegion {
    base: NonNull<u8>,
    len: usize,
}

impl MmioRegion {
    /// Wraps `len` bytes of registers at `base`.
    ///
    /// # Safety
    /// The range must be mapped as device memory, aligned to 8 bytes, for as long as the value exists, hold the
    /// registers of one virtio-mmio transport, and be accessed through this value alone.
    pub const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    fn register<T>(&self, offset: usize) -> Option<NonNull<T>> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.len || !offset.is_multiple_of(size_of::<T>()) {
            return None;
        }
        // SAFETY: in bounds, and `new`'s caller vouched for the range.
        Some(unsafe { self.base.add(offset) }.cast())
    }
}

impl Registers for MmioRegion {
    fn read32(&self, offset: usize) -> u32 {
        // SAFETY: `register` checked bounds and alignment; `new`'s caller vouched for the mapping.
        self.register::<u32>(offset).map_or(0, |register| unsafe { register.as_ptr().read_volatile() })
    }

    fn write32(&self, offset: usize, value: u32) {
        if let Some(register) = self.register::<u32>(offset) {
            // SAFETY: as in `read32`.
            unsafe { register.as_ptr().write_volatile(value) }
        }
    }

    fn read8(&self, offset: usize) -> u8 {
        // SAFETY: as in `read32`.
        self.register::<u8>(offset).map_or(0, |register| unsafe { register.as_ptr().read_volatile() })
    }
}
