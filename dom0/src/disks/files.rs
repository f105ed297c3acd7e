//! The files of `/store`.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use driver_api::sys::Window;
use driver_api::{DmaMemory, SECTOR_SIZE, SectorIo};
use embassy_futures::join::join;
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
    /// For what goes from the disk to somewhere else and is not looked at: one is filled while the other is emptied.
    passages: [SectorIo<Rc<PhysicalDisk>, Window>; 2],
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
        let passage = || buffer().map(|buffer| SectorIo::new(Rc::clone(&disk), buffer));
        let passages = [passage()?, passage()?];
        Ok(Files { volume, disk, passages })
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
    /// where it is. While it works on one, the disk brings the next. What `take` fails with ends it.
    pub async fn pass_on<E>(
        &self,
        take: impl FnMut(u64, IpaRange) -> Result<(), E>,
    ) -> Result<Result<(), E>, FileError> {
        let (pieces, take) = (RefCell::new(self.pieces()), RefCell::new(take));
        let [first, second] = &self.files.passages;
        // Neither is left before its read has ended: the disk may be writing to its buffer.
        let (one, other) = join(carry(first, &pieces, &take), carry(second, &pieces, &take)).await;
        Ok(one?.and(other?))
    }

    /// The file in pieces that fit a buffer.
    fn pieces(&self) -> impl Iterator<Item = Piece> {
        const MOST: u64 = BOUNCE as u64 / SECTOR_SIZE as u64;
        let size = self.size();
        let parts = self.file.extents().iter().flat_map(|extent| {
            let pieces = extent.sectors.div_ceil(MOST);
            (0..pieces).map(move |n| (extent.start + n * MOST, MOST.min(extent.sectors - n * MOST)))
        });
        parts.scan(0, move |at, (sector, sectors)| {
            let (start, bytes) = (*at, sectors * u64::from(SECTOR_SIZE));
            *at += bytes;
            (start < size).then(|| Piece { sector, bytes, start, len: bytes.min(size - start) })
        })
    }
}

/// A piece of a file, in one place on the disk.
struct Piece {
    /// Its first sector.
    sector: u64,
    /// Bytes in whole sectors.
    bytes: u64,
    /// Where in the file it begins.
    start: u64,
    /// Bytes of the file.
    len: u64,
}

/// Reads pieces of a file and hands them on, for as long as there are any and none fails.
async fn carry<E>(
    passage: &SectorIo<Rc<PhysicalDisk>, Window>,
    pieces: &RefCell<impl Iterator<Item = Piece>>,
    take: &RefCell<impl FnMut(u64, IpaRange) -> Result<(), E>>,
) -> Result<Result<(), E>, FileError> {
    loop {
        let next = pieces.borrow_mut().next();
        let Some(Piece { sector, bytes, start, len }) = next else { return Ok(Ok(())) };
        let passed = passage.read_and(sector, usize::try_from(bytes).unwrap_or(0), |buffer| {
            // Dom0's RAM lies at the same address for devices.
            let place = IpaRange::new(Ipa::new(DmaMemory::bus_addr(buffer).raw()), len);
            place.map_or(Ok(()), |place| (*take.borrow_mut())(start, place))
        });
        let passed = passed.await.map_err(|error| FileError::Fat(FatError::Disk(error)));
        if !matches!(passed, Ok(Ok(()))) {
            // Nor is there more to do for anybody else.
            pieces.borrow_mut().by_ref().for_each(drop);
            return passed;
        }
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
