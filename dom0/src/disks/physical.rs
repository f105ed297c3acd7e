//! The machine's disks: virtio-blk behind virtio-mmio, as QEMU's `virt` has them.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use driver_api::sys::Window;
use driver_api::{Disk, DiskError, DiskInfo, SectorIo, Segment};
use pv_guest_lib::addr::IpaRange;
use pv_guest_lib::irq::{Line, Mode};
use virtio_blk::sys::MmioRegion;
use virtio_blk::{InitError, VirtioBlk};

use super::disk_name;
use crate::fdt::virtio_slots;
use crate::hal::{device_memory, map_device};
use crate::sys;
use crate::tasks::Tasks;

/// The serial number of the disk that holds `/store`.
const STORE_SERIAL: &str = "store";
/// Slots of virtio-mmio that are looked at; QEMU's `virt` has 32.
const SLOTS: usize = 32;

/// Interrupt lines are awaited through statics, one for each slot.
static LINES: [Line; SLOTS] = [const { Line::new() }; SLOTS];

/// A disk of the machine.
pub struct PhysicalDisk {
    /// Its name, such as `vda`.
    pub name: String,
    /// Whether the serial number says that it is for `/store`.
    pub is_store: bool,
    /// For its partition table: small reads by Dom0 itself.
    pub sectors: SectorIo<Rc<Device>, Window>,
}

/// The driver, for the one kind of disk that there is.
pub type Device = VirtioBlk<MmioRegion, Window>;

/// Finds all disks. The one for `/store` comes first and is `vda`; the others follow in the order of their addresses.
pub async fn find(fdt: &'static [u8], tasks: &Rc<Tasks>) -> Vec<Rc<PhysicalDisk>> {
    let mut found = Vec::new();
    for ((range, intid), line) in virtio_slots(fdt).into_iter().zip(&LINES) {
        let Some(device) = open(range) else { continue };
        if let Err(error) = line.bind(intid, Mode::Edge) {
            log::error!("virtio-blk at {:?}: interrupt {intid}: {error:?}", range.start());
            continue;
        }
        let disk = Rc::new(device);
        let waiting = Rc::clone(&disk);
        tasks.spawn(async move {
            loop {
                line.wait().await;
                waiting.on_interrupt();
            }
        });
        let serial = disk.serial().await.map_or_else(|_| String::new(), |id| text(&id));
        found.push((disk, serial));
    }
    found.sort_by_key(|(_, serial)| serial != STORE_SERIAL);
    let disks = found.into_iter().enumerate();
    disks
        .filter_map(|(index, (device, serial))| {
            let sectors = SectorIo::new(device, device_memory(hypercall_abi::PAGE_SIZE)?);
            Some(Rc::new(PhysicalDisk { name: disk_name(index), is_store: serial == STORE_SERIAL, sectors }))
        })
        .collect()
}

fn open(range: IpaRange) -> Option<Device> {
    map_device(range)?;
    let memory = device_memory(Device::MEMORY)?;
    match VirtioBlk::new(sys::virtio_registers(range)?, memory) {
        Ok(device) => Some(device),
        Err(InitError::NotADisk(_)) => None,
        Err(error) => {
            log::error!("virtio-blk at {:?}: {error}", range.start());
            None
        }
    }
}

fn text(id: &[u8]) -> String {
    let end = id.iter().position(|byte| *byte == 0).unwrap_or(id.len());
    String::from_utf8_lossy(id.get(..end).unwrap_or_default()).to_string()
}

impl Disk for PhysicalDisk {
    fn info(&self) -> DiskInfo {
        self.sectors.disk().info()
    }

    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        self.sectors.disk().read(sector, segments).await
    }

    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        self.sectors.disk().write(sector, segments).await
    }

    async fn flush(&self) -> Result<(), DiskError> {
        self.sectors.disk().flush().await
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        self.sectors.disk().discard(sector, count).await
    }
}
