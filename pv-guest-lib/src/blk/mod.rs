//! The block front end: a disk of another domain, with several requests in flight.
//!
//! Data travels through pages of the front end's own that stay granted (`feature-persistent`): a copy costs less
//! than a grant and its end, and a caller that drops a request half-way leaves the back end with pages that
//! belong to the driver, not with the caller's buffer.

mod connect;
mod device;
mod error;
mod ring;

use core::cell::RefCell;
use core::future::poll_fn;
use core::task::Poll;

use critical_section::Mutex;
use embassy_futures::select::{Either3, select3};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_sync::waitqueue::{AtomicWaker, MultiWakerRegistration};
use heapless::Deque;
use hypercall_abi::PAGE_SIZE;
use hypercall_abi::blkif::{BlkOp, MAX_SEGMENTS, SECTOR_SIZE};

use crate::xenbus::FrontEnd;
pub use error::BlkError;
use ring::{RING_SLOTS, Ring, SlotId};

/// Bytes of one request.
const CHUNK: usize = MAX_SEGMENTS * PAGE_SIZE;
/// Requests that one call keeps in flight.
const DEPTH: usize = 4;
/// Tasks that can wait for a free slot without polling.
const WAITERS: usize = 8;

/// What the back end says of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskInfo {
    /// Size in units of 512 bytes.
    pub sectors: u64,
    /// Logical sector size in bytes; requests are multiples of it.
    pub sector_size: u32,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether the disk has a cache to flush.
    pub flush: bool,
    /// Whether sectors can be discarded.
    pub discard: bool,
}

struct Connected {
    ring: Ring,
    info: DiskInfo,
    waiting: MultiWakerRegistration<WAITERS>,
}

/// Where a disk keeps its state; put one into a `static` for each disk.
pub struct Storage {
    connected: Mutex<RefCell<Option<Connected>>>,
    answered: [AtomicWaker; RING_SLOTS],
    close: Signal<CriticalSectionRawMutex, ()>,
}

impl Storage {
    /// State without a disk.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "for statics, where Default cannot be called")]
    pub const fn new() -> Self {
        Self {
            connected: Mutex::new(RefCell::new(None)),
            answered: [const { AtomicWaker::new() }; RING_SLOTS],
            close: Signal::new(),
        }
    }

    /// The disk that is connected here.
    ///
    /// # Errors
    /// [`BlkError::Closed`] without one.
    pub fn disk(&'static self) -> Result<Disk, BlkError> {
        self.with(|_| Ok(Disk { storage: self }))
    }

    /// Lets go of the disk: its [`Runner`] ends, and requests that are not answered by then fail.
    pub fn close(&self) {
        self.close.signal(());
    }

    fn with<R>(&self, f: impl FnOnce(&mut Connected) -> Result<R, BlkError>) -> Result<R, BlkError> {
        critical_section::with(|cs| f(self.connected.borrow(cs).borrow_mut().as_mut().ok_or(BlkError::Closed)?))
    }

    fn wake_all(&self) {
        self.answered.iter().for_each(AtomicWaker::wake);
    }
}

/// A connected disk. Copies name the same disk; any number of tasks may use it.
#[derive(Clone, Copy)]
pub struct Disk {
    storage: &'static Storage,
}

/// The part of the driver that answers the back end; to be run by a task of its own for as long as the disk is
/// in use.
pub struct Runner {
    storage: &'static Storage,
    front: FrontEnd,
}

impl Runner {
    /// Serves the disk until its back end closes it.
    ///
    /// # Errors
    /// [`BlkError::Broken`] when the back end breaks the protocol, [`BlkError::Store`] as the store refuses; the
    /// disk is closed in either case.
    pub async fn run(mut self) -> Result<(), BlkError> {
        let outcome = self.serve().await;
        let mut connected = critical_section::with(|cs| self.storage.connected.borrow(cs).replace(None));
        self.storage.wake_all();
        if let Some(connected) = &mut connected {
            connected.waiting.wake();
        }
        // The back end unmaps our pages before it says that it is closed; until then they are not ours to reuse.
        self.front.close().await?;
        drop(connected);
        outcome
    }

    async fn serve(&mut self) -> Result<(), BlkError> {
        let storage = self.storage;
        let answered = poll_fn(|context| {
            let drained = storage.with(|connected| {
                let drained = connected.ring.drain(|slot| storage.wake(slot), context);
                connected.waiting.wake();
                drained
            });
            match drained {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(error),
            }
        });
        match select3(answered, self.front.gone(), storage.close.wait()).await {
            Either3::First(error) => Err(error),
            Either3::Second(gone) => Ok(gone?),
            Either3::Third(()) => Ok(()),
        }
    }
}

impl Storage {
    fn wake(&self, slot: SlotId) {
        if let Some(waker) = self.answered.get(slot.index()) {
            waker.wake();
        }
    }
}

/// A request in flight; the slot is free again when the answer was taken or will be when it comes.
struct Ticket {
    storage: &'static Storage,
    slot: SlotId,
}

impl Ticket {
    /// Waits for the answer, and copies what was read.
    async fn wait(self, mut read_to: Option<&mut [u8]>) -> Result<(), BlkError> {
        poll_fn(|context| {
            if let Some(waker) = self.storage.answered.get(self.slot.index()) {
                waker.register(context.waker());
            }
            match self.storage.with(|connected| connected.ring.take_answer(self.slot, read_to.as_deref_mut())) {
                Ok(None) => Poll::Pending,
                Ok(Some(())) => Poll::Ready(Ok(())),
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Without a connection there is no slot to release.
        let _ = self.storage.with(|connected| {
            connected.ring.release(self.slot);
            connected.waiting.wake();
            Ok(())
        });
    }
}

impl Disk {
    /// What the back end says of the disk.
    ///
    /// # Errors
    /// [`BlkError::Closed`] when the back end has closed it.
    pub fn info(&self) -> Result<DiskInfo, BlkError> {
        self.storage.with(|connected| Ok(connected.info))
    }

    /// Reads from the 512-byte sector `sector`; the buffer's length is a multiple of the disk's sector size.
    ///
    /// # Errors
    /// See [`BlkError`].
    pub async fn read(&self, sector: u64, buffer: &mut [u8]) -> Result<(), BlkError> {
        self.check(sector, buffer.len())?;
        let mut flights: Deque<(Ticket, &mut [u8]), DEPTH> = Deque::new();
        let mut at = sector;
        for chunk in buffer.chunks_mut(CHUNK) {
            let ticket = loop {
                let started = self.try_start(|ring| ring.read(at, chunk.len()))?;
                match (started, flights.is_full()) {
                    (Some(ticket), false) => break ticket,
                    (Some(ticket), true) => {
                        Self::land(&mut flights).await?;
                        break ticket;
                    }
                    (None, _) if flights.is_empty() => self.free_slot().await?,
                    (None, _) => Self::land(&mut flights).await?,
                }
            };
            at += (chunk.len() / SECTOR_SIZE) as u64;
            // There is room: a full queue has just landed one.
            let _ = flights.push_back((ticket, chunk));
        }
        while !flights.is_empty() {
            Self::land(&mut flights).await?;
        }
        Ok(())
    }

    async fn land(flights: &mut Deque<(Ticket, &mut [u8]), DEPTH>) -> Result<(), BlkError> {
        match flights.pop_front() {
            Some((ticket, chunk)) => ticket.wait(Some(chunk)).await,
            None => Ok(()),
        }
    }

    /// Writes from the 512-byte sector `sector`; the data's length is a multiple of the disk's sector size.
    ///
    /// # Errors
    /// See [`BlkError`].
    pub async fn write(&self, sector: u64, data: &[u8]) -> Result<(), BlkError> {
        self.check(sector, data.len())?;
        if self.info()?.read_only {
            return Err(BlkError::ReadOnly);
        }
        let mut flights: Deque<Ticket, DEPTH> = Deque::new();
        let mut at = sector;
        for chunk in data.chunks(CHUNK) {
            if flights.is_full()
                && let Some(ticket) = flights.pop_front()
            {
                ticket.wait(None).await?;
            }
            let ticket = loop {
                if let Some(ticket) = self.try_start(|ring| ring.write(at, chunk))? {
                    break ticket;
                }
                match flights.pop_front() {
                    Some(ticket) => ticket.wait(None).await?,
                    None => self.free_slot().await?,
                }
            };
            at += (chunk.len() / SECTOR_SIZE) as u64;
            let _ = flights.push_back(ticket);
        }
        while let Some(ticket) = flights.pop_front() {
            ticket.wait(None).await?;
        }
        Ok(())
    }

    /// Waits until what was written before is on the disk itself; nothing to do for a disk without a cache.
    ///
    /// # Errors
    /// See [`BlkError`].
    pub async fn flush(&self) -> Result<(), BlkError> {
        if !self.info()?.flush {
            return Ok(());
        }
        self.one(|ring| ring.control(BlkOp::FlushDiskcache)).await
    }

    /// Tells the disk that `count` sectors of 512 bytes from `sector` are not needed any more.
    ///
    /// # Errors
    /// [`BlkError::NotSupported`] when the disk cannot; see [`BlkError`].
    pub async fn discard(&self, sector: u64, count: u64) -> Result<(), BlkError> {
        let info = self.info()?;
        if !info.discard {
            return Err(BlkError::NotSupported);
        }
        if sector.checked_add(count).is_none_or(|end| end > info.sectors) {
            return Err(BlkError::OutOfRange);
        }
        self.one(|ring| ring.discard(sector, count)).await
    }

    async fn one(&self, mut start: impl FnMut(&mut Ring) -> Result<Option<SlotId>, BlkError>) -> Result<(), BlkError> {
        loop {
            match self.try_start(&mut start)? {
                Some(ticket) => return ticket.wait(None).await,
                None => self.free_slot().await?,
            }
        }
    }

    fn check(&self, sector: u64, bytes: usize) -> Result<(), BlkError> {
        let info = self.info()?;
        if !bytes.is_multiple_of(info.sector_size as usize) {
            return Err(BlkError::Unaligned);
        }
        let count = (bytes / SECTOR_SIZE) as u64;
        if sector.checked_add(count).is_none_or(|end| end > info.sectors) {
            return Err(BlkError::OutOfRange);
        }
        Ok(())
    }

    fn try_start(
        &self,
        start: impl FnOnce(&mut Ring) -> Result<Option<SlotId>, BlkError>,
    ) -> Result<Option<Ticket>, BlkError> {
        let slot = self.storage.with(|connected| start(&mut connected.ring))?;
        Ok(slot.map(|slot| Ticket { storage: self.storage, slot }))
    }

    /// Waits until a slot may be free.
    async fn free_slot(&self) -> Result<(), BlkError> {
        poll_fn(|context| {
            let free = self.storage.with(|connected| {
                if connected.ring.has_free() {
                    return Ok(true);
                }
                connected.waiting.register(context.waker());
                Ok(false)
            });
            match free {
                Ok(true) => Poll::Ready(Ok(())),
                Ok(false) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }
}
