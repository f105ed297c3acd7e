//! The receive ring: from frames to the guest's pages.
//!
//! [`Receiver`] is the guest's end of a cable: a [`Port`] that takes frames for as long as the guest gives pages. What
//! was put is copied and published by one `commit`, so that a burst of frames costs one hypercall and one event.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use driver_api::net::{Checksum, Copy, CopyGrants, Frame, Gso, PageRef, Piece, Port, Refused};
use driver_api::{BackRing, EventPort, PAGE_SIZE, SharedPage};
use embassy_time::{Duration, Timer};
use hypercall_abi::ids::DomId;
use hypercall_abi::netif::{
    EXTRA_MORE, ExtraInfo, ExtraType, GsoType, HashAlgorithm, HashInfo, NetStatus, RX_CSUM_BLANK, RX_DATA_VALIDATED,
    RX_EXTRA_INFO, RX_MORE_DATA, RxRequest, RxResponse,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::hash::FrameHash;
use crate::negotiate::Features;
use crate::stats::Control;

/// How long senders wait for a guest that has no room before its frames are dropped, until it gives room again.
pub const PATIENCE: Duration = Duration::from_millis(10);

/// The type of frames with a VLAN tag, and of IPv6.
const VLAN_TAG: [u8; 2] = [0x81, 0x00];
const IPV6: [u8; 2] = [0x86, 0xDD];

/// One answer of a frame that was put, with how many copies it depends on.
struct Answer {
    response: RxResponse,
    copies: usize,
}

/// What the lock-free sharing of one thread guards: the ring, and what waits for the next commit.
struct Inner<P> {
    ring: BackRing<P, RxRequest, RxResponse>,
    /// Requests that are known to be there.
    available: u32,
    /// The most that there ever were.
    most: u32,
    copies: Vec<Copy>,
    answers: Vec<Answer>,
    done: Vec<bool>,
    /// Frames and bytes of `answers`.
    frames: u64,
    bytes: u64,
}

/// How patient senders are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Nobody was refused since the guest last gave room.
    Enough,
    /// Somebody waits.
    Awaited,
    /// The guest did not give room in time.
    Stalled,
}

/// The receive side of one pair of rings.
pub struct Receiver<P, C, E> {
    domid: DomId,
    features: Features,
    copier: C,
    events: E,
    inner: RefCell<Option<Inner<P>>>,
    room: Cell<Room>,
    /// Those who wait for room, and the task that loses patience.
    wakers: RefCell<Vec<Waker>>,
    /// It is another since [`Self::watch`] saw it.
    moved: Cell<bool>,
    /// An event was sent since somebody asked.
    rung: Cell<bool>,
    control: Rc<Control>,
}

impl<P: SharedPage, C: CopyGrants, E: EventPort> Receiver<P, C, E> {
    /// Takes over the ring of `domid`.
    pub fn new(
        domid: DomId,
        ring: BackRing<P, RxRequest, RxResponse>,
        features: Features,
        copier: C,
        events: E,
        control: Rc<Control>,
    ) -> Self {
        let inner = Inner {
            ring,
            available: 0,
            most: 0,
            copies: Vec::new(),
            answers: Vec::new(),
            done: Vec::new(),
            frames: 0,
            bytes: 0,
        };
        Self {
            domid,
            features,
            copier,
            events,
            inner: RefCell::new(Some(inner)),
            room: Cell::new(Room::Enough),
            wakers: RefCell::default(),
            moved: Cell::new(true),
            rung: Cell::new(false),
            control,
        }
    }

    /// Whether an event was sent since this was asked last.
    pub(crate) fn rung(&self) -> bool {
        self.rung.take()
    }

    /// The guest has sent an event: it may have given room.
    pub fn look(&self) {
        if self.room.get() == Room::Enough {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        let before = inner.as_ref().map_or(0, |inner| inner.available);
        if inner.as_mut().is_some_and(|inner| inner.refresh() > before) {
            self.set_room(Room::Enough);
        }
    }

    fn set_room(&self, room: Room) {
        if self.room.replace(room) != room {
            self.moved.set(true);
            self.wakers.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }

    fn register(&self, cx: &Context<'_>) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
    }

    /// Whether there is something to do for [`Self::watch`], which need not be polled otherwise. It is, to begin with.
    pub(crate) fn is_to_be_watched(&self) -> bool {
        self.moved.take() || self.room.get() == Room::Awaited
    }

    /// Loses patience with the guest when it leaves senders waiting for [`PATIENCE`]. Never completes.
    pub async fn watch(&self) {
        let change_from = |room| {
            poll_fn(move |cx| {
                if self.room.get() != room {
                    return Poll::Ready(());
                }
                self.register(cx);
                Poll::Pending
            })
        };
        loop {
            match self.room.get() {
                Room::Awaited => {
                    let moved = embassy_futures::select::select(change_from(Room::Awaited), Timer::after(PATIENCE));
                    if let embassy_futures::select::Either::Second(()) = moved.await {
                        self.set_room(Room::Stalled);
                    }
                }
                room @ (Room::Enough | Room::Stalled) => change_from(room).await,
            }
        }
    }

    /// Ends the device; what was put and not committed is lost. Returns the ring's page, to be unmapped.
    pub fn close(&self) -> Vec<P> {
        self.set_room(Room::Stalled);
        let inner = self.inner.borrow_mut().take();
        inner.map(|inner| inner.ring.into_pages()).unwrap_or_default()
    }

    /// Whether the guest can take what was left to the receiver of a frame.
    fn fits(&self, frame: &Frame<'_>) -> bool {
        let features = self.features;
        let kind = frame.head.get(12..14).unwrap_or_default();
        // Linux looks for the protocols right behind the Ethernet header, and drops the frame when it does not find them.
        if kind == VLAN_TAG && !frame.is_complete() {
            return false;
        }
        let v6 = kind == IPV6;
        let checksum =
            frame.offload.checksum != Checksum::Blank || if v6 { features.checksum_v6 } else { features.checksum_v4 };
        let segmented = match frame.offload.gso {
            None => true,
            Some(Gso { kind: GsoType::TcpV4, .. }) => features.gso_v4,
            Some(Gso { kind: GsoType::TcpV6, .. }) => features.gso_v6,
            Some(Gso { kind: GsoType::None, .. }) => false,
        };
        checksum && segmented && (features.scatter || frame.len as usize <= PAGE_SIZE)
    }
}

impl<P: SharedPage, C: CopyGrants, E: EventPort> Receiver<P, C, E> {
    /// Takes a frame, as [`Port::put`] does, and tells the guest its hash.
    ///
    /// # Errors
    /// As those of [`Port::put`].
    pub fn put_hashed(&self, frame: &Frame<'_>, hash: Option<FrameHash>) -> Result<(), Refused> {
        let mut inner = self.inner.borrow_mut();
        let Some(inner) = inner.as_mut() else { return Err(Refused::Down) };
        if !self.fits(frame) {
            return Err(Refused::Unfit);
        }
        let data_slots = (frame.len as usize).div_ceil(PAGE_SIZE);
        let extras = usize::from(frame.offload.gso.is_some()) + usize::from(hash.is_some());
        let slots = u32::try_from(data_slots + extras).unwrap_or(u32::MAX);
        if inner.available < slots && inner.refresh() < slots {
            if self.room.get() == Room::Stalled {
                self.control.count(|stats| stats.rx_dropped += 1);
                return Ok(());
            }
            self.set_room(Room::Awaited);
            return Err(Refused::Full);
        }
        inner.put(self.domid, frame, hash);
        Ok(())
    }
}

impl<P: SharedPage, C: CopyGrants, E: EventPort> Port for Receiver<P, C, E> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        self.put_hashed(frame, None)
    }

    fn commit(&self) {
        let mut inner = self.inner.borrow_mut();
        let Some(inner) = inner.as_mut().filter(|inner| !inner.answers.is_empty()) else { return };
        inner.done.clear();
        self.copier.copy(&inner.copies, &mut inner.done);
        let failed = inner.publish();
        let notify = inner.ring.publish();
        self.control.count(|stats| {
            stats.rx_packets += inner.frames;
            stats.rx_bytes += inner.bytes;
            stats.rx_errors += failed;
            stats.notifications += u64::from(notify);
        });
        (inner.frames, inner.bytes) = (0, 0);
        if notify {
            self.rung.set(true);
            self.events.notify();
        }
    }

    fn has_room_for_all(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        inner.as_mut().is_some_and(|inner| {
            inner.is_half_empty() || {
                inner.refresh();
                inner.is_half_empty()
            }
        })
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.room.get() != Room::Awaited {
            return Poll::Ready(());
        }
        self.register(cx);
        Poll::Pending
    }
}

impl<P: SharedPage> Inner<P> {
    /// Looks how many requests there are; asks for an event at the next one. A ring that cannot be true has none.
    fn refresh(&mut self) -> u32 {
        self.available = self.ring.final_check().unwrap_or(0);
        self.most = self.most.max(self.available);
        self.available
    }

    /// Whether more than half of the room is left that the guest gives when it is idle.
    fn is_half_empty(&self) -> bool {
        self.available > self.most / 2
    }

    /// Spreads a frame over requests; there are enough.
    fn put(&mut self, domid: DomId, frame: &Frame<'_>, hash: Option<FrameHash>) {
        let mut flags = match frame.offload.checksum {
            Checksum::Unchecked => 0,
            Checksum::Valid => RX_DATA_VALIDATED,
            Checksum::Blank => RX_CSUM_BLANK | RX_DATA_VALIDATED,
        };
        if frame.offload.gso.is_some() || hash.is_some() {
            flags |= RX_EXTRA_INFO;
        }
        let mut source = Cursor { pieces: frame.pieces, used: 0 };
        let mut left = frame.len as usize;
        let mut first = true;
        while left > 0 {
            let request = self.ring.take();
            let here = left.min(PAGE_SIZE);
            left -= here;
            let before = self.copies.len();
            source.copy_to(PageRef::Granted(domid, request.gref), here, &mut self.copies);
            let more = if left > 0 { RX_MORE_DATA } else { 0 };
            let status = i16::try_from(here).unwrap_or(0);
            let response = RxResponse { id: request.id, offset: 0, flags: flags | more, status };
            self.answers.push(Answer { response, copies: self.copies.len() - before });
            self.available -= 1;
            flags &= !RX_EXTRA_INFO;
            if core::mem::take(&mut first) {
                self.put_extras(frame.offload.gso, hash);
            }
        }
        self.frames += 1;
        self.bytes += u64::from(frame.len);
    }

    /// Uses requests for what the first slot could not say.
    fn put_extras(&mut self, gso: Option<Gso>, hash: Option<FrameHash>) {
        if let Some(Gso { kind, size }) = gso {
            let flags = if hash.is_some() { EXTRA_MORE } else { 0 };
            let (gso_size, gso_type) = (size, kind.raw());
            self.put_extra(&ExtraInfo {
                kind: ExtraType::Gso.raw(),
                flags,
                gso_size,
                gso_type,
                ..ExtraInfo::default()
            });
        }
        if let Some(FrameHash { kind, value }) = hash {
            let [algorithm, ..] = HashAlgorithm::Toeplitz.raw().to_le_bytes();
            let (hash_type, kind) = (kind.raw(), ExtraType::Hash.raw());
            self.put_extra(&HashInfo { kind, flags: 0, hash_type, algorithm, value });
        }
    }

    /// Uses a request. The guest takes its page back from the position.
    fn put_extra(&mut self, extra: &(impl IntoBytes + Immutable)) {
        let _ = self.ring.take();
        self.available -= 1;
        if let Ok(response) = RxResponse::read_from_bytes(extra.as_bytes()) {
            self.answers.push(Answer { response, copies: 0 });
        }
    }

    /// Puts the answers on the ring, as errors where a copy failed. Returns how many did.
    fn publish(&mut self) -> u64 {
        let mut failed = 0;
        let mut done = self.done.iter();
        for Answer { mut response, copies } in self.answers.drain(..) {
            // All of them are counted, so that the next answer is judged by its own copies.
            if done.by_ref().take(copies).filter(|done| **done).count() != copies {
                failed += 1;
                response.status = NetStatus::Error.raw();
            }
            self.ring.put(&response);
        }
        self.copies.clear();
        failed
    }
}

/// A place in a list of pieces.
struct Cursor<'a> {
    pieces: &'a [Piece],
    /// Bytes of the first piece that were copied.
    used: u16,
}

impl Cursor<'_> {
    /// Appends the copies that fill the first `len` bytes of a page.
    fn copy_to(&mut self, page: PageRef, len: usize, copies: &mut Vec<Copy>) {
        let mut at = 0;
        while at < len
            && let Some((piece, rest)) = self.pieces.split_first()
        {
            let (Ok(room), Ok(to)) = (u16::try_from(len - at), u16::try_from(at)) else { return };
            let here = (piece.len - self.used).min(room);
            let from = Piece { page: piece.page, offset: piece.offset + self.used, len: here };
            copies.push(Copy { from, to: page, at: to });
            at += usize::from(here);
            self.used += here;
            if self.used == piece.len {
                self.pieces = rest;
                self.used = 0;
            }
        }
    }
}
