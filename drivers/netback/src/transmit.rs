//! The transmit ring: from slots to frames.
//!
//! A pass takes up to [`BURST`] frames, copies their heads in one hypercall, and hands them on. The answers go out when
//! whoever took the frames has fetched them, so that the guest does not reuse a page too early.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;

use driver_api::net::{Checksum, Copy, CopyGrants, Frame, Gso, HEAD, Offload, PageRef, Piece, Port, Refused};
use driver_api::{BackRing, HostMemory, MappedPage, PAGE_SIZE};
use hypercall_abi::ids::DomId;
use hypercall_abi::netif::{
    EXTRA_MORE, ExtraInfo, ExtraType, GsoType, MAX_FRAME, MAX_SLOTS, NetStatus, TX_CSUM_BLANK, TX_DATA_VALIDATED,
    TX_EXTRA_INFO, TX_MORE_DATA, TxRequest, TxResponse,
};
use hypercall_abi::ring::RingOverflow;
use zerocopy::{FromBytes, IntoBytes};

use crate::mapped::Mapped;
use crate::stats::Control;

/// Frames in a pass at most.
pub const BURST: usize = 32;
/// The room of one head.
const HEAD_ROOM: usize = 256;
/// Memory that a transmit ring needs for the heads of a pass; it starts at a page.
pub const HEAD_BYTES: usize = BURST * HEAD_ROOM;
/// The shortest frame: an Ethernet header.
const MIN_FRAME: usize = 14;
/// Extra slots of one frame that are looked at.
const MAX_EXTRAS: usize = 5;

const _: () = assert!(HEAD <= HEAD_ROOM && PAGE_SIZE.is_multiple_of(HEAD_ROOM));

/// A frame as the ring describes it.
struct Packet {
    /// Its part of [`Transmitter::pieces`].
    pieces: Range<usize>,
    /// Its part of [`Transmitter::answers`].
    answers: Range<usize>,
    len: u32,
    offload: Offload,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Frames were sent; there may be more.
    Sent,
    /// There are none.
    Idle,
    /// The next frame waits for room where it goes to.
    Blocked,
}

/// The transmit side of one pair of rings.
pub struct Transmitter<P, C, M> {
    domid: DomId,
    ring: BackRing<P, TxRequest, TxResponse>,
    copier: C,
    /// The heads of the pass, [`HEAD_ROOM`] bytes each.
    heads: M,
    control: Rc<Control>,
    /// Pages of the guest whose bytes need no call.
    mapped: Rc<RefCell<Mapped<P>>>,
    packets: Vec<Packet>,
    /// What the slots named, frame after frame.
    pieces: Vec<Piece>,
    answers: Vec<TxResponse>,
    copies: Vec<Copy>,
    /// The frame of each copy.
    owners: Vec<usize>,
    done: Vec<bool>,
    /// The frame that is handed on: its head, and what is behind it.
    parts: Vec<Piece>,
    /// Frames of the pass that were handed on.
    sent: usize,
    /// Answers that were put on the ring.
    answered: usize,
}

impl<P: MappedPage, C: CopyGrants, M: HostMemory> Transmitter<P, C, M> {
    /// Serves the ring of `domid`, with [`HEAD_BYTES`] of memory for heads.
    pub fn new(
        domid: DomId,
        ring: BackRing<P, TxRequest, TxResponse>,
        copier: C,
        heads: M,
        control: Rc<Control>,
    ) -> Self {
        Self {
            domid,
            ring,
            copier,
            heads,
            control,
            mapped: Rc::default(),
            packets: Vec::new(),
            pieces: Vec::new(),
            answers: Vec::new(),
            copies: Vec::new(),
            owners: Vec::new(),
            done: Vec::new(),
            parts: Vec::new(),
            sent: 0,
            answered: 0,
        }
    }

    /// The same, with pages that stay mapped.
    pub(crate) fn with_mapped(self, mapped: Rc<RefCell<Mapped<P>>>) -> Self {
        Self { mapped, ..self }
    }

    /// Sends what the guest has put, a burst at most. The second value says whether the guest is to be notified.
    ///
    /// # Errors
    /// The front end's producer index cannot be true.
    pub fn pass(&mut self, wire: &impl Port) -> Result<(Pass, bool), RingOverflow> {
        if self.packets.is_empty() {
            self.collect()?;
            self.copy_heads();
        }
        if self.answers.is_empty() {
            return Ok((Pass::Idle, false));
        }
        let blocked = self.forward(wire);
        wire.commit();
        let notify = self.answer();
        Ok((if blocked { Pass::Blocked } else { Pass::Sent }, notify))
    }

    /// Takes frames off the ring.
    fn collect(&mut self) -> Result<(), RingOverflow> {
        self.pieces.clear();
        self.answers.clear();
        (self.sent, self.answered) = (0, 0);
        let mut left = self.ring.pending()?;
        if left == 0 {
            left = self.ring.final_check()?;
        }
        while left > 0 && self.packets.len() < BURST {
            left -= self.collect_one(left);
        }
        Ok(())
    }

    /// Takes one frame of at most `left` slots; returns how many it had.
    fn collect_one(&mut self, left: u32) -> u32 {
        let (first_piece, first_answer) = (self.pieces.len(), self.answers.len());
        let first = self.ring.take();
        self.answers.push(TxResponse { id: first.id, status: NetStatus::Okay.raw() });
        let mut used = 1;
        let mut gso = Ok(None);
        let mut more_extras = first.flags & TX_EXTRA_INFO != 0;
        while more_extras && used < left {
            // Extra information fills eight of the slot's twelve bytes.
            let slot = self.ring.take();
            let extra =
                ExtraInfo::read_from_prefix(slot.as_bytes()).map_or_else(|_| ExtraInfo::default(), |(extra, _)| extra);
            used += 1;
            self.answers.push(TxResponse { id: 0, status: NetStatus::Null.raw() });
            more_extras = extra.flags & EXTRA_MORE != 0;
            if used as usize > MAX_EXTRAS {
                gso = Err(());
            } else if ExtraType::from_raw(extra.kind) == Some(ExtraType::Gso) {
                gso = gso_of(&extra).map(Some);
            }
        }
        let mut sound = !more_extras;
        let mut rest = 0;
        let mut more = first.flags & TX_MORE_DATA != 0;
        while more && used < left {
            let slot = self.ring.take();
            used += 1;
            self.answers.push(TxResponse { id: slot.id, status: NetStatus::Okay.raw() });
            rest += usize::from(slot.size);
            sound &= self.push_piece(&slot, slot.size);
            more = slot.flags & TX_MORE_DATA != 0;
        }
        let len = usize::from(first.size);
        sound &= !more && self.pieces.len() - first_piece < MAX_SLOTS && (MIN_FRAME..=MAX_FRAME).contains(&len);
        match len.checked_sub(rest).and_then(|own| u16::try_from(own).ok()).filter(|own| *own > 0) {
            Some(own) => {
                sound &= self.push_piece(&first, own);
                // It was judged last, for its length is what the others leave.
                if let Some(pieces) = self.pieces.get_mut(first_piece..) {
                    pieces.rotate_right(1);
                }
            }
            None => sound = false,
        }
        let answers = first_answer..self.answers.len();
        match gso {
            Ok(gso) if sound => {
                let checksum = match first.flags & (TX_CSUM_BLANK | TX_DATA_VALIDATED) {
                    0 => Checksum::Unchecked,
                    flags if flags & TX_CSUM_BLANK != 0 => Checksum::Blank,
                    _ => Checksum::Valid,
                };
                let pieces = first_piece..self.pieces.len();
                let offload = Offload { checksum, gso };
                self.packets.push(Packet { pieces, answers, len: u32::from(first.size), offload });
            }
            Ok(_) | Err(()) => {
                self.pieces.truncate(first_piece);
                self.fail(answers);
            }
        }
        used
    }

    /// Notes `len` bytes of a slot; false if they do not lie in its page.
    fn push_piece(&mut self, slot: &TxRequest, len: u16) -> bool {
        let piece = Piece { page: PageRef::Granted(self.domid, slot.gref), offset: slot.offset, len };
        self.pieces.push(piece);
        usize::from(slot.offset) + usize::from(len) <= PAGE_SIZE
    }

    /// Turns the answers of a frame into errors; those of extra slots stay.
    fn fail(&mut self, answers: Range<usize>) {
        for answer in self.answers.get_mut(answers).unwrap_or_default() {
            if answer.status == NetStatus::Okay.raw() {
                answer.status = NetStatus::Error.raw();
            }
        }
        self.control.count(|stats| stats.tx_errors += 1);
    }

    /// Copies the first bytes of every frame into the host's memory, in one call. Frames whose pages are not granted
    /// fail here.
    fn copy_heads(&mut self) {
        self.copies.clear();
        self.owners.clear();
        self.done.clear();
        let mapped = self.mapped.borrow();
        for (index, packet) in self.packets.iter().enumerate() {
            let mut at = 0;
            for piece in self.pieces.get(packet.pieces.clone()).unwrap_or_default() {
                let here = usize::from(piece.len).min(HEAD - at);
                if here == 0 {
                    break;
                }
                let Ok(len) = u16::try_from(here) else { break };
                if !mapped.is_empty() && self.copy_mapped(&mapped, &Piece { len, ..*piece }, index * HEAD_ROOM + at) {
                    at += here;
                    continue;
                }
                let (page, offset) = self.head_place(index, at);
                self.copies.push(Copy { from: Piece { len, ..*piece }, to: page, at: offset });
                self.owners.push(index);
                at += here;
            }
        }
        drop(mapped);
        if self.copies.is_empty() {
            return;
        }
        self.copier.copy(&self.copies, &mut self.done);
        if self.done.iter().all(|done| *done) {
            return;
        }
        let failed: Vec<usize> =
            self.owners.iter().zip(&self.done).filter(|(_, done)| !**done).map(|(owner, _)| *owner).collect();
        for index in failed {
            // An empty list of pieces marks it as answered.
            if let Some(packet) = self.packets.get_mut(index)
                && !packet.pieces.is_empty()
            {
                packet.pieces.end = packet.pieces.start;
                let answers = packet.answers.clone();
                self.fail(answers);
            }
        }
    }

    /// Copies bytes of a page that is mapped to byte `at` of the heads; false if it is not mapped.
    fn copy_mapped(&self, mapped: &Mapped<P>, piece: &Piece, at: usize) -> bool {
        let PageRef::Granted(_, gref) = piece.page else { return false };
        let mut bytes = [0; HEAD];
        let bytes = bytes.get_mut(..usize::from(piece.len)).unwrap_or_default();
        let copied = mapped.read(gref, piece.offset, bytes);
        if copied {
            self.heads.copy_in(at, bytes);
        }
        copied
    }

    /// Where byte `at` of the head of frame `index` lies.
    fn head_place(&self, index: usize, at: usize) -> (PageRef, u16) {
        let byte = index * HEAD_ROOM + at;
        let page = self.heads.bus_addr().offset((byte / PAGE_SIZE * PAGE_SIZE) as u64);
        (PageRef::Own(page), u16::try_from(byte % PAGE_SIZE).unwrap_or(0))
    }

    /// Hands the frames on that were not yet. True if one has to wait for room.
    fn forward(&mut self, wire: &impl Port) -> bool {
        while let Some(packet) = self.packets.get(self.sent) {
            let named = self.pieces.get(packet.pieces.clone()).unwrap_or_default();
            if named.is_empty() {
                self.sent += 1;
                continue;
            }
            let have = (packet.len as usize).min(HEAD);
            let (page, offset) = self.head_place(self.sent, 0);
            self.parts.clear();
            self.parts.push(Piece { page, offset, len: u16::try_from(have).unwrap_or(0) });
            behind(named, have, &mut self.parts);
            let (pieces, len, offload) = (&*self.parts, packet.len, packet.offload);
            let start = self.sent * HEAD_ROOM;
            // The head is where the hypervisor has put it, and nobody else writes there.
            let put = |head: &mut [u8]| wire.put(&Frame { head, pieces, len, offload, source: 0 });
            match self.heads.with_bytes(start..start + have, put) {
                Ok(()) => self.control.count(|stats| {
                    stats.tx_packets += 1;
                    stats.tx_bytes += u64::from(len);
                }),
                Err(Refused::Full) => return true,
                Err(Refused::Unfit | Refused::Down) => self.control.count(|stats| stats.tx_dropped += 1),
            }
            self.sent += 1;
        }
        false
    }

    /// Answers the frames that were handed on and fetched. True if the guest is to be notified.
    fn answer(&mut self) -> bool {
        let waiting = self.packets.get(self.sent).map(|packet| packet.answers.start);
        let end = waiting.unwrap_or(self.answers.len());
        for answer in self.answers.get(self.answered..end).unwrap_or_default() {
            self.ring.put(answer);
        }
        self.answered = end;
        if waiting.is_none() {
            self.packets.clear();
        }
        self.ring.publish()
    }

    /// Whether the guest has not found its answers yet, so that it must be told of them.
    pub fn is_awaited(&self) -> bool {
        self.ring.is_awaited()
    }

    /// The guest is told of its answers.
    pub fn notified(&self) {
        self.control.count(|stats| stats.notifications += 1);
    }

    /// The ring's page, to be unmapped.
    pub fn into_pages(self) -> Vec<P> {
        self.ring.into_pages()
    }
}

/// The segmentation that an extra slot asks for.
fn gso_of(extra: &ExtraInfo) -> Result<Gso, ()> {
    match GsoType::from_raw(extra.gso_type) {
        Some(kind @ (GsoType::TcpV4 | GsoType::TcpV6)) if extra.gso_size != 0 => Ok(Gso { kind, size: extra.gso_size }),
        Some(_) | None => Err(()),
    }
}

/// Appends what lies behind the first `skip` bytes of `from`.
fn behind(from: &[Piece], mut skip: usize, into: &mut Vec<Piece>) {
    for piece in from {
        let cut = skip.min(usize::from(piece.len));
        skip -= cut;
        let Ok(cut) = u16::try_from(cut) else { return };
        if cut < piece.len {
            into.push(Piece { page: piece.page, offset: piece.offset + cut, len: piece.len - cut });
        }
    }
}
