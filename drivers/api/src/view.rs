//! A part of a disk that is a disk: a partition, or a file whose clusters are known.
//!
//! A request that lies within one extent, which is nearly every one, is passed on with its segment list
//! untouched, so an image file costs the data path one comparison more than the whole disk.

use alloc::vec::Vec;
use core::fmt;

use crate::{BusAddr, Disk, DiskError, DiskInfo, SECTOR_SIZE, Segment, total_sectors};

/// A run of sectors on the disk underneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first sector.
    pub start: u64,
    /// How many sectors.
    pub sectors: u64,
}

/// Why a view could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewError {
    /// An extent is empty or ends past the disk underneath.
    BeyondDisk(Extent),
}

impl fmt::Display for ViewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondDisk(extent) => {
                write!(f, "{} sectors from sector {} do not lie on the disk", extent.sectors, extent.start)
            }
        }
    }
}

impl core::error::Error for ViewError {}

/// One extent and where it stands in the view.
#[derive(Clone, Copy, Debug)]
struct Piece {
    first: u64,
    extent: Extent,
}

/// A disk made of extents of another disk, in order.
#[derive(Debug)]
pub struct DiskView<D> {
    disk: D,
    /// Sorted by `first`, without gaps; every extent lies on the disk (checked in `new`).
    pieces: Vec<Piece>,
    sectors: u64,
    read_only: bool,
}

impl<D: Disk> DiskView<D> {
    /// Joins `extents` into a disk.
    ///
    /// # Errors
    /// [`ViewError::BeyondDisk`] when an extent is empty or not on the disk.
    pub fn new(disk: D, extents: &[Extent], read_only: bool) -> Result<Self, ViewError> {
        let capacity = disk.info().sectors;
        let mut pieces = Vec::with_capacity(extents.len());
        let mut sectors = 0u64;
        for &extent in extents {
            let end = extent.start.checked_add(extent.sectors);
            if extent.sectors == 0 || end.is_none_or(|end| end > capacity) {
                return Err(ViewError::BeyondDisk(extent));
            }
            pieces.push(Piece { first: sectors, extent });
            sectors = sectors.checked_add(extent.sectors).ok_or(ViewError::BeyondDisk(extent))?;
        }
        Ok(Self { disk, pieces, sectors, read_only })
    }

    /// The disk as a whole, perhaps made read-only.
    pub fn whole(disk: D, read_only: bool) -> Self {
        let sectors = disk.info().sectors;
        let pieces = alloc::vec![Piece { first: 0, extent: Extent { start: 0, sectors } }];
        Self { disk, pieces, sectors, read_only }
    }

    /// Limits the view to its first `sectors` sectors (a file ends before its last cluster does).
    pub fn truncate(&mut self, sectors: u64) {
        self.sectors = self.sectors.min(sectors);
    }

    fn check(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        match sector.checked_add(count) {
            Some(end) if end <= self.sectors => Ok(()),
            _ => Err(DiskError::OutOfRange),
        }
    }

    /// The run underneath that begins at `sector`: its first sector there, and how far it goes.
    fn locate(&self, sector: u64) -> Result<Extent, DiskError> {
        let after = self.pieces.partition_point(|piece| piece.first <= sector);
        let piece = after.checked_sub(1).and_then(|index| self.pieces.get(index)).ok_or(DiskError::OutOfRange)?;
        let into = sector - piece.first;
        let sectors = piece.extent.sectors.checked_sub(into).filter(|&left| left != 0).ok_or(DiskError::OutOfRange)?;
        Ok(Extent { start: piece.extent.start + into, sectors })
    }

    async fn transfer(&self, direction: Direction, mut sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        let count = total_sectors(segments).ok_or(DiskError::Segments)?;
        self.check(sector, count)?;
        if count == 0 {
            return Err(DiskError::Segments);
        }
        let run = self.locate(sector)?;
        if count <= run.sectors {
            return self.pass(direction, run.start, segments).await;
        }
        let mut rest = Cursor::new(segments);
        let mut part = Vec::with_capacity(segments.len());
        let mut left = count;
        while left != 0 {
            let run = self.locate(sector)?;
            let now = run.sectors.min(left);
            rest.take(now, &mut part);
            self.pass(direction, run.start, &part).await?;
            sector += now;
            left -= now;
        }
        Ok(())
    }

    async fn pass(&self, direction: Direction, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        match direction {
            Direction::Read => self.disk.read(sector, segments).await,
            Direction::Write => self.disk.write(sector, segments).await,
        }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

/// Cuts a segment list into lists of a given number of sectors.
struct Cursor<'a> {
    segments: core::slice::Iter<'a, Segment>,
    current: Option<Segment>,
}

impl<'a> Cursor<'a> {
    fn new(segments: &'a [Segment]) -> Self {
        let mut segments = segments.iter();
        let current = segments.next().copied();
        Self { segments, current }
    }

    /// Replaces `part` by the next `sectors` sectors' worth of segments.
    fn take(&mut self, sectors: u64, part: &mut Vec<Segment>) {
        part.clear();
        let mut bytes = sectors * u64::from(SECTOR_SIZE);
        while bytes != 0 {
            let Some(segment) = self.current else {
                return;
            };
            // A part of a segment is no longer than the segment, whose length is a u32.
            let len = u32::try_from(bytes).map_or(segment.len, |bytes| bytes.min(segment.len));
            part.push(Segment { bus: segment.bus, len });
            bytes -= u64::from(len);
            self.current = if len == segment.len {
                self.segments.next().copied()
            } else {
                Some(Segment { bus: BusAddr::offset(segment.bus, u64::from(len)), len: segment.len - len })
            };
        }
    }
}

impl<D: Disk> Disk for DiskView<D> {
    fn info(&self) -> DiskInfo {
        let below = self.disk.info();
        DiskInfo { sectors: self.sectors, read_only: self.read_only || below.read_only, ..below }
    }

    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        self.transfer(Direction::Read, sector, segments).await
    }

    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        self.transfer(Direction::Write, sector, segments).await
    }

    async fn flush(&self) -> Result<(), DiskError> {
        self.disk.flush().await
    }

    async fn discard(&self, mut sector: u64, count: u64) -> Result<(), DiskError> {
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        self.check(sector, count)?;
        let mut left = count;
        while left != 0 {
            let run = self.locate(sector)?;
            let now = run.sectors.min(left);
            self.disk.discard(run.start, now).await?;
            sector += now;
            left -= now;
        }
        Ok(())
    }
}
