//! Dom0's disks, and what guests get of them: a whole disk, a partition, a file in `/store`, or memory.

mod claims;
mod files;
mod physical;
mod ram;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use dom0_core::disk::Target;
use driver_api::{Disk, DiskError, DiskInfo, DiskMemory, DiskView, Segment, ViewError};

use crate::backends::DeviceId;
use crate::tasks::Tasks;
use claims::{Claim, Claims};

pub use files::{File, FileError, Listed};
pub use physical::PhysicalDisk;

use files::Files;
use ram::{Promised, RamDisk};

/// Bytes moved at once between a disk and Dom0 itself.
const BOUNCE: usize = 256 * 1024;

/// Why a virtual disk cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// There is no such disk.
    NoDisk(String),
    /// The disk has no such partition.
    NoPartition(String, u32),
    /// The disk's partition table cannot be read.
    Partitions(String, gpt::GptError),
    /// The file cannot be opened.
    File(String, FileError),
    /// Somebody else uses it, and one of the two would write.
    InUse(String),
    /// Its place on the disk makes no sense.
    View(ViewError),
    /// Dom0 has not so many MiB to spare.
    NoMemory(u32),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NoDisk(name) => write!(f, "'/dev/{name}': there is no such disk"),
            OpenError::NoPartition(name, number) => write!(f, "'/dev/{name}{number}': there is no such partition"),
            OpenError::Partitions(name, error) => write!(f, "'/dev/{name}': {error}"),
            OpenError::File(path, error) => write!(f, "'{path}': {error}"),
            OpenError::InUse(target) => write!(f, "'{target}' is in use already"),
            OpenError::View(error) => error.fmt(f),
            OpenError::NoMemory(mib) => write!(f, "Dom0 has no {mib} MiB of memory to spare"),
        }
    }
}

/// The disks that Dom0 drives, and the file system on one of them.
pub struct Disks {
    physical: Vec<Rc<PhysicalDisk>>,
    files: Option<Files>,
    claims: Rc<Claims>,
    promised: Rc<Promised>,
}

impl Disks {
    /// Finds the disks that the device tree names, and mounts `/store`: the disk whose serial number is `store`, else
    /// the first that holds a FAT32 file system.
    pub async fn find(fdt: &'static [u8], tasks: &Rc<Tasks>) -> Self {
        let physical = physical::find(fdt, tasks).await;
        let mut files = None;
        for disk in &physical {
            match Files::mount(Rc::clone(disk)).await {
                Ok(mounted) => {
                    log::info!("/store is on {}", disk.name);
                    files = Some(mounted);
                    break;
                }
                Err(error) if disk.is_store => log::error!("/store cannot be mounted from {}: {error}", disk.name),
                Err(_) => {}
            }
        }
        Disks { physical, files, claims: Rc::default(), promised: Rc::default() }
    }

    /// Opens a virtual disk for a device. Disks that are written have one user.
    pub async fn open(&self, target: &Target, read_only: bool, user: DeviceId) -> Result<VirtualDisk, OpenError> {
        let claim = || {
            let claim = Claims::take(&self.claims, target.to_string(), read_only, user);
            claim.ok_or_else(|| OpenError::InUse(target.to_string()))
        };
        let opened = match target {
            Target::Ram(mib) => {
                let disk = RamDisk::new(*mib, read_only, &self.promised);
                Opened::Ram(disk.ok_or(OpenError::NoMemory(*mib))?)
            }
            Target::Whole(name) => {
                Opened::Part { claim: claim()?, view: DiskView::whole(self.by_name(name)?, read_only), file: None }
            }
            Target::Partition { disk, number } => {
                let (claim, physical) = (claim()?, self.by_name(disk)?);
                let table = gpt::read(&physical.sectors).await;
                let table = table.map_err(|error| OpenError::Partitions(disk.clone(), error))?;
                let found = table.iter().find(|partition| partition.number == *number);
                let partition = found.ok_or_else(|| OpenError::NoPartition(disk.clone(), *number))?;
                let view = DiskView::new(physical, &[partition.extent], read_only).map_err(OpenError::View)?;
                Opened::Part { claim, view, file: None }
            }
            Target::File(path) => {
                let claim = claim()?;
                let failed = |error| OpenError::File(path.clone(), error);
                let files = self.files.as_ref().ok_or(FileError::NoStore).map_err(failed)?;
                let file = files.open(path).await.map_err(failed)?;
                let mut view = DiskView::new(files.disk(), file.extents(), read_only).map_err(OpenError::View)?;
                view.truncate(file.sectors());
                Opened::Part { claim, view, file: Some(file) }
            }
        };
        Ok(VirtualDisk(Rc::new(opened)))
    }

    fn by_name(&self, name: &str) -> Result<Rc<PhysicalDisk>, OpenError> {
        let found = self.physical.iter().find(|disk| disk.name == name);
        found.cloned().ok_or_else(|| OpenError::NoDisk(name.to_string()))
    }

    fn files(&self) -> Result<&Files, FileError> {
        self.files.as_ref().ok_or(FileError::NoStore)
    }

    /// Opens a file of `/store`.
    pub async fn open_file(&self, path: &str) -> Result<File<'_>, FileError> {
        self.files()?.open_to_read(path).await
    }

    /// A whole file of `/store`, of a few MiB at most.
    pub async fn read_file(&self, path: &str) -> Result<Vec<u8>, FileError> {
        self.files()?.read(path).await
    }

    /// What is in a folder of `/store`, or the one file that the path names.
    pub async fn list(&self, path: &str) -> Result<Vec<Listed>, FileError> {
        self.files()?.list(path).await
    }
}

/// A disk of a guest. Clones are the same disk.
#[derive(Clone)]
pub struct VirtualDisk(Rc<Opened>);

/// What a disk of a guest is.
enum Opened {
    /// A part of a disk of the machine.
    Part {
        view: DiskView<Rc<PhysicalDisk>>,
        /// Keeps the file's clusters where they are.
        #[expect(dead_code, reason = "held, not read")]
        file: Option<fat32::File>,
        /// Keeps others from writing.
        #[expect(dead_code, reason = "held, not read")]
        claim: Claim,
    },
    /// Memory.
    Ram(RamDisk),
}

impl Disk for VirtualDisk {
    fn info(&self) -> DiskInfo {
        match &*self.0 {
            Opened::Part { view, .. } => view.info(),
            Opened::Ram(disk) => disk.info(),
        }
    }

    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        match &*self.0 {
            Opened::Part { view, .. } => view.read(sector, segments).await,
            Opened::Ram(disk) => disk.read(sector, segments).await,
        }
    }

    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        match &*self.0 {
            Opened::Part { view, .. } => view.write(sector, segments).await,
            Opened::Ram(disk) => disk.write(sector, segments).await,
        }
    }

    async fn flush(&self) -> Result<(), DiskError> {
        match &*self.0 {
            Opened::Part { view, .. } => view.flush().await,
            Opened::Ram(disk) => disk.flush().await,
        }
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        match &*self.0 {
            Opened::Part { view, .. } => view.discard(sector, count).await,
            Opened::Ram(disk) => disk.discard(sector, count).await,
        }
    }

    fn memory(&self) -> Option<&dyn DiskMemory> {
        match &*self.0 {
            Opened::Part { .. } => None,
            Opened::Ram(disk) => disk.memory(),
        }
    }
}

/// The name of disk `index`: vda, vdb, and on to vdz.
fn disk_name(index: usize) -> String {
    let letter = u8::try_from(index).map_or('z', |index| char::from(b'a'.saturating_add(index).min(b'z')));
    format!("vd{letter}")
}
