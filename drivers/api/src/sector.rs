//! Reading and writing a disk from the CPU, through a buffer of our own.
//!
//! File systems and partition tables want bytes; a disk wants bus addresses that stay valid for as long
//! as the device may write them. An owned buffer gives both. The price: a read or write must be driven to
//! its end, for if its future is dropped half way the device may still be using the buffer, which then
//! stays locked for good.

use core::cell::Cell;

use crate::{Disk, DiskError, DiskInfo, DmaMemory, SECTOR_SIZE, Segment, WaitQueue};

/// A disk as bytes in sectors of 512 bytes: what file systems and partition tables are read through.
#[allow(async_fn_in_trait, reason = "one thread: the futures need not be Send")]
pub trait Sectors {
    /// Size and abilities.
    fn info(&self) -> DiskInfo;

    /// Fills `data`, whole sectors, from `sector` on.
    ///
    /// # Errors
    /// As [`Disk::read`]; [`DiskError::OutOfRange`] if `data` is not whole sectors.
    async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), DiskError>;

    /// Writes `data`, whole sectors, to `sector` on.
    ///
    /// # Errors
    /// As [`Disk::write`]; [`DiskError::OutOfRange`] if `data` is not whole sectors.
    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError>;

    /// Makes completed writes durable.
    ///
    /// # Errors
    /// As [`Disk::flush`].
    async fn flush(&self) -> Result<(), DiskError>;
}

/// Whether the bounce buffer may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bounce {
    Free,
    /// A request uses it, or its future was dropped and the device may still be using it.
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
        Self { disk, buffer, state: Cell::new(Bounce::Free), turn: WaitQueue::new() }
    }

    /// The disk underneath.
    pub fn disk(&self) -> &D {
        &self.disk
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

    /// Fills the buffer with `len` bytes, whole sectors and no more than it has, from `sector` on, and shows it.
    ///
    /// # Errors
    /// As [`Disk::read`]; [`DiskError::OutOfRange`] if the buffer has not so many bytes, or `len` is not whole sectors.
    pub async fn read_and<R>(&self, sector: u64, len: usize, show: impl FnOnce(&B) -> R) -> Result<R, DiskError> {
        if len > self.chunk(len)? {
            return Err(DiskError::OutOfRange);
        }
        let segment = self.claim(len).await?;
        let shown = self.disk.read(sector, &[segment]).await.map(|()| show(&self.buffer));
        self.release();
        shown
    }

    async fn claim(&self, len: usize) -> Result<Segment, DiskError> {
        let len = u32::try_from(len).map_err(|_| DiskError::OutOfRange)?;
        self.turn.until(|| (self.state.replace(Bounce::Busy) == Bounce::Free).then_some(())).await;
        Ok(Segment { bus: self.buffer.bus_addr(), len })
    }

    fn release(&self) {
        self.state.set(Bounce::Free);
        self.turn.wake();
    }
}

impl<D: Disk, B: DmaMemory> Sectors for SectorIo<D, B> {
    fn info(&self) -> DiskInfo {
        self.disk.info()
    }

    async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), DiskError> {
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

    async fn write(&self, sector: u64, data: &[u8]) -> Result<(), DiskError> {
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

    async fn flush(&self) -> Result<(), DiskError> {
        self.disk.flush().await
    }
}

fn sectors_of(bytes: usize) -> u64 {
    bytes as u64 / u64::from(SECTOR_SIZE)
}
