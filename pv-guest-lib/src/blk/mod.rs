//! The block front end: a disk of another domain, with several requests in flight.
//!
//! Where the back end takes indirect requests, one carries up to 1 MiB; else 44 KiB (Xen public/io/blkif.h).
//!
//! Data travels through pages of the front end's own that stay granted (`feature-persistent`): a copy costs less
//! than a grant and its end, and a caller that drops a request half-way leaves the back end with pages that
//! belong to the driver, not with the caller's buffer.
//!
//! Example: `examples/disk.rs`.

mod connect;
mod device;
mod error;
mod pages;
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
use hypercall_abi::blkif::{BlkOp, SECTOR_SIZE};
use hypercall_abi::xenbus::XenbusState;

use crate::xenbus::{self, FrontEnd};
pub use error::BlkError;
use ring::{RING_SLOTS, Ring, SlotId, Started};

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
    /// Whether the back end takes barriers.
    pub barrier: bool,
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
        match select3(answered, follow(&mut self.front, storage), storage.close.wait()).await {
            Either3::First(error) => Err(error),
            Either3::Second(gone) => gone,
            Either3::Third(()) => Ok(()),
        }
    }
}

/// Follows the back end until it leaves. One that says again that it is connected has a new size to tell, as Linux's
/// does when its disk is resized.
async fn follow(front: &mut FrontEnd, storage: &Storage) -> Result<(), BlkError> {
    loop {
        match front.changed().await? {
            XenbusState::Connected => {
                let info = connect::info(front.device()).await?;
                storage.with(|connected| {
                    connected.info = info;
                    connected.waiting.wake();
                    Ok(())
                })?;
            }
            state if xenbus::is_leaving(state) => return Ok(()),
            _ => {}
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

    /// Waits until the disk has another size than `info` says, and returns what it is now.
    ///
    /// # Errors
    /// [`BlkError::Closed`] when the back end has closed it.
    pub async fn resized(&self, info: DiskInfo) -> Result<DiskInfo, BlkError> {
        self.wait_until(|connected| (connected.info.sectors != info.sectors).then_some(connected.info)).await
    }

    /// Reads from the 512-byte sector `sector`; the buffer's length is a multiple of the disk's sector size.
    ///
    /// # Errors
    /// See [`BlkError`].
    pub async fn read(&self, sector: u64, buffer: &mut [u8]) -> Result<(), BlkError> {
        self.check(sector, buffer.len())?;
        let mut flights: Deque<(Ticket, &mut [u8]), DEPTH> = Deque::new();
        let (mut at, mut rest) = (sector, buffer);
        while !rest.is_empty() {
            let started = if flights.is_full() { None } else { self.try_start(|ring| ring.read(at, rest.len()))? };
            if let Some((ticket, bytes)) = started {
                let (now, later) = core::mem::take(&mut rest).split_at_mut(bytes);
                // There is room: a full queue starts nothing.
                let _ = flights.push_back((ticket, now));
                (at, rest) = (at + sectors(bytes), later);
            } else if let Some((ticket, now)) = flights.pop_front() {
                ticket.wait(Some(now)).await?;
            } else {
                self.room().await?;
            }
        }
        for (ticket, now) in flights {
            ticket.wait(Some(now)).await?;
        }
        Ok(())
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
        let (mut at, mut rest) = (sector, data);
        while !rest.is_empty() {
            let started = if flights.is_full() { None } else { self.try_start(|ring| ring.write(at, rest))? };
            if let Some((ticket, bytes)) = started {
                let _ = flights.push_back(ticket);
                (at, rest) = (at + sectors(bytes), rest.get(bytes..).unwrap_or_default());
            } else if let Some(ticket) = flights.pop_front() {
                ticket.wait(None).await?;
            } else {
                self.room().await?;
            }
        }
        for ticket in flights {
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

    /// Sends a barrier: what was asked for before it is on the disk itself before anything that is asked for after it
    /// starts, other tasks' requests included.
    ///
    /// # Errors
    /// [`BlkError::NotSupported`] when the back end takes none; see [`BlkError`].
    pub async fn barrier(&self) -> Result<(), BlkError> {
        let info = self.info()?;
        match (info.barrier, info.read_only) {
            (_, true) => Err(BlkError::ReadOnly),
            (false, false) => Err(BlkError::NotSupported),
            (true, false) => self.one(|ring| ring.control(BlkOp::WriteBarrier)).await,
        }
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

    /// Carries out a request that moves no data.
    async fn one(&self, start: impl Fn(&mut Ring) -> Option<SlotId>) -> Result<(), BlkError> {
        loop {
            let started = |ring: &mut Ring| Ok(start(ring).map(|slot| Started { slot, bytes: 0 }));
            match self.try_start(started)? {
                Some((ticket, _)) => return ticket.wait(None).await,
                None => self.room().await?,
            }
        }
    }

    fn check(&self, sector: u64, bytes: usize) -> Result<(), BlkError> {
        let info = self.info()?;
        if !bytes.is_multiple_of(info.sector_size as usize) {
            return Err(BlkError::Unaligned);
        }
        if sector.checked_add(sectors(bytes)).is_none_or(|end| end > info.sectors) {
            return Err(BlkError::OutOfRange);
        }
        Ok(())
    }

    /// Starts a request; `None` when it has to wait for others to end. Says how many bytes it is about.
    fn try_start(
        &self,
        start: impl FnOnce(&mut Ring) -> Result<Option<Started>, BlkError>,
    ) -> Result<Option<(Ticket, usize)>, BlkError> {
        let started = self.storage.with(|connected| start(&mut connected.ring))?;
        Ok(started.map(|started| (Ticket { storage: self.storage, slot: started.slot }, started.bytes)))
    }

    /// Waits until a request may be started.
    async fn room(&self) -> Result<(), BlkError> {
        self.wait_until(|connected| connected.ring.has_room().then_some(())).await
    }

    /// Waits until a look at the connection finds what it looks for; it looks again when a request has ended.
    async fn wait_until<R>(&self, look: impl Fn(&Connected) -> Option<R>) -> Result<R, BlkError> {
        poll_fn(|context| {
            let found = self.storage.with(|connected| {
                let found = look(connected);
                if found.is_none() {
                    connected.waiting.register(context.waker());
                }
                Ok(found)
            });
            match found {
                Ok(Some(found)) => Poll::Ready(Ok(found)),
                Ok(None) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }
}

/// Sectors of 512 bytes in so many bytes.
const fn sectors(bytes: usize) -> u64 {
    (bytes / SECTOR_SIZE) as u64
}
