//! Reading and writing a disk from the CPU, through a buffer of our own.
//!
//! File systems and partition tables want bytes; a disk wants bus addresses that stay valid for as long
//! as the device may write them. An owned buffer gives both: it lives in this object, and a request
//! whose future is dropped half way marks it unusable until the device has let go of it.

use core::cell::Cell;

use crate::{Disk, DiskError, DiskInfo, DmaMemory, SECTOR_SIZE, Segment, WaitQueue};

/// Whether the bounce buffer may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bounce {
    Free,
    /// A request uses it. If its future was dropped, it stays so: the device may still be writing.
    Busy,
}

/// A disk with a bounce buffer: byte-slice access, one request at a time.
pub struct SectorIo<D, B> {
    disk: D,
    buffer: B,
    state: Cell<Bounce>,
    turn: WaitQueue,
}

impl<D: Disk, B: DmaMemory> SectorIo<D, B> {
    /// Serves `disk` through `buffer`, whose length (whole sectors of it) bounds one transfer.
    pub fn new(disk: D, buffer: B) -> Self {
        Self {
            disk,
            buffer,
            state: Cell::new(Bounce::Free),
            turn: WaitQueue::new(),
        }
    }

    /// The disk underneath.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Size and abilities of the disk underneath.
    pub fn info(&self) -> DiskInfo {
        self.disk.info()
    }

    /// Fills `data`, whole sectors, from `sector` on.
    ///
    /// # Errors
    /// As [`Disk::read`]; [`DiskError::OutOfRange`] if `data` is not whole sectors.
    pub async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), DiskError> {
        let chunk = self.chunk(data.len())?;
        let mut sector = sector;
        for part in data.chunks_mut(chunk) {
            let segment = self.claim(part.len()).await?;
            let result = self.disk.read(sector, &[segment]).await;
            if result.is_ok() {
                self.buffer.copy_out(0, part);
            }
            self.release();
            result?;
            sector += sectors_of(part.len());
        }
        Ok(())
    }

    /// Writes `data`, whole sectors, to `sector` on.
    ///
    /// # Errors
    /// As [`Disk::write`]; [`DiskError::OutOfRange`] if `data` is not whole sectors.
    pub async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
        let chunk = self.chunk(data.len())?;
        let mut sector = sector;
        for part in data.chunks(chunk) {
            let segment = self.claim(part.len()).await?;
            self.buffer.copy_in(0, part);
            let result = self.disk.write(sector, &[segment]).await;
            self.release();
            result?;
            sector += sectors_of(part.len());
        }
        Ok(())
    }

    /// Makes completed writes durable.
    ///
    /// # Errors
    /// As [`Disk::flush`].
    pub async fn flush(&self) -> Result<(), DiskError> {
        self.disk.flush().await
    }

    /// The largest transfer, for data of `len` bytes.
    fn chunk(&self, len: usize) -> Result<usize, DiskError> {
        let sector = SECTOR_SIZE as usize;
        let chunk = self.buffer.len() / sector * sector;
        if chunk == 0 || !len.is_multiple_of(sector) {
            return Err(DiskError::OutOfRange);
        }
        Ok(chunk)
    }

    async fn claim(&self, len: usize) -> Result<Segment, DiskError> {
        let len = u32::try_from(len).map_err(|_| DiskError::OutOfRange)?;
        self.turn
            .until(|| (self.state.replace(Bounce::Busy) == Bounce::Free).then_some(()))
            .await;
        Ok(Segment {
            bus: self.buffer.bus_addr(),
            len,
        })
    }

    fn release(&self) {
        self.state.set(Bounce::Free);
        self.turn.wake();
    }
}

fn sectors_of(bytes: usize) -> u64 {
    bytes as u64 / u64::from(SECTOR_SIZE)
}
