//! What a transfer moves between a guest's pages and a disk that is memory of the host.

use alloc::vec::Vec;

use driver_api::{DiskMemory, PAGE_SIZE, PageCopy, SECTOR_SIZE};
use hypercall_abi::blkif::{BlkStatus, Segment};

use crate::request::sectors_of;

/// Bytes of a page, as disks count them.
const PAGE: u64 = PAGE_SIZE as u64;

/// Appends the copies for `segments`, which stand from `sector` on the disk: one for each, or two where the disk goes on in
/// another page.
///
/// # Errors
/// The host has no memory for a page of the disk.
pub fn copies(
    memory: &dyn DiskMemory,
    sector: u64,
    segments: &[Segment],
    into: &mut Vec<PageCopy>,
) -> Result<(), BlkStatus> {
    let short = |value: u64| u16::try_from(value).map_err(|_| BlkStatus::Error);
    let mut at = sector * u64::from(SECTOR_SIZE);
    for segment in segments {
        let (first, sectors) = sectors_of(segment)?;
        let mut offset = u64::from(first) * u64::from(SECTOR_SIZE);
        let mut left = u64::from(sectors) * u64::from(SECTOR_SIZE);
        while left > 0 {
            let own = memory.page(at / PAGE).ok_or(BlkStatus::Error)?;
            let len = left.min(PAGE - at % PAGE);
            let (offset_now, own_offset) = (short(offset)?, short(at % PAGE)?);
            into.push(PageCopy { granted: segment.gref, offset: offset_now, own, own_offset, len: short(len)? });
            (at, offset, left) = (at + len, offset + len, left - len);
        }
    }
    Ok(())
}
