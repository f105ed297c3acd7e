//! The files of `/store`.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use driver_api::sys::Window;
use driver_api::{DmaMemory, SECTOR_SIZE, SectorIo};
use fat32::{FatError, FileSystem};
use pv_guest_lib::addr::{Ipa, IpaRange};

use super::{BOUNCE, PhysicalDisk};
use crate::hal::device_memory;

/// Where the file system is seen.
const ROOT: &str = "/store";
/// The largest file that is read as a whole: configurations, device trees, what `cat` shows.
const WHOLE: usize = 4 << 20;

/// Why a file cannot be used.
#[derive(Debug)]
pub enum FileError {
    /// There is no `/store`.
    NoStore,
    /// The path is outside `/store`.
    Outside,
    /// The file system's answer.
    Fat(FatError),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::NoStore => f.write_str("there is no disk with a /store"),
            FileError::Outside => f.write_str("only files in /store can be used"),
            FileError::Fat(error) => error.fmt(f),
        }
    }
}

impl From<FatError> for FileError {
    fn from(error: FatError) -> Self {
        FileError::Fat(error)
    }
}

/// An entry of a folder.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Bytes of a file.
    pub size: u32,
}

type Volume = FileSystem<SectorIo<Rc<PhysicalDisk>, Window>>;

/// The mounted file system.
pub struct Files {
    volume: Volume,
    disk: Rc<PhysicalDisk>,
    /// For what goes from the disk to somewhere else and is not looked at.
    passage: SectorIo<Rc<PhysicalDisk>, Window>,
}

/// A file that is being read.
pub struct File<'a> {
    file: fat32::File,
    files: &'a Files,
}

impl Files {
    /// Mounts the file system of a disk.
    pub async fn mount(disk: Rc<PhysicalDisk>) -> Result<Self, FatError> {
        let buffer = || device_memory(BOUNCE).ok_or(FatError::TooLarge);
        let volume = FileSystem::mount(SectorIo::new(Rc::clone(&disk), buffer()?)).await?;
        let passage = SectorIo::new(Rc::clone(&disk), buffer()?);
        Ok(Files { volume, disk, passage })
    }

    /// The disk underneath.
    pub fn disk(&self) -> Rc<PhysicalDisk> {
        Rc::clone(&self.disk)
    }

    /// Opens a file that is a disk image.
    pub async fn open(&self, path: &str) -> Result<fat32::File, FileError> {
        Ok(self.volume.open(inside(path)?).await?)
    }

    /// Makes a file larger, with zeros.
    pub async fn grow(&self, path: &str, bytes: u64) -> Result<(), FileError> {
        let size = u32::try_from(bytes).map_err(|_| FatError::TooLarge)?;
        self.volume.truncate(inside(path)?, size).await?;
        Ok(self.volume.sync().await?)
    }

    /// Opens a file to read.
    pub async fn open_to_read(&self, path: &str) -> Result<File<'_>, FileError> {
        Ok(File { file: self.open(path).await?, files: self })
    }

    /// A whole file.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, FileError> {
        Ok(self.volume.read_all(inside(path)?, WHOLE).await?)
    }

    /// Makes a file that is empty, or empties it.
    pub async fn empty(&self, path: &str) -> Result<(), FileError> {
        Ok(self.volume.truncate(inside(path)?, 0).await?)
    }

    /// Writes to a file from `offset` on.
    pub async fn write(&self, path: &str, offset: u32, bytes: &[u8]) -> Result<(), FileError> {
        Ok(self.volume.write(inside(path)?, offset, bytes).await?)
    }

    /// Waits until what was written is on the disk.
    pub async fn sync(&self) -> Result<(), FileError> {
        Ok(self.volume.sync().await?)
    }

    /// What is in a folder, in the order of names; or the file itself.
    pub async fn list(&self, path: &str) -> Result<Vec<Listed>, FileError> {
        let path = inside(path)?;
        let listed = |entry: fat32::Entry| Listed { name: entry.name, is_dir: entry.is_dir, size: entry.size };
        match self.volume.lookup(path).await? {
            Some(file) if !file.is_dir => Ok(alloc::vec![listed(file)]),
            Some(_) | None => {
                let mut entries: Vec<_> = self.volume.list(path).await?.into_iter().map(listed).collect();
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(entries)
            }
        }
    }
}

impl File<'_> {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        u64::from(self.file.size())
    }

    /// Reads from `offset` on until the buffer is full or the file ends; says how much that is.
    pub async fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, FileError> {
        let Ok(offset) = u32::try_from(offset) else { return Ok(0) };
        Ok(self.files.volume.read(&self.file, offset, buffer).await?)
    }

    /// Hands the whole file on, piece by piece, as it lies in memory: `take` gets where in the file a piece begins, and
    /// where it is. What `take` fails with ends it.
    pub async fn pass_on<E>(
        &self,
        mut take: impl FnMut(u64, IpaRange) -> Result<(), E>,
    ) -> Result<Result<(), E>, FileError> {
        let mut at = 0;
        for extent in self.file.extents() {
            let (mut sector, end) = (extent.start, extent.start + extent.sectors);
            while sector < end && at < self.size() {
                let len = ((end - sector) * u64::from(SECTOR_SIZE)).min(BOUNCE as u64);
                let there = len.min(self.size() - at);
                let passed = self.files.passage.read_and(sector, usize::try_from(len).unwrap_or(0), |buffer| {
                    // Dom0's RAM lies at the same address for devices.
                    let start = Ipa::new(DmaMemory::bus_addr(buffer).raw());
                    IpaRange::new(start, there).map_or(Ok(()), |piece| take(at, piece))
                });
                if let Err(error) = passed.await.map_err(FatError::Disk)? {
                    return Ok(Err(error));
                }
                at += there;
                sector += len / u64::from(SECTOR_SIZE);
            }
        }
        Ok(Ok(()))
    }
}

/// The path as the file system has it.
fn inside(path: &str) -> Result<&str, FileError> {
    match path.strip_prefix(ROOT) {
        Some("") => Ok("/"),
        Some(rest) if rest.starts_with('/') => Ok(rest),
        Some(_) | None => Err(FileError::Outside),
    }
}
