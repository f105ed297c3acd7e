//! The way between a bridge inside and one outside: frames come in at one, are translated, and go out at the other.

use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell, RefMut};
use core::net::Ipv4Addr;
use core::task::{Context, Poll};

use driver_api::net::{Checksum, Frame, HEAD, Offload, PageRef, Piece, Port, Refused};
use driver_api::{DmaMemory, PAGE_SIZE};

use crate::neighbours::{MacBytes, Neighbours, question, readdress, sender};
use crate::packet::{address, is_ipv4};
use crate::translate::{Inside, Nat};

/// Heads of frames that wait for the next commit.
const SLOTS: usize = 64;
/// The room of one head.
const SLOT: usize = 256;
/// Bytes of memory that a router needs for heads; it starts at a page.
pub const MEMORY: usize = SLOTS * SLOT;

const _: () = assert!(HEAD <= SLOT && PAGE_SIZE.is_multiple_of(SLOT));

/// The host's place on the bridge that leads out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Its address, the one that guests share.
    pub address: Ipv4Addr,
    /// Bits that stations on the same wire have in common with it.
    pub mask: u32,
    /// The station that knows the way to all others.
    pub gateway: Option<Ipv4Addr>,
}

impl Outside {
    /// The station to which a packet for `to` is handed.
    fn next_hop(&self, to: Ipv4Addr) -> Option<Ipv4Addr> {
        let here = u32::from(to) & self.mask == u32::from(self.address) & self.mask;
        if here { Some(to) } else { self.gateway }
    }
}

/// Totals of a router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterStats {
    /// Frames that went out.
    pub out: u64,
    /// Frames that came in.
    pub back: u64,
    /// Frames that were not translated, or for whose receiver nobody answered.
    pub dropped: u64,
}

/// One side: a place on a bridge.
struct Face<P> {
    mac: MacBytes,
    /// Where frames enter the bridge. The station that the host is there owns it.
    plug: RefCell<Weak<P>>,
    neighbours: RefCell<Neighbours>,
    /// Frames were put since the last commit.
    dirty: Cell<bool>,
}

impl<P: Port> Face<P> {
    fn new(mac: MacBytes) -> Self {
        let neighbours = RefCell::new(Neighbours::new());
        Face { mac, plug: RefCell::default(), neighbours, dirty: Cell::new(false) }
    }

    fn plug(&self) -> Option<Rc<P>> {
        self.plug.borrow().upgrade()
    }

    fn commit(&self) {
        if self.dirty.replace(false)
            && let Some(plug) = self.plug()
        {
            plug.commit();
        }
    }
}

/// The router.
pub struct Router<P, M> {
    nat: RefCell<Nat>,
    outside: Cell<Option<Outside>>,
    inner: Face<P>,
    outer: Face<P>,
    heads: M,
    used: Cell<usize>,
    /// Room for the description of a frame.
    pieces: Cell<Vec<Piece>>,
    stats: Cell<RouterStats>,
    clock: fn() -> u64,
}

impl<P: Port, M: DmaMemory> Router<P, M> {
    /// A router of `nat`, which is `inner_mac` inside and `outer_mac` outside, with heads in `heads`, of [`MEMORY`] bytes. `clock`
    /// tells seconds.
    pub fn new(nat: Nat, inner_mac: MacBytes, outer_mac: MacBytes, heads: M, clock: fn() -> u64) -> Rc<Self> {
        Rc::new(Router {
            nat: RefCell::new(nat),
            outside: Cell::new(None),
            inner: Face::new(inner_mac),
            outer: Face::new(outer_mac),
            heads,
            used: Cell::new(0),
            pieces: Cell::default(),
            stats: Cell::default(),
            clock,
        })
    }

    /// Says where frames enter the two bridges.
    pub fn connect(&self, inner: &Rc<P>, outer: &Rc<P>) {
        *self.inner.plug.borrow_mut() = Rc::downgrade(inner);
        *self.outer.plug.borrow_mut() = Rc::downgrade(outer);
    }

    /// Says what the host is outside now.
    pub fn set_outside(&self, outside: Option<Outside>) {
        if self.outside.replace(outside) != outside {
            self.nat.borrow_mut().set_outside(outside.map(|outside| outside.address));
        }
    }

    /// The connections and forwards. The router must not be used while it is held.
    pub fn nat(&self) -> RefMut<'_, Nat> {
        self.nat.borrow_mut()
    }

    /// The counters.
    pub fn stats(&self) -> RouterStats {
        self.stats.get()
    }

    /// Forgets what is over, and keeps in touch with the station that knows the way. Call it every second.
    pub fn tick(&self) {
        let now = (self.clock)();
        self.nat.borrow_mut().sweep(now);
        let Some(outside) = self.outside.get() else { return };
        let Some(gateway) = outside.gateway else { return };
        let known = self.outer.neighbours.borrow().find(gateway, now).is_some();
        if !known {
            self.ask(&self.outer, outside.address, gateway, now);
        }
    }

    /// A frame from inside. `Ok(false)` says that it is for the host itself.
    pub(crate) fn leave(&self, frame: &Frame<'_>) -> Result<bool, Refused> {
        let now = (self.clock)();
        let inside = self.nat.borrow().inside();
        if let Some((address, mac)) = sender(frame.head).filter(|(address, _)| inside.is_guest(*address)) {
            self.inner.neighbours.borrow_mut().learn(address, mac, now);
            return Ok(false);
        }
        if !self.is_to_route(frame.head, self.inner.mac, inside) {
            return Ok(false);
        }
        let (from, mac) = (address(frame.head, 26), frame.head.get(6..12).and_then(|mac| mac.try_into().ok()));
        if let Some(mac) = mac.filter(|_| inside.is_guest(from)) {
            self.inner.neighbours.borrow_mut().learn(from, mac, now);
        }
        self.route(frame, now).map(|()| true)
    }

    /// A frame from outside. `Ok(false)` says that it is for the host itself.
    pub(crate) fn enter(&self, frame: &Frame<'_>) -> Result<bool, Refused> {
        let now = (self.clock)();
        if let Some((address, mac)) = sender(frame.head) {
            self.outer.neighbours.borrow_mut().learn(address, mac, now);
            return Ok(false);
        }
        if !is_ipv4(frame.head) || frame.head.get(..6) != Some(&self.outer.mac) {
            return Ok(false);
        }
        let mut head = [0; HEAD];
        let head = copy_of(frame.head, &mut head);
        let blank = frame.offload.checksum == Checksum::Blank;
        let translated = self.nat.borrow_mut().inbound(head, blank, now);
        match translated {
            Ok(guest) => self.pass(frame, head, &self.inner, guest, now).map(|()| true),
            // What belongs to no guest is the host's.
            Err(_) => Ok(false),
        }
    }

    /// Whether a frame is addressed to this router, but its packet to somebody else.
    fn is_to_route(&self, head: &[u8], mac: MacBytes, inside: Inside) -> bool {
        let to = address(head, 30);
        let local = u32::from(to) & inside.mask == u32::from(inside.host) & inside.mask;
        let elsewhere = !local && !to.is_broadcast() && !to.is_multicast();
        is_ipv4(head) && head.get(..6) == Some(&mac) && (elsewhere || self.nat.borrow().is_relayed(head))
    }

    fn route(&self, frame: &Frame<'_>, now: u64) -> Result<(), Refused> {
        let mut head = [0; HEAD];
        let head = copy_of(frame.head, &mut head);
        let blank = frame.offload.checksum == Checksum::Blank;
        let translated = self.nat.borrow_mut().outbound(head, blank, frame.source, now);
        let next = translated.ok().and_then(|to| self.outside.get()?.next_hop(to));
        match next {
            Some(next) => self.pass(frame, head, &self.outer, next, now),
            None => {
                self.count(|stats| stats.dropped += 1);
                Ok(())
            }
        }
    }

    /// Puts a frame with a new head to the station `next` of a side.
    fn pass(
        &self,
        frame: &Frame<'_>,
        head: &mut [u8],
        face: &Face<P>,
        next: Ipv4Addr,
        now: u64,
    ) -> Result<(), Refused> {
        let known = face.neighbours.borrow().find(next, now);
        let Some((mac, plug)) = known.zip(face.plug()) else {
            self.count(|stats| stats.dropped += 1);
            let own = if core::ptr::eq(face, &self.inner) {
                Some(self.nat.borrow().inside().host)
            } else {
                self.outside.get().map(|outside| outside.address)
            };
            if let Some(own) = own {
                self.ask(face, own, next, now);
            }
            return Ok(());
        };
        readdress(head, mac, face.mac);
        let mut pieces = self.pieces.take();
        pieces.clear();
        pieces.push(self.place(head));
        behind(frame.pieces, head.len(), &mut pieces);
        face.dirty.set(true);
        let put = plug.put(&Frame { head, pieces: &pieces, len: frame.len, offload: frame.offload, source: 0 });
        self.pieces.replace(pieces);
        self.count(|stats| match put {
            Ok(()) if core::ptr::eq(face, &self.outer) => stats.out += 1,
            Ok(()) => stats.back += 1,
            Err(Refused::Full) => {}
            Err(Refused::Unfit | Refused::Down) => stats.dropped += 1,
        });
        put
    }

    /// Asks the stations of a side which of them has an address.
    fn ask(&self, face: &Face<P>, own: Ipv4Addr, wanted: Ipv4Addr, now: u64) {
        let Some(plug) = face.plug().filter(|_| face.neighbours.borrow_mut().may_ask(wanted, now)) else { return };
        let bytes = question(face.mac, own, wanted);
        let piece = self.place(&bytes);
        let offload = Offload { checksum: Checksum::Valid, gso: None };
        let frame = Frame { head: &bytes, pieces: &[piece], len: u32::from(piece.len), offload, source: 0 };
        // Who has no room is asked again.
        let _ = plug.put(&frame);
        plug.commit();
    }

    /// Puts a head where it can be fetched at the next commit.
    fn place(&self, head: &[u8]) -> Piece {
        if self.used.get() == SLOTS {
            self.commit();
        }
        let start = self.used.get() * SLOT;
        self.used.set(self.used.get() + 1);
        self.heads.copy_in(start, head);
        let page = PageRef::Own(self.heads.bus_addr().offset((start / PAGE_SIZE * PAGE_SIZE) as u64));
        let short = |value: usize| u16::try_from(value).unwrap_or(0);
        Piece { page, offset: short(start % PAGE_SIZE), len: short(head.len()) }
    }

    /// Lets both sides fetch what was put.
    pub(crate) fn commit(&self) {
        self.inner.commit();
        self.outer.commit();
        self.used.set(0);
    }

    /// Ready when both sides may have room.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let pending =
            [&self.inner, &self.outer].map(|face| face.plug().is_some_and(|plug| plug.poll_room(cx).is_pending()));
        if pending.contains(&true) { Poll::Pending } else { Poll::Ready(()) }
    }

    fn count(&self, change: impl FnOnce(&mut RouterStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }
}

/// The head, copied so that it can be changed.
fn copy_of<'a>(head: &[u8], into: &'a mut [u8; HEAD]) -> &'a mut [u8] {
    let len = head.len().min(HEAD);
    let copy = into.get_mut(..len).unwrap_or_default();
    copy.copy_from_slice(head.get(..len).unwrap_or_default());
    copy
}

/// Appends what lies behind the first `skip` bytes of `from`.
fn behind(from: &[Piece], mut skip: usize, into: &mut Vec<Piece>) {
    for piece in from {
        let cut = u16::try_from(skip.min(usize::from(piece.len))).unwrap_or(piece.len);
        skip -= usize::from(cut);
        if cut < piece.len {
            into.push(Piece { page: piece.page, offset: piece.offset + cut, len: piece.len - cut });
        }
    }
}
