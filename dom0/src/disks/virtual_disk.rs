//! A disk of a guest: a part of a disk of the machine, or memory.

use alloc::rc::Rc;
use core::cell::RefCell;

use dom0_core::claims::Claim;
use driver_api::{Disk, DiskError, DiskInfo, DiskMemory, DiskView, Segment};
use embassy_futures::select::select;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;

use super::ram::RamDisk;
use super::{OpenError, PhysicalDisk};
use crate::backends::DeviceId;

/// What a part of a disk is seen through.
pub(super) type View = DiskView<Rc<PhysicalDisk>>;

/// A disk of a guest. Clones are the same disk.
#[derive(Clone)]
pub struct VirtualDisk(Rc<Opened>);

/// What was opened.
pub(super) struct Opened {
    kind: Kind,
    /// It was made larger.
    grown: Signal<NoopRawMutex, ()>,
}

/// What a disk of a guest is.
pub(super) enum Kind {
    /// A part of a disk of the machine.
    Part(Part),
    /// Memory.
    Ram(RamDisk),
}

/// A part of a disk of the machine.
pub(super) struct Part {
    /// Another one takes its place when the part grows; requests keep the one that they began with.
    view: RefCell<Rc<View>>,
    extent: RefCell<Extent>,
    read_only: bool,
    /// Keeps others from writing.
    claim: Claim<DeviceId>,
}

/// How far a part reaches.
pub(super) enum Extent {
    /// As far as the disk does, now and later.
    Disk(Rc<PhysicalDisk>),
    /// As far as the partition table says.
    Partition,
    /// As far as the file does, whose clusters stay where they are.
    File(#[expect(dead_code, reason = "held, not read")] fat32::File),
}

impl Part {
    /// What is seen through `view`.
    pub(super) fn new(view: View, extent: Extent, read_only: bool, claim: Claim<DeviceId>) -> Self {
        Part { view: RefCell::new(Rc::new(view)), extent: RefCell::new(extent), read_only, claim }
    }

    fn view(&self) -> Rc<View> {
        Rc::clone(&self.view.borrow())
    }
}

impl VirtualDisk {
    pub(super) fn new(kind: Kind) -> Self {
        VirtualDisk(Rc::new(Opened { kind, grown: Signal::new() }))
    }

    pub(super) fn from_opened(opened: Rc<Opened>) -> Self {
        VirtualDisk(opened)
    }

    pub(super) fn opened(&self) -> &Rc<Opened> {
        &self.0
    }

    /// Waits until it has another size. One at a time may wait.
    pub async fn resized(&self) {
        let of_disk = async {
            match &self.0.kind {
                Kind::Part(part) => part.follow().await,
                Kind::Ram(_) => core::future::pending().await,
            }
        };
        select(self.0.grown.wait(), of_disk).await;
    }

    /// Whether guests may not write it.
    pub(super) fn is_read_only(&self) -> bool {
        self.info().read_only
    }

    /// Its memory, if that is what it is, gets `mib` MiB.
    ///
    /// # Errors
    /// It is a part of a disk, or Dom0 has not so much to spare.
    pub(super) fn grow_memory(&self, mib: u32) -> Result<(), OpenError> {
        let Kind::Ram(disk) = &self.0.kind else { return Err(OpenError::Fixed) };
        if !disk.grow(mib) {
            return Err(OpenError::NoMemory(mib));
        }
        self.0.grown.signal(());
        Ok(())
    }

    /// Its file has grown.
    pub(super) fn replace_file(&self, view: View, file: fat32::File) {
        if let Kind::Part(part) = &self.0.kind {
            part.claim.replace(file.extents().to_vec());
            *part.view.borrow_mut() = Rc::new(view);
            *part.extent.borrow_mut() = Extent::File(file);
            self.0.grown.signal(());
        }
    }
}

impl Part {
    /// Waits until the disk that this is all of has another size, and takes it on.
    async fn follow(&self) {
        let disk = match &*self.extent.borrow() {
            Extent::Disk(disk) => Some(Rc::clone(disk)),
            Extent::Partition | Extent::File(_) => None,
        };
        let Some(disk) = disk else { return core::future::pending().await };
        let known = self.view().info().sectors;
        disk.sectors.disk().resized(known).await;
        *self.view.borrow_mut() = Rc::new(DiskView::whole(disk, self.read_only));
    }
}

impl Disk for VirtualDisk {
    fn info(&self) -> DiskInfo {
        match &self.0.kind {
            Kind::Part(part) => part.view().info(),
            Kind::Ram(disk) => disk.info(),
        }
    }

    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        match &self.0.kind {
            Kind::Part(part) => part.view().read(sector, segments).await,
            Kind::Ram(disk) => disk.read(sector, segments).await,
        }
    }

    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        match &self.0.kind {
            Kind::Part(part) => part.view().write(sector, segments).await,
            Kind::Ram(disk) => disk.write(sector, segments).await,
        }
    }

    async fn flush(&self) -> Result<(), DiskError> {
        match &self.0.kind {
            Kind::Part(part) => part.view().flush().await,
            Kind::Ram(disk) => disk.flush().await,
        }
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        match &self.0.kind {
            Kind::Part(part) => part.view().discard(sector, count).await,
            Kind::Ram(disk) => disk.discard(sector, count).await,
        }
    }

    fn memory(&self) -> Option<&dyn DiskMemory> {
        match &self.0.kind {
            Kind::Part(_) => None,
            Kind::Ram(disk) => disk.memory(),
        }
    }
}
