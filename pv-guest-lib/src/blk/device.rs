//! The ecosystem's trait for block devices, so that file systems take a [`Disk`] as it is.

use aligned::{A1, Aligned};
use block_device_driver::{BlockDevice, blocks_to_slice, blocks_to_slice_mut};
use hypercall_abi::blkif::SECTOR_SIZE;

use super::{BlkError, Disk};

/// Blocks are the interface's sectors of 512 bytes. A disk with larger sectors refuses what is not a multiple of
/// them, as [`Disk::read`] does.
impl BlockDevice<SECTOR_SIZE> for Disk {
    type Error = BlkError;
    type Align = A1;

    async fn read(&mut self, block: u32, data: &mut [Aligned<A1, [u8; SECTOR_SIZE]>]) -> Result<(), BlkError> {
        Disk::read(self, u64::from(block), blocks_to_slice_mut(data)).await
    }

    async fn write(&mut self, block: u32, data: &[Aligned<A1, [u8; SECTOR_SIZE]>]) -> Result<(), BlkError> {
        Disk::write(self, u64::from(block), blocks_to_slice(data)).await
    }

    async fn size(&mut self) -> Result<u64, BlkError> {
        Ok(self.info()?.sectors.saturating_mul(SECTOR_SIZE as u64))
    }
}
