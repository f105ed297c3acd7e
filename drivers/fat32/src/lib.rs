//! FAT32 with long names, read and written asynchronously: the file system of `/store`.
//!
//! FAT32 because every system mounts and makes it, and because a file's clusters are known for certain: a disk image
//! in `/store` is served to a guest straight from its extents ([`File::extents`]), without the file system or the
//! CPU in the data path.
//!
//! # How a host uses it
//!
//! ```text
//! let fs = FileSystem::mount(SectorIo::new(disk, bounce_buffer)).await?;    // or over a DiskView of a partition
//! for entry in fs.list("/guests").await? { ... }
//! let kernel = fs.open("/guests/hello").await?;                             // an Rc'd handle, closed on drop
//! let n = fs.read(&kernel, offset, &mut buffer).await?;
//! fs.write("/log/boot.txt", 0, b"...").await?;                              // creates and grows
//! let image = DiskView::new(disk, kernel.extents(), false)?;                // zero-copy; keep `kernel` alive
//! ```
//!
//! Paths are absolute, with `/`; `.` and `..` are understood. Names keep their case and are found in any. While a file
//! is open nothing can free its clusters: removing, replacing or shortening it is [`FatError::Busy`].
//!
//! Operations run one at a time, each to its end, and write the allocation table before what relies on it. Times are
//! those of 1 January 1980: Dom0 has no calendar.
//!
//! # Why our own
//!
//! `embedded-sdmmc` 0.10 does not create long names, `fatfs` 0.3 and `simple-fatfs` are synchronous, and neither gives a
//! file's extents; `hadris-fat` has all three but only as a release candidate of 8,000 lines that brings three crates
//! of its own for storage and paths. `fatfs` is the other party in the tests.
//!
//! # Damaged images
//!
//! A volume may have been written by anyone. Each number is checked against the volume before use, each chain is walked
//! at most as long as the table is, and what cannot be followed is [`FatError::Corrupt`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::RefCell;

use driver_api::{Extent, SECTOR_SIZE, Sectors};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::mutex::Mutex;

mod content;
mod dir;
mod error;
mod geometry;
mod name;
mod table;
mod volume;

#[cfg(test)]
mod tests;

pub use dir::Entry;
pub use error::FatError;
use geometry::Cluster;
use volume::Volume;

/// A mounted file system.
pub struct FileSystem<S> {
    volume: Mutex<NoopRawMutex, Volume<S>>,
    /// First clusters of handles that were dropped, to be closed by the next operation.
    dropped: Rc<RefCell<Vec<Cluster>>>,
}

/// An open file: its size and place on the disk when it was opened.
#[derive(Debug)]
pub struct File {
    size: u32,
    first: Option<Cluster>,
    extents: Vec<Extent>,
    dropped: Weak<RefCell<Vec<Cluster>>>,
}

impl File {
    /// Its size in bytes.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Where it lies on the disk that the file system is on, in order; together at least as long as the file. They stay
    /// the file's for as long as this handle lives.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Whole sectors in the file; what [`driver_api::DiskView::truncate`] wants when it is a disk image.
    pub fn sectors(&self) -> u64 {
        u64::from(self.size / SECTOR_SIZE)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let (Some(first), Some(dropped)) = (self.first, self.dropped.upgrade()) {
            dropped.borrow_mut().push(first);
        }
    }
}

impl<S: Sectors> FileSystem<S> {
    /// Reads and checks the boot sector.
    ///
    /// # Errors
    /// The disk fails, or holds no FAT32.
    pub async fn mount(disk: S) -> Result<Self, FatError> {
        Ok(Self { volume: Mutex::new(Volume::mount(disk).await?), dropped: Rc::new(RefCell::new(Vec::new())) })
    }

    /// Locks the volume and closes what was dropped since.
    async fn lock(&self) -> embassy_sync::mutex::MutexGuard<'_, NoopRawMutex, Volume<S>> {
        let mut volume = self.volume.lock().await;
        for first in self.dropped.take() {
            volume.close(first);
        }
        volume
    }

    /// What a path names; `None` is the root directory.
    ///
    /// # Errors
    /// There is nothing of that name.
    pub async fn lookup(&self, path: &str) -> Result<Option<Entry>, FatError> {
        self.lock().await.lookup(path).await
    }

    /// A directory's entries, in the order of the disk.
    ///
    /// # Errors
    /// It is not there or not a directory.
    pub async fn list(&self, path: &str) -> Result<Vec<Entry>, FatError> {
        self.lock().await.list(path).await
    }

    /// Opens a file.
    ///
    /// # Errors
    /// It is not there, is a directory, or its clusters cannot be followed.
    pub async fn open(&self, path: &str) -> Result<File, FatError> {
        let (entry, chain) = self.lock().await.open(path).await?;
        Ok(File { size: entry.size, first: chain.first, extents: chain.extents, dropped: Rc::downgrade(&self.dropped) })
    }

    /// Reads from `offset` on until the buffer is full or the file ends; says how much that is.
    ///
    /// # Errors
    /// The disk fails.
    pub async fn read(&self, file: &File, offset: u32, buffer: &mut [u8]) -> Result<usize, FatError> {
        let left = file.size.saturating_sub(offset) as usize;
        let count = buffer.len().min(left);
        let part = buffer.get_mut(..count).unwrap_or_default();
        let volume = self.lock().await;
        content::get_bytes(&volume.disk, &file.extents, offset.into(), part).await?;
        Ok(count)
    }

    /// The whole content of a file of at most `bound` bytes.
    ///
    /// # Errors
    /// As [`Self::open`]; [`FatError::TooLarge`] beyond the bound.
    pub async fn read_all(&self, path: &str, bound: usize) -> Result<Vec<u8>, FatError> {
        let file = self.open(path).await?;
        let size = file.size as usize;
        if size > bound {
            return Err(FatError::TooLarge);
        }
        let mut content = alloc::vec![0; size];
        self.read(&file, 0, &mut content).await?;
        Ok(content)
    }

    /// Writes `data` at `offset`, growing the file if it ends earlier (any gap reads as zeros) and creating it if it
    /// is not there.
    ///
    /// # Errors
    /// The path leads nowhere or to a directory, or no space is left.
    pub async fn write(&self, path: &str, offset: u32, data: &[u8]) -> Result<(), FatError> {
        self.lock().await.write(path, offset, data).await
    }

    /// Sets a file's length, creating it if it is not there; what is new reads as zeros.
    ///
    /// # Errors
    /// As [`Self::write`]; [`FatError::Busy`] when an open file would become shorter.
    pub async fn truncate(&self, path: &str, size: u32) -> Result<(), FatError> {
        self.lock().await.truncate(path, size).await
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// [`FatError::Exists`], or the path leads nowhere, or no space is left.
    pub async fn create_dir(&self, path: &str) -> Result<(), FatError> {
        self.lock().await.make_directory(path).await
    }

    /// Removes a file or an empty directory.
    ///
    /// # Errors
    /// [`FatError::NotFound`], [`FatError::NotEmpty`], [`FatError::Busy`].
    pub async fn remove(&self, path: &str) -> Result<(), FatError> {
        self.lock().await.remove(path).await
    }

    /// Moves a file or directory. A file of the new name is replaced.
    ///
    /// # Errors
    /// [`FatError::NotFound`]; [`FatError::Exists`] if a directory is in the way; [`FatError::Busy`] if what would be
    /// replaced is open.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), FatError> {
        self.lock().await.rename(from, to).await
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// The disk fails.
    pub async fn sync(&self) -> Result<(), FatError> {
        self.lock().await.sync().await
    }
}
