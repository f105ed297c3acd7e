//! The shared ring of one disk, and the slots that its requests live in.

use core::sync::atomic::Ordering;
use core::task::Context;

use hypercall_abi::blkif::{
    BlkOp, BlkStatus, DiscardRequest, IndirectRequest, MAX_SEGMENTS, Request, Response, SECTOR_SIZE, SECTORS_PER_PAGE,
    SEGMENTS_PER_INDIRECT_PAGE, SLOT_SIZE, Segment,
};
use hypercall_abi::ids::{DomId, GrantRef, Port};
use hypercall_abi::{PAGE_SIZE, ring};
use zerocopy::{Immutable, IntoBytes};

use super::BlkError;
use super::pages::{Chain, Pages};
use crate::evtchn::EventChannel;
use crate::grant::{Access, GrantedPage};
use crate::sys::cpu::full_barrier;

/// Slots of a ring of one page.
pub(super) const RING_SLOTS: usize = ring::slots(1, SLOT_SIZE) as usize;
const SLOTS: u32 = ring::slots(1, SLOT_SIZE);
/// Most segments of an indirect request of ours: 1 MiB, listed in one page.
const MAX_INDIRECT: usize = 256;
const _: () = assert!(MAX_INDIRECT <= SEGMENTS_PER_INDIRECT_PAGE);

/// A slot in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(u8);

impl SlotId {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    const fn on_wire(self) -> u64 {
        self.0 as u64
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// The back end has it, and somebody waits.
    InFlight(BlkOp),
    /// The back end has it, and nobody waits any more.
    Abandoned(BlkOp),
    /// The answer has come.
    Answered(i16),
}

struct Slot {
    state: State,
    /// The pages of the request that has the slot: its data, and behind that the list of an indirect request.
    pages: Chain,
}

impl Slot {
    const FREE: Self = Self { state: State::Free, pages: Chain::EMPTY };
}

/// A transfer that was started, and how many of the bytes that were asked for it is about.
pub(super) struct Started {
    pub(super) slot: SlotId,
    pub(super) bytes: usize,
}

/// One disk's ring. Private indices are the truth; the shared ones are published copies of them.
pub(super) struct Ring {
    page: GrantedPage,
    channel: EventChannel,
    handle: u16,
    req_prod: u32,
    rsp_cons: u32,
    slots: [Slot; RING_SLOTS],
    pages: Pages,
    /// Segments that one request may have; more than [`MAX_SEGMENTS`] when the back end takes indirect ones.
    max_segments: usize,
}

impl Ring {
    pub(super) fn new(backend: DomId, handle: u16) -> Result<Self, BlkError> {
        let page = GrantedPage::new(backend, Access::ReadWrite)?;
        let channel = EventChannel::alloc_unbound(backend)?;
        // The page is zeroed; an event index of 1 asks for the first item (`SHARED_RING_INIT`).
        page.shared().u32(ring::REQ_EVENT).store(1, Ordering::Relaxed);
        page.shared().u32(ring::RSP_EVENT).store(1, Ordering::Release);
        let (slots, pages) = ([const { Slot::FREE }; RING_SLOTS], Pages::new(backend));
        Ok(Self { page, channel, handle, req_prod: 0, rsp_cons: 0, slots, pages, max_segments: MAX_SEGMENTS })
    }

    /// The back end takes requests of up to `segments` segments in a page of their own.
    pub(super) fn allow_indirect(&mut self, segments: usize) {
        self.max_segments = segments.clamp(MAX_SEGMENTS, MAX_INDIRECT);
    }

    pub(super) const fn gref(&self) -> GrantRef {
        self.page.gref()
    }

    pub(super) const fn port(&self) -> Port {
        self.channel.port()
    }

    /// Whether a request could be started.
    pub(super) fn has_room(&self) -> bool {
        self.free_slot().is_some() && self.pages.has_some()
    }

    /// Starts a read of as much as one request can carry; `None` when it has to wait for others to end.
    pub(super) fn read(&mut self, sector: u64, bytes: usize) -> Result<Option<Started>, BlkError> {
        self.start(BlkOp::Read, sector, bytes, |_| ())
    }

    /// Starts a write of as much as one request can carry; `None` when it has to wait for others to end.
    pub(super) fn write(&mut self, sector: u64, data: &[u8]) -> Result<Option<Started>, BlkError> {
        self.start(BlkOp::Write, sector, data.len(), |pages| {
            for (page, bytes) in pages.zip(data.chunks(PAGE_SIZE)) {
                page.shared().write_bytes(0, bytes);
            }
        })
    }

    /// Starts a request without data; `None` when no slot is free.
    pub(super) fn control(&mut self, op: BlkOp) -> Option<SlotId> {
        let id = self.free_slot()?;
        self.push(
            op,
            id,
            &Request { operation: op.raw(), handle: self.handle, id: id.on_wire(), ..Default::default() },
        );
        Some(id)
    }

    /// Starts a discard; `None` when no slot is free.
    pub(super) fn discard(&mut self, sector_number: u64, nr_sectors: u64) -> Option<SlotId> {
        let id = self.free_slot()?;
        let (operation, handle) = (BlkOp::Discard.raw(), self.handle);
        let request =
            DiscardRequest { operation, flag: 0, handle, pad: 0, id: id.on_wire(), sector_number, nr_sectors };
        self.push(BlkOp::Discard, id, &request);
        Some(id)
    }

    fn free_slot(&self) -> Option<SlotId> {
        let index = self.slots.iter().position(|slot| slot.state == State::Free)?;
        u8::try_from(index).ok().map(SlotId)
    }

    /// Starts a transfer between the disk and pages that `fill` prepares.
    fn start(
        &mut self,
        op: BlkOp,
        sector: u64,
        bytes: usize,
        fill: impl FnOnce(&mut dyn Iterator<Item = &GrantedPage>),
    ) -> Result<Option<Started>, BlkError> {
        let Some(id) = self.free_slot() else { return Ok(None) };
        let wanted = bytes.div_ceil(PAGE_SIZE).min(self.max_segments);
        let indirect = |data| usize::from(data > MAX_SEGMENTS);
        let pages = self.pages.lend(wanted + indirect(wanted))?;
        // With fewer pages than were wanted, the request is shorter.
        let data = if pages.len() > MAX_SEGMENTS + 1 { pages.len() - 1 } else { pages.len().min(MAX_SEGMENTS) };
        let data = data.min(wanted);
        if data == 0 {
            self.pages.give_back(pages);
            return Ok(None);
        }
        let bytes = bytes.min(data * PAGE_SIZE);
        fill(&mut self.pages.of(&pages).take(data));
        if indirect(data) == 0 {
            let request = self.direct(op, id, sector, &pages, bytes);
            self.push(op, id, &request);
        } else {
            let request = self.indirect(op, id, sector, &pages, bytes);
            self.push(op, id, &request);
        }
        if let Some(slot) = self.slots.get_mut(id.index()) {
            slot.pages = pages;
        }
        Ok(Some(Started { slot: id, bytes }))
    }

    /// The segments of a transfer: whole pages, but for the end of the last one.
    fn segments(&self, pages: &Chain, bytes: usize) -> impl Iterator<Item = Segment> {
        let starts = (0..bytes).step_by(PAGE_SIZE);
        self.pages.of(pages).zip(starts).map(move |(page, start)| {
            let sectors = u8::try_from((bytes - start).div_ceil(SECTOR_SIZE)).unwrap_or(SECTORS_PER_PAGE);
            Segment { gref: page.gref(), first_sect: 0, last_sect: sectors.clamp(1, SECTORS_PER_PAGE) - 1, pad: 0 }
        })
    }

    fn direct(&self, op: BlkOp, id: SlotId, sector_number: u64, pages: &Chain, bytes: usize) -> Request {
        let (operation, handle) = (op.raw(), self.handle);
        let mut request = Request { operation, handle, id: id.on_wire(), sector_number, ..Default::default() };
        for (to, from) in request.seg.iter_mut().zip(self.segments(pages, bytes)) {
            *to = from;
            request.nr_segments += 1;
        }
        request
    }

    /// Lists the segments in the last page of the chain.
    fn indirect(&self, op: BlkOp, id: SlotId, sector_number: u64, pages: &Chain, bytes: usize) -> IndirectRequest {
        let (operation, indirect_op, handle) = (BlkOp::Indirect.raw(), op.raw(), self.handle);
        let mut request =
            IndirectRequest { operation, indirect_op, handle, id: id.on_wire(), sector_number, ..Default::default() };
        if let (Some(list), [gref, ..]) = (self.pages.of(pages).last(), &mut request.indirect_grefs) {
            *gref = list.gref();
            for (number, segment) in self.segments(pages, bytes).enumerate() {
                list.shared().write(number * size_of::<Segment>(), &segment);
                request.nr_segments += 1;
            }
        }
        request
    }

    /// Publishes a request. There is room: the ring has as many entries as there are slots.
    fn push<T: IntoBytes + Immutable>(&mut self, op: BlkOp, id: SlotId, request: &T) {
        if let Some(slot) = self.slots.get_mut(id.index()) {
            slot.state = State::InFlight(op);
        }
        let page = self.page.shared();
        page.write(ring::slot_offset(self.req_prod, SLOTS, SLOT_SIZE), request);
        let old = self.req_prod;
        self.req_prod = old.wrapping_add(1);
        page.u32(ring::REQ_PROD).store(self.req_prod, Ordering::Release);
        full_barrier();
        let event = page.u32(ring::REQ_EVENT).load(Ordering::Acquire);
        if ring::must_notify(old, self.req_prod, event) {
            // A failure means that the back end is gone, which the watch on its state will tell.
            let _ = self.channel.notify();
        }
    }

    /// Takes every answer that has come, calls `answered` for those that somebody waits for, and registers the
    /// task for the next notification.
    pub(super) fn drain(
        &mut self,
        mut answered: impl FnMut(SlotId),
        context: &mut Context<'_>,
    ) -> Result<(), BlkError> {
        loop {
            self.take_answers(&mut answered)?;
            let page = self.page.shared();
            page.u32(ring::RSP_EVENT).store(ring::final_check_event(self.rsp_cons), Ordering::Release);
            full_barrier();
            self.take_answers(&mut answered)?;
            if self.channel.poll_notified(context).is_pending() {
                return Ok(());
            }
        }
    }

    fn take_answers(&mut self, answered: &mut impl FnMut(SlotId)) -> Result<(), BlkError> {
        let produced = self.page.shared().u32(ring::RSP_PROD).load(Ordering::Acquire);
        let ready = ring::unconsumed_responses(produced, self.rsp_cons, self.req_prod);
        for _ in 0..ready.map_err(|_| BlkError::Broken)? {
            let offset = ring::slot_offset(self.rsp_cons, SLOTS, SLOT_SIZE);
            let response: Response = self.page.shared().read(offset);
            self.rsp_cons = self.rsp_cons.wrapping_add(1);
            let number = u8::try_from(response.id).map_err(|_| BlkError::Broken)?;
            let slot = self.slots.get_mut(usize::from(number)).ok_or(BlkError::Broken)?;
            match slot.state {
                State::InFlight(op) if op.raw() == response.operation => {
                    slot.state = State::Answered(response.status);
                    answered(SlotId(number));
                }
                State::Abandoned(op) if op.raw() == response.operation => {
                    let pages = core::mem::replace(slot, Slot::FREE).pages;
                    self.pages.give_back(pages);
                }
                State::InFlight(_) | State::Abandoned(_) | State::Free | State::Answered(_) => {
                    return Err(BlkError::Broken);
                }
            }
        }
        Ok(())
    }

    /// The outcome of a request, `None` while it is in flight; copies what was read.
    pub(super) fn take_answer(&mut self, id: SlotId, read_to: Option<&mut [u8]>) -> Result<Option<()>, BlkError> {
        let slot = self.slots.get_mut(id.index()).ok_or(BlkError::Closed)?;
        let State::Answered(status) = slot.state else { return Ok(None) };
        match BlkStatus::from_raw(status) {
            Some(BlkStatus::Okay) => {}
            Some(BlkStatus::OpNotSupp) => return Err(BlkError::NotSupported),
            Some(BlkStatus::Error) | None => return Err(BlkError::Failed),
        }
        for (page, bytes) in self.pages.of(&slot.pages).zip(read_to.unwrap_or_default().chunks_mut(PAGE_SIZE)) {
            page.shared().read_bytes(0, bytes);
        }
        Ok(Some(()))
    }

    /// Gives a slot up, now or when its answer comes.
    pub(super) fn release(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(id.index()) {
            match slot.state {
                State::InFlight(op) | State::Abandoned(op) => slot.state = State::Abandoned(op),
                State::Answered(_) | State::Free => {
                    let pages = core::mem::replace(slot, Slot::FREE).pages;
                    self.pages.give_back(pages);
                }
            }
        }
    }
}
