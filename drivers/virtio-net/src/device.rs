//! The device as a port of a bridge: frames to be sent, and the loop that passes on what arrives.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::ops::RangeInclusive;
use core::task::{Context, Poll, Waker};

use driver_api::gather::Gather;
use driver_api::net::{Checksum, CopyGrants, Frame, HEAD, Offload, Piece, Port, Refused, own_pieces};
use driver_api::{DmaMemory, WaitQueue};
use embassy_futures::yield_now;

use crate::rings::{BUFFER, BUFFERS, MAX_MTU, Received, Rings};

/// Bytes of an Ethernet header with a VLAN tag, in front of a packet of the longest kind.
const HEADER: usize = 18;
/// The shortest frame: an Ethernet header.
const MIN_FRAME: usize = 14;
/// Frames that are passed on before others get their turn.
const BURST: usize = 32;

// The header of the device itself has twelve bytes (VIRTIO 1.2, 5.1.6).
const _: () = assert!(12 + HEADER + MAX_MTU as usize <= BUFFER);

/// Totals since the device was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicStats {
    /// Frames that were given to the device.
    pub sent: u64,
    /// Frames whose bytes could not be fetched.
    pub errors: u64,
    /// Frames that arrived.
    pub received: u64,
    /// Frames that arrived and that nobody took.
    pub dropped: u64,
}

/// What waits for the next commit, and the buffers that are free.
#[derive(Default)]
struct Transmit {
    free: Vec<u16>,
    gather: Gather<u16>,
}

/// A network device.
pub struct VirtioNet<Q, C> {
    rings: RefCell<Q>,
    copier: C,
    transmit: RefCell<Transmit>,
    /// Room for the description of a frame.
    pieces: Cell<Vec<Piece>>,
    /// The task that waits for frames.
    arrivals: WaitQueue,
    /// Those who wait for a buffer to send from.
    wakers: RefCell<Vec<Waker>>,
    stats: Cell<NicStats>,
}

impl<Q: Rings, C: CopyGrants> VirtioNet<Q, C> {
    /// Takes over a device that was started, and gives it all buffers to receive into.
    pub fn new(mut rings: Q, copier: C) -> Self {
        (0..BUFFERS).for_each(|buffer| rings.give(buffer));
        let transmit = Transmit { free: (0..BUFFERS).collect(), ..Transmit::default() };
        VirtioNet {
            rings: RefCell::new(rings),
            copier,
            transmit: RefCell::new(transmit),
            pieces: Cell::default(),
            arrivals: WaitQueue::new(),
            wakers: RefCell::default(),
            stats: Cell::default(),
        }
    }

    /// The device's own address.
    pub fn mac(&self) -> [u8; 6] {
        self.rings.borrow().mac()
    }

    /// The longest packet that its network carries.
    pub fn mtu(&self) -> u16 {
        self.rings.borrow().mtu()
    }

    /// The lengths that a frame can have.
    fn lengths(&self) -> RangeInclusive<usize> {
        MIN_FRAME..=usize::from(self.mtu()) + HEADER
    }

    /// The counters.
    pub fn stats(&self) -> NicStats {
        self.stats.get()
    }

    /// Takes the device's interrupt back. Must not preempt other calls.
    pub fn on_interrupt(&self) {
        self.rings.borrow_mut().acknowledge();
        self.arrivals.wake();
        if self.reclaim() {
            self.wakers.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }

    /// Passes on what arrives, for ever. A receiver without room loses the frame: nobody else waits for it.
    pub async fn run(&self, wire: impl Port) -> ! {
        let mut held = Vec::with_capacity(BURST);
        loop {
            let first = self.arrivals.until(|| self.rings.borrow_mut().received()).await;
            let mut next = Some(first);
            while let Some(frame) = next {
                self.pass_on(frame, &wire);
                held.push(frame.buffer);
                next = if held.len() < BURST { self.rings.borrow_mut().received() } else { None };
            }
            wire.commit();
            // Nobody fetches from the buffers any more.
            held.drain(..).for_each(|buffer| self.rings.borrow_mut().give(buffer));
            yield_now().await;
        }
    }

    fn pass_on(&self, frame: Received, wire: &impl Port) {
        if !self.lengths().contains(&frame.len) {
            self.count(|stats| stats.dropped += 1);
            return;
        }
        let mut head = [0; HEAD];
        let head = head.get_mut(..frame.len.min(HEAD)).unwrap_or_default();
        let start = usize::from(frame.buffer) * BUFFER + frame.offset;
        let mut pieces = self.pieces.take();
        pieces.clear();
        {
            let rings = self.rings.borrow();
            rings.memory().copy_out(start, head);
            pieces.extend(own_pieces(rings.memory(), start, frame.len));
        }
        let offload = Offload { checksum: Checksum::Unchecked, gso: None };
        let len = u32::try_from(frame.len).unwrap_or(0);
        let taken = wire.put(&Frame { head, pieces: &pieces, len, offload, source: 0 });
        self.pieces.replace(pieces);
        self.count(|stats| match taken {
            Ok(()) => stats.received += 1,
            Err(Refused::Full | Refused::Unfit | Refused::Down) => stats.dropped += 1,
        });
    }

    fn count(&self, change: impl FnOnce(&mut NicStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    /// Takes back the buffers whose frames were sent. True if there are any free.
    fn reclaim(&self) -> bool {
        let mut transmit = self.transmit.borrow_mut();
        let mut rings = self.rings.borrow_mut();
        while let Some(buffer) = rings.sent() {
            transmit.free.push(buffer);
        }
        !transmit.free.is_empty()
    }
}

impl<Q: Rings, C: CopyGrants> Port for VirtioNet<Q, C> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        let len = frame.len as usize;
        if !frame.is_complete() || !self.lengths().contains(&len) {
            return Err(Refused::Unfit);
        }
        if self.transmit.borrow().free.is_empty() && !self.reclaim() {
            return Err(Refused::Full);
        }
        let mut transmit = self.transmit.borrow_mut();
        let buffer = transmit.free.pop().ok_or(Refused::Full)?;
        let rings = self.rings.borrow();
        let start = (usize::from(BUFFERS) + usize::from(buffer)) * BUFFER + rings.header();
        transmit.gather.take(frame, own_pieces(rings.memory(), start, len), buffer).map_err(|buffer| {
            transmit.free.push(buffer);
            Refused::Unfit
        })
    }

    fn commit(&self) {
        let mut transmit = self.transmit.borrow_mut();
        let Transmit { free, gather } = &mut *transmit;
        gather.fetch(&self.copier, |buffer, len, came| {
            if came {
                self.rings.borrow_mut().send(buffer, len);
                self.count(|stats| stats.sent += 1);
            } else {
                free.push(buffer);
                self.count(|stats| stats.errors += 1);
            }
        });
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reclaim() {
            return Poll::Ready(());
        }
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
