//! The way between a bridge inside and one outside: frames come in at one, are translated, and go out at the other.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell, RefMut};
use core::net::Ipv4Addr;
use core::task::{Context, Poll};

use driver_api::net::{Checksum, CopyGrants, Frame, HEAD, Offload, Piece, Port, Refused, own_pieces};
use driver_api::{DmaMemory, PAGE_SIZE};

use crate::face::{Face, Facing};
use crate::neighbours::{MacBytes, question, readdress, sender};
use crate::packet::{address, is_ipv4, longest_packet, may_not_be_cut};
use crate::report::{Message, Trouble};
use crate::table::Owner;
use crate::translate::{Inside, Nat, Refusal};
use crate::waiting::{WAITING_MEMORY, Waiting};

/// Heads of frames that wait for the next commit.
const SLOTS: usize = 64;
/// The room of one head.
const SLOT: usize = 256;
/// Bytes of memory that a router needs, for heads and for frames that wait; it starts at a page.
pub const MEMORY: usize = SLOTS * SLOT + WAITING_MEMORY;

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
    /// The longest packet that the network carries.
    pub mtu: u16,
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
    /// Frames that were not translated, and those for whose receiver nobody answered in time.
    pub dropped: u64,
}

/// The router.
pub struct Router<P, M> {
    nat: Rc<RefCell<Nat>>,
    outside: Cell<Option<Outside>>,
    inner: Face<P>,
    outer: Face<P>,
    heads: Rc<M>,
    used: Cell<usize>,
    waiting: RefCell<Waiting<M>>,
    copier: Rc<dyn CopyGrants>,
    /// Room for the description of a frame.
    pieces: Cell<Vec<Piece>>,
    stats: Cell<RouterStats>,
    clock: fn() -> u64,
}

impl<P: Port, M: DmaMemory> Router<P, M> {
    /// A router of `nat`, which has the addresses `macs` inside and outside, with frames in `memory`, of [`MEMORY`] bytes. `clock`
    /// tells seconds.
    pub fn new(nat: Nat, macs: [MacBytes; 2], memory: M, copier: Rc<dyn CopyGrants>, clock: fn() -> u64) -> Rc<Self> {
        let (heads, [inner, outer]) = (Rc::new(memory), macs);
        Rc::new(Router {
            nat: Rc::new(RefCell::new(nat)),
            outside: Cell::new(None),
            inner: Face::new(Facing::Inside, inner),
            outer: Face::new(Facing::Outside, outer),
            waiting: RefCell::new(Waiting::new(Rc::clone(&heads), SLOTS * SLOT)),
            heads,
            used: Cell::new(0),
            copier,
            pieces: Cell::default(),
            stats: Cell::default(),
            clock,
        })
    }

    /// Says where frames enter the two bridges.
    pub fn connect(&self, inner: &Rc<P>, outer: &Rc<P>) {
        self.inner.connect(inner);
        self.outer.connect(outer);
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

    /// Another router has the same address outside.
    pub(crate) fn share_with(&self, other: &Self) {
        self.nat.borrow_mut().share_with(&other.nat);
        other.nat.borrow_mut().share_with(&self.nat);
    }

    /// The counters.
    pub fn stats(&self) -> RouterStats {
        self.stats.get()
    }

    /// Forgets what is over, asks again those who have not answered, and keeps in touch with the station that knows the way. Call
    /// it every second.
    pub fn tick(&self) {
        let now = (self.clock)();
        self.nat.borrow_mut().sweep(now);
        let lost = self.waiting.borrow_mut().give_up(now);
        self.count(|stats| stats.dropped += lost);
        let silent = self.waiting.borrow().receivers();
        silent.into_iter().for_each(|(side, address)| self.ask(self.face(side), address, now));
        let Some(gateway) = self.outside.get().and_then(|outside| outside.gateway) else { return };
        let known = self.outer.neighbours.borrow().find(gateway, now).is_some();
        if !known {
            self.ask(&self.outer, gateway, now);
        }
    }

    /// An interface is gone, which had this number on the bridge inside.
    pub fn forget(&self, port: Owner) {
        self.nat.borrow_mut().forget(port);
        let lost = self.waiting.borrow_mut().forget(port);
        self.count(|stats| stats.dropped += lost);
    }

    /// A guest has this Ethernet address, as somebody knows who gave it `address`.
    pub fn introduce(&self, address: Ipv4Addr, mac: MacBytes) {
        self.learn(&self.inner, address, mac, (self.clock)());
    }

    fn face(&self, side: Facing) -> &Face<P> {
        match side {
            Facing::Inside => &self.inner,
            Facing::Outside => &self.outer,
        }
    }

    /// A station of a side was seen: what has waited for it goes to it.
    fn learn(&self, face: &Face<P>, address: Ipv4Addr, mac: MacBytes, now: u64) {
        face.neighbours.borrow_mut().learn(address, mac, now);
        let waiters = self.waiting.borrow_mut().take((face.side, address));
        if waiters.is_empty() {
            return;
        }
        if let Some(plug) = face.plug() {
            for waiter in &waiters {
                let waiting = self.waiting.borrow();
                let put = waiting.describe(waiter, |head| readdress(head, mac, face.mac), |frame| plug.put(frame));
                self.count_put(face.side, put);
                // A receiver without room loses the frame.
                self.count(|stats| stats.dropped += u64::from(put == Err(Refused::Full)));
            }
            plug.commit();
        }
        waiters.into_iter().for_each(|waiter| self.waiting.borrow_mut().release(waiter));
    }

    /// A frame from inside. `Ok(false)` says that it is for the host itself.
    pub(crate) fn leave(&self, frame: &Frame<'_>) -> Result<bool, Refused> {
        let now = (self.clock)();
        let inside = self.nat.borrow().inside();
        if let Some((address, mac)) = sender(frame.head).filter(|(address, _)| inside.is_guest(*address)) {
            self.learn(&self.inner, address, mac, now);
            return Ok(false);
        }
        if !self.is_to_route(frame.head, self.inner.mac, inside) {
            return Ok(false);
        }
        let (from, mac) = (address(frame.head, 26), frame.head.get(6..12).and_then(|mac| mac.try_into().ok()));
        if let Some(mac) = mac.filter(|_| inside.is_guest(from)) {
            self.learn(&self.inner, from, mac, now);
        }
        self.route(frame, now).map(|()| true)
    }

    /// A frame from outside. `Ok(false)` says that it is for the host itself.
    pub(crate) fn enter(&self, frame: &Frame<'_>) -> Result<bool, Refused> {
        let now = (self.clock)();
        if let Some((address, mac)) = sender(frame.head) {
            self.learn(&self.outer, address, mac, now);
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
        let mtu = self.outside.get().map_or(u16::MAX, |outside| outside.mtu);
        if longest_packet(frame) > usize::from(mtu) {
            self.count(|stats| stats.dropped += 1);
            if may_not_be_cut(head) {
                self.report(head, Trouble::TooLong(mtu));
            }
            return Ok(());
        }
        let blank = frame.offload.checksum == Checksum::Blank;
        let translated = self.nat.borrow_mut().outbound(head, blank, frame.source, now);
        if translated == Err(Refusal::Expired) {
            self.report(head, Trouble::Expired);
        }
        let next = translated.ok().and_then(|to| self.outside.get()?.next_hop(to));
        match next {
            Some(next) => self.pass(frame, head, &self.outer, next, now),
            None => {
                self.count(|stats| stats.dropped += 1);
                Ok(())
            }
        }
    }

    /// Tells the guest that sent a packet why it did not go on. That is one short frame for one of its own.
    fn report(&self, head: &[u8], trouble: Trouble) {
        let (mac, inside) = (self.inner.mac, self.nat.borrow().inside());
        let message = Message::about(head, trouble, mac, inside.host);
        if let Some(message) = message.filter(|_| inside.is_guest(address(head, 26))) {
            self.say(&self.inner, message.frame());
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
            let lost = self.waiting.borrow_mut().keep(&self.copier, frame, head, (face.side, next), now);
            self.count(|stats| stats.dropped += lost);
            self.ask(face, next, now);
            return Ok(());
        };
        readdress(head, mac, face.mac);
        let mut pieces = self.pieces.take();
        pieces.clear();
        pieces.extend(self.place(head));
        behind(frame.pieces, head.len(), &mut pieces);
        let changed = Frame { head, pieces: &pieces, len: frame.len, offload: frame.offload, source: 0 };
        let put = face.put(&plug, &changed);
        self.pieces.replace(pieces);
        self.count_put(face.side, put);
        put
    }

    fn count_put(&self, side: Facing, put: Result<(), Refused>) {
        self.count(|stats| match (put, side) {
            (Ok(()), Facing::Outside) => stats.out += 1,
            (Ok(()), Facing::Inside) => stats.back += 1,
            (Err(Refused::Full), _) => {}
            (Err(Refused::Unfit | Refused::Down), _) => stats.dropped += 1,
        });
    }

    /// Asks the stations of a side which of them has an address.
    fn ask(&self, face: &Face<P>, wanted: Ipv4Addr, now: u64) {
        let own = match face.side {
            Facing::Inside => Some(self.nat.borrow().inside().host),
            Facing::Outside => self.outside.get().map(|outside| outside.address),
        };
        let Some(own) = own else { return };
        if face.neighbours.borrow_mut().may_ask(wanted, now) {
            // Who has no room is asked again.
            self.say(face, &question(face.mac, own, wanted));
        }
    }

    /// Sends a short frame of the router's own.
    fn say(&self, face: &Face<P>, bytes: &[u8]) {
        let Some(plug) = face.plug() else { return };
        let pieces: Vec<Piece> = self.place(bytes).collect();
        let offload = Offload { checksum: Checksum::Valid, gso: None };
        let len = u32::try_from(bytes.len()).unwrap_or(0);
        let _ = plug.put(&Frame { head: bytes, pieces: &pieces, len, offload, source: 0 });
        plug.commit();
    }

    /// Puts a head where it can be fetched at the next commit.
    fn place(&self, head: &[u8]) -> impl Iterator<Item = Piece> {
        if self.used.get() == SLOTS {
            self.commit();
        }
        let start = self.used.get() * SLOT;
        self.used.set(self.used.get() + 1);
        self.heads.copy_in(start, head);
        own_pieces(&*self.heads, start, head.len())
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
            into.push(piece.behind(cut));
        }
    }
}
