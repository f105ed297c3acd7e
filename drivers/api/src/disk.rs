//! What a disk is: numbered 512-byte sectors, moved by DMA between the medium and bus addresses.
//!
//! The memory side of a request is a list of bus addresses rather than slices. The pages usually belong
//! to a guest, which may write them at any time, so no Rust reference to them may exist; and the device
//! reads them itself, so nobody needs one.

use core::fmt;

/// The unit of every sector number and count in this crate, in bytes, whatever the medium's own block is.
pub const SECTOR_SIZE: u32 = 512;

/// An address as a bus master (a DMA-capable device) emits it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BusAddr(u64);

impl BusAddr {
    /// Wraps an address that the platform says devices can reach.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The raw value, as it goes into a descriptor.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on; the platform's memory does not wrap, so saturating is enough.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl fmt::Debug for BusAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusAddr({:#x})", self.0)
    }
}

/// A run of memory that one request reads from or writes to, contiguous on the bus.
///
/// Whoever builds a segment promises that the memory stays mapped and owned until the request's future
/// has *completed*; dropping the future does not stop the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts.
    pub bus: BusAddr,
    /// Its length in bytes, a non-zero multiple of [`SECTOR_SIZE`].
    pub len: u32,
}

/// The number of sectors that `segments` cover, or `None` if one of them is empty or not whole sectors.
pub fn total_sectors(segments: &[Segment]) -> Option<u64> {
    segments.iter().try_fold(0u64, |sum, segment| {
        (segment.len != 0 && segment.len % SECTOR_SIZE == 0).then(|| sum + u64::from(segment.len / SECTOR_SIZE))
    })
}

/// What a disk can do and how large it is; constant for as long as the disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    /// Capacity in 512-byte sectors.
    pub sectors: u64,
    /// The smallest unit that can be addressed, in bytes (512 or 4096 as a rule).
    pub logical_block: u32,
    /// The unit in which the medium writes without a read-modify-write, in bytes.
    pub physical_block: u32,
    /// Writes, flushes and discards are refused.
    pub read_only: bool,
    /// [`Disk::flush`] reaches a volatile cache; without one it does nothing and succeeds.
    pub flush: bool,
    /// [`Disk::discard`] works.
    pub discard: bool,
    /// Discards should start at, and be multiples of, this many bytes.
    pub discard_granularity: u32,
}

/// Why a request did not happen. None of these harms the disk or other requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The medium or the device reported a failure.
    Io,
    /// The caller: the range ends past the disk, or lengths are not whole blocks.
    OutOfRange,
    /// The caller: a change to a read-only disk.
    ReadOnly,
    /// The caller: no segments, or one that is empty or not whole sectors.
    Segments,
    /// The device does not have this operation.
    Unsupported,
    /// The device broke its protocol and was shut down; every later request fails the same way.
    DeviceBroken,
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "the disk reported an I/O error",
            Self::OutOfRange => "the request lies outside the disk or is not whole blocks",
            Self::ReadOnly => "the disk is read-only",
            Self::Segments => "the request has no segments or a bad one",
            Self::Unsupported => "the disk does not support this operation",
            Self::DeviceBroken => "the disk broke its protocol and is offline",
        })
    }
}

impl core::error::Error for DiskError {}

/// A disk that takes many requests at once, of any number of segments. Requests in flight together complete in any
/// order; a caller that needs an order waits.
#[allow(async_fn_in_trait, reason = "one thread: the futures need not be Send")]
pub trait Disk {
    /// Size and abilities.
    fn info(&self) -> DiskInfo;

    /// Fills `segments`, in order, from the sectors that start at `sector`.
    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError>;

    /// Writes `segments`, in order, to the sectors that start at `sector`. Durable after [`Disk::flush`].
    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError>;

    /// Makes every write that *completed* before this call durable.
    async fn flush(&self) -> Result<(), DiskError>;

    /// Tells the disk that the content of `count` sectors is no longer needed.
    async fn discard(&self, sector: u64, count: u64) -> Result<(), DiskError>;

    /// The pages that hold the content, if the disk is memory of the host. Whoever knows both sides copies then, and
    /// neither maps anything nor calls [`Self::read`] and [`Self::write`].
    fn memory(&self) -> Option<&dyn DiskMemory> {
        None
    }
}

/// The content of a disk in memory of the host.
pub trait DiskMemory {
    /// The page that holds the bytes from `index` times the page size on; `None` if the host has no memory for it.
    fn page(&self, index: u64) -> Option<BusAddr>;
}

impl<D: Disk + ?Sized> Disk for alloc::rc::Rc<D> {
    fn memory(&self) -> Option<&dyn DiskMemory> {
        (**self).memory()
    }

    fn info(&self) -> DiskInfo {
        (**self).info()
    }

    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        (**self).read(sector, segments).await
    }

    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        (**self).write(sector, segments).await
    }

    async fn flush(&self) -> Result<(), DiskError> {
        (**self).flush().await
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        (**self).discard(sector, count).await
    }
}

impl<D: Disk + ?Sized> Disk for &D {
    fn memory(&self) -> Option<&dyn DiskMemory> {
        (**self).memory()
    }

    fn info(&self) -> DiskInfo {
        (**self).info()
    }

    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        (**self).read(sector, segments).await
    }

    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        (**self).write(sector, segments).await
    }

    async fn flush(&self) -> Result<(), DiskError> {
        (**self).flush().await
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        (**self).discard(sector, count).await
    }
}
