//! Disks.

use pv_guest_lib::blk::BlkError;
use pv_guest_lib::executor::block_on;

use super::guest::context;
use super::{bytes, bytes_mut};
use crate::disks;
use crate::errors::status;

/// What the back end says of a disk.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct pv_disk {
    /// Size in units of 512 bytes.
    pub sectors: u64,
    /// Bytes of a sector; what is read and written is a multiple of it.
    pub sector_size: u32,
    /// 1 when writes are refused, else 0.
    pub read_only: u32,
}

/// Opens the disk number `index`, from 0, and fills in what it is.
///
/// # Safety
/// `info` must be null or point to a structure to be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pv_disk_open(index: u32, info: *mut pv_disk) -> i64 {
    let opened = block_on(async {
        let context = context()?;
        disks::open(context.spawner, context.store, index).await?.info()
    });
    // SAFETY: the caller's promise.
    if let (Ok(found), Some(info)) = (&opened, unsafe { info.as_mut() }) {
        *info =
            pv_disk { sectors: found.sectors, sector_size: found.sector_size, read_only: u32::from(found.read_only) };
    }
    status(opened.map(drop))
}

/// Reads `length` bytes from the 512-byte sector `sector` on.
///
/// # Safety
/// `buffer` must have `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pv_disk_read(index: u32, sector: u64, buffer: *mut u8, length: usize) -> i64 {
    // SAFETY: the caller's promise.
    let buffer = unsafe { bytes_mut(buffer, length) };
    status::<BlkError>(block_on(async { disks::get(index)?.read(sector, buffer).await }))
}

/// Writes `length` bytes from the 512-byte sector `sector` on.
///
/// # Safety
/// `data` must have `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pv_disk_write(index: u32, sector: u64, data: *const u8, length: usize) -> i64 {
    // SAFETY: the caller's promise.
    let data = unsafe { bytes(data, length) };
    status::<BlkError>(block_on(async { disks::get(index)?.write(sector, data).await }))
}

/// Waits until what was written is on the disk itself.
#[unsafe(no_mangle)]
pub extern "C" fn pv_disk_flush(index: u32) -> i64 {
    status::<BlkError>(block_on(async { disks::get(index)?.flush().await }))
}
