//! The disk: start-up, requests, completions.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::Poll;

use driver_api::{Disk, DiskError, DiskInfo, DmaMemory, SECTOR_SIZE, Segment, WaitQueue, total_sectors};

use crate::config::{self, Config};
use crate::queue::{Finished, ID_LEN, MEMORY, Payload, Queue};
use crate::regs::{Registers, Told, Transport, TransportError};
use crate::slots::Slots;

/// Request types (VIRTIO 1.2, 5.2.6).
const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;

/// Status bytes.
const S_OK: u8 = 0;
const S_UNSUPP: u8 = 2;

/// Why there is no disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// The slot holds no disk: the device type that it does hold, 0 for none.
    NotADisk(u32),
    /// The registers are not those of a virtio transport of a known version.
    NoTransport,
    /// The device did not keep to the start-up protocol.
    Refused,
    /// The memory given for the queue is smaller than [`VirtioBlk::MEMORY`] or not page-aligned.
    Memory,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADisk(kind) => write!(f, "virtio device type {kind} is not a disk"),
            Self::NoTransport => f.write_str("there is no virtio-mmio transport of a known version"),
            Self::Refused => f.write_str("the virtio disk did not keep to the start-up protocol"),
            Self::Memory => f.write_str("the memory for the virtio queue is too small or not page-aligned"),
        }
    }
}

impl core::error::Error for InitError {}

impl From<TransportError> for InitError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::NotADisk(kind) => Self::NotADisk(kind),
            TransportError::NoTransport | TransportError::Version(_) => Self::NoTransport,
            TransportError::Features | TransportError::Queue => Self::Refused,
        }
    }
}

/// A virtio disk.
pub struct VirtioBlk<R: Registers, M: DmaMemory> {
    transport: Transport<R>,
    config: Config,
    /// Sectors of 512 bytes now: the device may grow.
    sectors: Cell<u64>,
    /// Who waits for another size.
    sizes: WaitQueue,
    queue: RefCell<Queue<M>>,
    slots: RefCell<Slots>,
    line: WaitQueue,
    data_max: usize,
    broken: Cell<bool>,
}

impl VirtioBlk<crate::sys::MmioRegion, driver_api::sys::Window> {
    /// Bytes of queue memory that [`VirtioBlk::new`] needs: contiguous on the bus and page-aligned there.
    pub const MEMORY: usize = MEMORY;
}

impl<R: Registers, M: DmaMemory> VirtioBlk<R, M> {
    /// Starts the disk behind `regs`, with its queue in `memory`.
    ///
    /// # Errors
    /// There is no disk, or it cannot be used; the registers are left alone if they hold another device.
    pub fn new(regs: R, memory: M) -> Result<Self, InitError> {
        let transport = Transport::begin(regs)?;
        let config = Config::read(&transport)?;
        if !memory.bus_addr().raw().is_multiple_of(u64::from(crate::regs::PAGE)) {
            return Err(InitError::Memory);
        }
        let max = transport.queue_max()?;
        let queue = Queue::new(memory, max, &config).ok_or(InitError::Memory)?;
        transport.start(queue.entries(), queue.addresses())?;
        Ok(Self {
            transport,
            sectors: Cell::new(config.info.sectors),
            sizes: WaitQueue::new(),
            config,
            slots: RefCell::new(Slots::new(queue.slots())),
            data_max: queue.data_max(),
            queue: RefCell::new(queue),
            line: WaitQueue::new(),
            broken: Cell::new(false),
        })
    }

    /// Takes the device's interrupt back and completes what it has finished. Harmless when there is nothing.
    pub fn on_interrupt(&self) {
        match self.transport.acknowledge() {
            Told::Queue => {}
            Told::Configuration => {
                self.sectors.set(config::sectors(&self.transport));
                self.sizes.wake();
            }
            Told::NeedsReset => {
                self.shut_down();
                return;
            }
        }
        loop {
            let finished = self.queue.borrow_mut().pop();
            match finished {
                None => break,
                Some(Finished::Slot(slot)) if self.slots.borrow_mut().finish(slot) => {}
                Some(Finished::Slot(_) | Finished::Nonsense) => {
                    self.shut_down();
                    return;
                }
            }
        }
        // Orphans free their slot here rather than in a future.
        self.line.wake();
    }

    /// Waits until the disk has another size than `known`, in sectors of 512 bytes.
    pub async fn resized(&self, known: u64) {
        self.sizes.until(|| (self.sectors.get() != known).then_some(())).await;
    }

    /// The disk's serial number, as the host names it (QEMU's `serial=`); shorter ones end with zeros.
    ///
    /// # Errors
    /// As any request; [`DiskError::Unsupported`] if it has none.
    pub async fn serial(&self) -> Result<[u8; ID_LEN], DiskError> {
        let ticket = self.submit(T_GET_ID, 0, Payload::Id).await?;
        ticket.finished().await?;
        Ok(self.queue.borrow().id(ticket.slot))
    }

    /// The device does what no device may: stop it and fail everything, now and later.
    fn shut_down(&self) {
        self.transport.reset();
        self.broken.set(true);
        self.slots.borrow_mut().abandon();
        self.line.wake();
    }

    /// Waits for a free slot and gives the request to the device.
    async fn submit(&self, kind: u32, sector: u64, payload: Payload<'_>) -> Result<Ticket<'_, R, M>, DiskError> {
        self.line
            .until(|| {
                if self.broken.get() {
                    return Some(Err(DiskError::DeviceBroken));
                }
                let slot = self.slots.borrow_mut().take()?;
                if self.queue.borrow_mut().submit(slot, kind, sector, payload) {
                    self.transport.notify();
                }
                Some(Ok(Ticket { disk: self, slot }))
            })
            .await
    }

    async fn request(&self, kind: u32, sector: u64, payload: Payload<'_>) -> Result<(), DiskError> {
        self.submit(kind, sector, payload).await?.finished().await
    }

    /// Checks a range against the disk's size and block size.
    fn check(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        let info = &self.config.info;
        let unit = u64::from(info.logical_block / SECTOR_SIZE);
        let aligned = sector.is_multiple_of(unit) && count.is_multiple_of(unit);
        match sector.checked_add(count) {
            Some(end) if end <= self.sectors.get() && aligned => Ok(()),
            Some(_) | None => Err(DiskError::OutOfRange),
        }
    }

    async fn transfer<'a>(
        &self,
        kind: u32,
        sector: u64,
        segments: &'a [Segment],
        payload: impl Fn(&'a [Segment]) -> Payload<'a>,
    ) -> Result<(), DiskError> {
        let count = total_sectors(segments).filter(|&count| count != 0).ok_or(DiskError::Segments)?;
        self.check(sector, count)?;
        let mut sector = sector;
        for part in segments.chunks(self.data_max) {
            self.request(kind, sector, payload(part)).await?;
            sector += total_sectors(part).unwrap_or(0);
        }
        Ok(())
    }
}

impl<R: Registers, M: DmaMemory> Drop for VirtioBlk<R, M> {
    fn drop(&mut self) {
        // After the reset the device touches neither the queue's memory nor any segment.
        self.transport.reset();
    }
}

impl<R: Registers, M: DmaMemory> Disk for VirtioBlk<R, M> {
    fn info(&self) -> DiskInfo {
        DiskInfo { sectors: self.sectors.get(), ..self.config.info }
    }

    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        self.transfer(T_IN, sector, segments, Payload::FromDevice).await
    }

    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        if self.config.info.read_only {
            return Err(DiskError::ReadOnly);
        }
        self.transfer(T_OUT, sector, segments, Payload::ToDevice).await
    }

    async fn flush(&self) -> Result<(), DiskError> {
        if !self.config.info.flush {
            return Ok(());
        }
        self.request(T_FLUSH, 0, Payload::None).await
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        if !self.config.info.discard {
            return Err(DiskError::Unsupported);
        }
        if self.config.info.read_only {
            return Err(DiskError::ReadOnly);
        }
        self.check(sector, count)?;
        let (mut sector, mut left) = (sector, count);
        while left != 0 {
            let now = u32::try_from(left).map_or(self.config.max_discard, |left| left.min(self.config.max_discard));
            let range = Payload::Range { sector, count: now };
            self.request(T_DISCARD, 0, range).await?;
            sector += u64::from(now);
            left -= u64::from(now);
        }
        Ok(())
    }
}

/// A request that the device has; dropping it early leaves the slot to the device until it has answered.
struct Ticket<'a, R: Registers, M: DmaMemory> {
    disk: &'a VirtioBlk<R, M>,
    slot: u16,
}

impl<R: Registers, M: DmaMemory> Ticket<'_, R, M> {
    async fn finished(&self) -> Result<(), DiskError> {
        let answered = poll_fn(|cx| {
            let over = self.disk.slots.borrow_mut().poll(self.slot, cx.waker());
            over.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        if !answered {
            return Err(DiskError::DeviceBroken);
        }
        match self.disk.queue.borrow().status(self.slot) {
            S_OK => Ok(()),
            S_UNSUPP => Err(DiskError::Unsupported),
            _ => Err(DiskError::Io),
        }
    }
}

impl<R: Registers, M: DmaMemory> Drop for Ticket<'_, R, M> {
    fn drop(&mut self) {
        self.disk.slots.borrow_mut().let_go(self.slot);
        self.disk.line.wake();
    }
}
