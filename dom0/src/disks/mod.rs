//! Dom0's disks, and what guests get of them: a whole disk, a partition, a file in `/store`, or memory.

mod files;
mod physical;
mod ram;
mod virtual_disk;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::{Rc, Weak};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;

use dom0_core::claims::Claims;
use dom0_core::disk::Target;
use driver_api::{Disk, DiskView, SECTOR_SIZE, ViewError};

use crate::backends::DeviceId;
use crate::tasks::Tasks;

pub use files::{File, FileError, Listed};
pub use physical::PhysicalDisk;
pub use virtual_disk::VirtualDisk;

use files::Files;
use ram::{Promised, RamDisk};
use virtual_disk::{Extent, Kind, Opened, Part, View};

/// Bytes moved at once between a disk and Dom0 itself.
const BOUNCE: usize = 256 * 1024;

/// Why a virtual disk cannot be opened or made larger.
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
    /// Its size is not Dom0's to change.
    Fixed,
    /// It would not be larger, and a guest may use every sector that it has.
    NotLarger,
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
            OpenError::Fixed => {
                f.write_str("only disks of files and of memory can be made larger; others follow theirs")
            }
            OpenError::NotLarger => f.write_str("the size is not larger than the one that it has"),
        }
    }
}

/// The disks that Dom0 drives, and the file system on one of them.
pub struct Disks {
    physical: Vec<Rc<PhysicalDisk>>,
    files: Option<Files>,
    claims: Rc<Claims<DeviceId>>,
    promised: Rc<Promised>,
    /// What devices use now.
    opened: RefCell<BTreeMap<DeviceId, (Target, Weak<Opened>)>>,
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
        let (claims, promised, opened) = (Rc::default(), Rc::default(), RefCell::default());
        Disks { physical, files, claims, promised, opened }
    }

    /// Opens a virtual disk for a device. Disks that are written have one user.
    pub async fn open(&self, target: &Target, read_only: bool, user: DeviceId) -> Result<VirtualDisk, OpenError> {
        let claim = |disk: &PhysicalDisk, extents| {
            let name = target.to_string();
            let claim = Claims::take(&self.claims, &name, (&disk.name, extents), read_only, user);
            claim.ok_or(OpenError::InUse(name))
        };
        let kind = match target {
            Target::Ram(mib) => {
                let disk = RamDisk::new(*mib, read_only, &self.promised);
                Kind::Ram(disk.ok_or(OpenError::NoMemory(*mib))?)
            }
            Target::Whole(name) => {
                let disk = self.by_name(name)?;
                // Dom0 writes there itself.
                if !read_only && self.files.as_ref().is_some_and(|files| Rc::ptr_eq(&files.disk(), &disk)) {
                    return Err(OpenError::InUse(target.to_string()));
                }
                let claim = claim(&disk, vec![driver_api::Extent { start: 0, sectors: u64::MAX }])?;
                let view = DiskView::whole(Rc::clone(&disk), read_only);
                Kind::Part(Part::new(view, Extent::Disk(disk), read_only, claim))
            }
            Target::Partition { disk, number } => {
                let physical = self.by_name(disk)?;
                let table = gpt::read(&physical.sectors).await;
                let table = table.map_err(|error| OpenError::Partitions(disk.clone(), error))?;
                let found = table.iter().find(|partition| partition.number == *number);
                let partition = found.ok_or_else(|| OpenError::NoPartition(disk.clone(), *number))?;
                let claim = claim(&physical, vec![partition.extent])?;
                let view = DiskView::new(physical, &[partition.extent], read_only).map_err(OpenError::View)?;
                Kind::Part(Part::new(view, Extent::Partition, read_only, claim))
            }
            Target::File(path) => {
                let (disk, view, file) = self.open_image(path, read_only).await?;
                let claim = claim(&disk, file.extents().to_vec())?;
                Kind::Part(Part::new(view, Extent::File(file), read_only, claim))
            }
        };
        let disk = VirtualDisk::new(kind);
        let mut opened = self.opened.borrow_mut();
        opened.retain(|_, (_, disk)| disk.strong_count() != 0);
        opened.insert(user, (target.clone(), Rc::downgrade(disk.opened())));
        Ok(disk)
    }

    /// Opens a file of `/store` as a disk.
    async fn open_image(
        &self,
        path: &str,
        read_only: bool,
    ) -> Result<(Rc<PhysicalDisk>, View, fat32::File), OpenError> {
        let failed = |error| OpenError::File(path.to_string(), error);
        let files = self.files().map_err(failed)?;
        let file = files.open(path).await.map_err(failed)?;
        let disk = files.disk();
        let mut view = DiskView::new(Rc::clone(&disk), file.extents(), read_only).map_err(OpenError::View)?;
        view.truncate(file.sectors());
        Ok((disk, view, file))
    }

    /// Makes the disk of a device larger, to `kib` KiB; what is new reads as zeros. The front end hears of it.
    pub async fn resize(&self, user: DeviceId, kib: u64) -> Result<(), OpenError> {
        let found = self.opened.borrow().get(&user).cloned();
        let (target, disk) =
            found.and_then(|(target, disk)| Some((target, disk.upgrade()?))).ok_or(OpenError::Fixed)?;
        let disk = VirtualDisk::from_opened(disk);
        let bytes = kib.saturating_mul(1024);
        if bytes <= disk.info().sectors * u64::from(SECTOR_SIZE) {
            return Err(OpenError::NotLarger);
        }
        match target {
            Target::Ram(_) => disk.grow_memory(u32::try_from(kib.div_ceil(1024)).unwrap_or(u32::MAX)),
            Target::File(path) => {
                let failed = |error| OpenError::File(path.clone(), error);
                self.files().map_err(failed)?.grow(&path, bytes).await.map_err(failed)?;
                let (_, view, file) = self.open_image(&path, disk.is_read_only()).await?;
                disk.replace_file(view, file);
                Ok(())
            }
            Target::Whole(_) | Target::Partition { .. } => Err(OpenError::Fixed),
        }
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

    /// Makes a file of `/store` that is empty, or empties it.
    pub async fn empty_file(&self, path: &str) -> Result<(), FileError> {
        self.files()?.empty(path).await
    }

    /// Writes to a file of `/store` from `offset` on.
    pub async fn write_file(&self, path: &str, offset: u32, bytes: &[u8]) -> Result<(), FileError> {
        self.files()?.write(path, offset, bytes).await
    }

    /// Waits until what was written to files of `/store` is on the disk.
    pub async fn sync_files(&self) -> Result<(), FileError> {
        self.files()?.sync().await
    }

    /// What is in a folder of `/store`, or the one file that the path names.
    pub async fn list(&self, path: &str) -> Result<Vec<Listed>, FileError> {
        self.files()?.list(path).await
    }
}

/// The name of disk `index`: vda, vdb, and on to vdz.
fn disk_name(index: usize) -> String {
    let letter = u8::try_from(index).map_or('z', |index| char::from(b'a'.saturating_add(index).min(b'z')));
    format!("vd{letter}")
}
