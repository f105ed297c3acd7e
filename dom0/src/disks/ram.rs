//! Disks of Dom0's memory: empty at first, gone with the device.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use driver_api::{BusAddr, Disk, DiskError, DiskInfo, DiskMemory, SECTOR_SIZE, Segment};
use hypercall_abi::PAGE_SIZE;
use pv_guest_lib::pages::{self, Page};

/// Pages in a MiB.
const PAGES_PER_MIB: u64 = (1 << 20) / PAGE_SIZE as u64;
/// Pages of the pool that Dom0 keeps for itself.
const KEPT: u64 = 2048;

/// What Dom0 has promised to disks of memory and not handed out yet, in pages.
#[derive(Default)]
pub struct Promised(Cell<u64>);

/// A disk of memory. A page is taken when it is first used, and found zeroed.
pub struct RamDisk {
    pages: RefCell<Vec<Option<Page>>>,
    /// Pages of this disk that were not taken yet are promised here.
    promised: Rc<Promised>,
    read_only: bool,
}

impl Promised {
    /// Promises so many pages more; false if Dom0 has not that much memory to spare.
    fn add(&self, pages: u64) -> bool {
        let taken = self.0.get().saturating_add(pages);
        let spare = taken <= pages::free_pages().saturating_sub(KEPT);
        if spare {
            self.0.set(taken);
        }
        spare
    }
}

impl RamDisk {
    /// A disk of `mib` MiB; `None` if Dom0 has not that much memory to spare.
    pub fn new(mib: u32, read_only: bool, promised: &Rc<Promised>) -> Option<Self> {
        let disk = RamDisk { pages: RefCell::default(), promised: Rc::clone(promised), read_only };
        disk.grow(mib).then_some(disk)
    }

    /// Makes it `mib` MiB, which is no less than it has; false if Dom0 has not that much memory to spare.
    pub fn grow(&self, mib: u32) -> bool {
        let mut pages = self.pages.borrow_mut();
        let wanted = usize::try_from(u64::from(mib) * PAGES_PER_MIB).unwrap_or(usize::MAX);
        let more = wanted.saturating_sub(pages.len()) as u64;
        let promised = self.promised.add(more);
        if promised {
            pages.resize_with(wanted, || None);
        }
        promised
    }
}

impl DiskMemory for RamDisk {
    fn page(&self, index: u64) -> Option<BusAddr> {
        let mut pages = self.pages.borrow_mut();
        let place = pages.get_mut(usize::try_from(index).ok()?)?;
        if place.is_none() {
            *place = Page::new();
            self.promised.0.update(|promised| promised - u64::from(place.is_some()));
        }
        // Dom0's RAM lies at the same address for devices.
        place.as_ref().map(|page| BusAddr::new(page.ipa().raw()))
    }
}

impl Disk for RamDisk {
    fn info(&self) -> DiskInfo {
        let bytes = self.pages.borrow().len() * PAGE_SIZE;
        DiskInfo {
            sectors: bytes as u64 / u64::from(SECTOR_SIZE),
            logical_block: SECTOR_SIZE,
            physical_block: SECTOR_SIZE,
            read_only: self.read_only,
            flush: false,
            discard: false,
            discard_granularity: 0,
        }
    }

    async fn read(&self, _: u64, _: &[Segment]) -> Result<(), DiskError> {
        // No device reaches it; whoever has both sides copies from `memory`.
        Err(DiskError::Unsupported)
    }

    async fn write(&self, _: u64, _: &[Segment]) -> Result<(), DiskError> {
        Err(DiskError::Unsupported)
    }

    async fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }

    async fn discard(&self, _: u64, _: u64) -> Result<(), DiskError> {
        Err(DiskError::Unsupported)
    }

    fn memory(&self) -> Option<&dyn DiskMemory> {
        Some(self)
    }
}

impl Drop for RamDisk {
    fn drop(&mut self) {
        let untaken = self.pages.borrow().iter().filter(|page| page.is_none()).count() as u64;
        self.promised.0.update(|promised| promised - untaken);
    }
}
