//! The file system over memory: against a model, against `fatfs`, and over damaged images.

mod check;
mod damaged;
mod interop;
mod model;
mod rules;

use alloc::rc::Rc;
use core::cell::RefCell;

use driver_api::{DiskError, DiskInfo, Sectors};
use embassy_futures::block_on;

use crate::FileSystem;

/// A disk in memory that can be looked at while it is mounted.
#[derive(Clone)]
pub struct Ram(pub Rc<RefCell<Vec<u8>>>);

impl Ram {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Rc::new(RefCell::new(bytes)))
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.borrow().clone()
    }
}

impl Sectors for Ram {
    fn info(&self) -> DiskInfo {
        DiskInfo {
            sectors: self.0.borrow().len() as u64 / 512,
            logical_block: 512,
            physical_block: 512,
            read_only: false,
            flush: true,
            discard: false,
            discard_granularity: 512,
        }
    }

    async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), DiskError> {
        let start = usize::try_from(sector).unwrap() * 512;
        let disk = self.0.borrow();
        let from = disk.get(start..start + data.len()).ok_or(DiskError::OutOfRange)?;
        data.copy_from_slice(from);
        Ok(())
    }

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        let start = usize::try_from(sector).unwrap() * 512;
        let mut disk = self.0.borrow_mut();
        let to = disk.get_mut(start..start + data.len()).ok_or(DiskError::OutOfRange)?;
        to.copy_from_slice(data);
        Ok(())
    }

    async fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

pub const RESERVED: usize = 4;

/// An empty volume of `clusters` clusters of 512 bytes with two tables, made by hand so that it can be tiny.
pub fn tiny(clusters: usize) -> Vec<u8> {
    let table = ((clusters + 2) * 4).div_ceil(512);
    let total = RESERVED + 2 * table + clusters;
    let mut disk = vec![0u8; total * 512];
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, 0x58, 0x90]);
    put(11, &512u16.to_le_bytes());
    put(13, &[1]);
    put(14, &u16::try_from(RESERVED).unwrap().to_le_bytes());
    put(16, &[2]);
    put(21, &[0xf8]);
    put(32, &u32::try_from(total).unwrap().to_le_bytes());
    put(36, &u32::try_from(table).unwrap().to_le_bytes());
    put(44, &2u32.to_le_bytes());
    put(48, &1u16.to_le_bytes());
    put(510, &[0x55, 0xaa]);
    put(512, b"RRaA");
    put(512 + 484, b"rrAa");
    put(512 + 488, &u32::try_from(clusters - 1).unwrap().to_le_bytes());
    put(512 + 492, &3u32.to_le_bytes());
    put(512 + 510, &[0x55, 0xaa]);
    for copy in 0..2 {
        let at = (RESERVED + copy * table) * 512;
        for (index, entry) in [0x0fff_fff8u32, 0x0fff_ffff, 0x0fff_ffff].into_iter().enumerate() {
            put(at + index * 4, &entry.to_le_bytes());
        }
    }
    disk
}

/// Mounts a tiny volume.
pub fn mounted(clusters: usize) -> (Ram, FileSystem<Ram>) {
    let ram = Ram::new(tiny(clusters));
    let fs = block_on(FileSystem::mount(ram.clone())).unwrap();
    (ram, fs)
}

/// Content that differs everywhere and from file to file.
pub fn pattern(seed: u32, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| {
            let mixed = (at as u64 ^ u64::from(seed) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed.to_be_bytes()[0]
        })
        .collect()
}
