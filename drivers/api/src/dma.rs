//! Memory of the host domain that devices can reach.

use core::ops::Range;

use crate::BusAddr;

/// Memory that is contiguous on the bus, owned by this value and shared with a device.
///
/// As with [`SharedPage`](crate::SharedPage) there is no borrowing: the device may write at any time. An
/// implementation must not touch memory outside its own even for a wrong offset: a load answers 0 then,
/// and a store does nothing. It must not free the memory while a device may still access it; one that
/// cannot tell leaks it on drop.
pub trait DmaMemory {
    /// Where a device finds it.
    fn bus_addr(&self) -> BusAddr;

    /// Its length in bytes.
    fn len(&self) -> usize;

    /// Whether it has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes out; what lies past the end reads as 0.
    fn copy_out(&self, offset: usize, into: &mut [u8]);

    /// Copies bytes in; what would lie past the end is dropped.
    fn copy_in(&self, offset: usize, from: &[u8]);

    /// Loads two bytes (aligned); later accesses are not reordered before it (acquire).
    fn load_u16(&self, offset: usize) -> u16;

    /// Stores two bytes (aligned); earlier accesses are not reordered after it (release).
    fn store_u16(&self, offset: usize, value: u16);

    /// Loads four bytes (aligned), unordered.
    fn load_u32(&self, offset: usize) -> u32;

    /// Stores eight bytes (aligned), unordered.
    fn store_u64(&self, offset: usize, value: u64);

    /// Orders every earlier access before every later one, loads after stores included.
    fn full_barrier(&self);
}

/// Memory that nobody reaches but by calls that the host makes itself, such as copies by the hypervisor. In between it is as
/// good as the host's own, and need not be copied to be worked on.
pub trait HostMemory: DmaMemory {
    /// Works on the bytes of a range, or of as much of it as there is. Nobody is to be asked to copy there meanwhile.
    ///
    /// It is lent to one at a time: within `work` it has no bytes for anybody else.
    fn with_bytes<R>(&self, range: Range<usize>, work: impl FnOnce(&mut [u8]) -> R) -> R;
}
