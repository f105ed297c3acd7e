//! The shared ring of one disk, and the slots that its requests live in.

use core::sync::atomic::Ordering;
use core::task::Context;

use heapless::Vec;
use hypercall_abi::blkif::{
    BlkOp, BlkStatus, DiscardRequest, MAX_SEGMENTS, Request, Response, SECTOR_SIZE, SLOT_SIZE, Segment,
};
use hypercall_abi::ids::{DomId, GrantRef, Port};
use hypercall_abi::{PAGE_SIZE, ring};
use zerocopy::{Immutable, IntoBytes};

use super::BlkError;
use crate::evtchn::EventChannel;
use crate::grant::{Access, GrantedPage};
use crate::sys::cpu::full_barrier;

/// Slots of a ring of one page.
pub(super) const RING_SLOTS: usize = ring::slots(1, SLOT_SIZE) as usize;
const SLOTS: u32 = ring::slots(1, SLOT_SIZE);

/// A slot in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(u8);

impl SlotId {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
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
    /// Pages that this slot's requests use; they stay granted.
    pages: Vec<GrantedPage, MAX_SEGMENTS>,
}

/// One disk's ring. Private indices are the truth; the shared ones are published copies of them.
pub(super) struct Ring {
    page: GrantedPage,
    channel: EventChannel,
    backend: DomId,
    handle: u16,
    req_prod: u32,
    rsp_cons: u32,
    slots: [Slot; RING_SLOTS],
}

impl Ring {
    pub(super) fn new(backend: DomId, handle: u16) -> Result<Self, BlkError> {
        let page = GrantedPage::new(backend, Access::ReadWrite)?;
        let channel = EventChannel::alloc_unbound(backend)?;
        // The page is zeroed; an event index of 1 asks for the first item (`SHARED_RING_INIT`).
        page.shared().u32(ring::REQ_EVENT).store(1, Ordering::Relaxed);
        page.shared().u32(ring::RSP_EVENT).store(1, Ordering::Release);
        let slots = [const { Slot { state: State::Free, pages: Vec::new() } }; RING_SLOTS];
        Ok(Self { page, channel, backend, handle, req_prod: 0, rsp_cons: 0, slots })
    }

    pub(super) const fn gref(&self) -> GrantRef {
        self.page.gref()
    }

    pub(super) const fn port(&self) -> Port {
        self.channel.port()
    }

    pub(super) fn has_free(&self) -> bool {
        self.slots.iter().any(|slot| slot.state == State::Free)
    }

    /// Starts a read; `None` when no slot is free.
    pub(super) fn read(&mut self, sector: u64, bytes: usize) -> Result<Option<SlotId>, BlkError> {
        let Some((id, segments)) = self.prepare(bytes)? else { return Ok(None) };
        self.transfer(BlkOp::Read, id, sector, segments);
        Ok(Some(id))
    }

    /// Starts a write; `None` when no slot is free.
    pub(super) fn write(&mut self, sector: u64, data: &[u8]) -> Result<Option<SlotId>, BlkError> {
        let Some((id, segments)) = self.prepare(data.len())? else { return Ok(None) };
        if let Some(slot) = self.slots.get(id.index()) {
            for (page, bytes) in slot.pages.iter().zip(data.chunks(PAGE_SIZE)) {
                page.shared().write_bytes(0, bytes);
            }
        }
        self.transfer(BlkOp::Write, id, sector, segments);
        Ok(Some(id))
    }

    /// Starts a request without data; `None` when no slot is free.
    pub(super) fn control(&mut self, op: BlkOp) -> Result<Option<SlotId>, BlkError> {
        let Some((id, segments)) = self.prepare(0)? else { return Ok(None) };
        self.transfer(op, id, 0, segments);
        Ok(Some(id))
    }

    /// Starts a discard; `None` when no slot is free.
    pub(super) fn discard(&mut self, sector_number: u64, nr_sectors: u64) -> Result<Option<SlotId>, BlkError> {
        let Some((id, _)) = self.prepare(0)? else { return Ok(None) };
        let operation = BlkOp::Discard.raw();
        let (handle, id_on_wire) = (self.handle, u64::from(id.0));
        let request = DiscardRequest { operation, flag: 0, handle, pad: 0, id: id_on_wire, sector_number, nr_sectors };
        self.push(BlkOp::Discard, id, &request);
        Ok(Some(id))
    }

    /// Finds a free slot and gives it the pages that `bytes` need.
    fn prepare(&mut self, bytes: usize) -> Result<Option<(SlotId, Vec<Segment, MAX_SEGMENTS>)>, BlkError> {
        let Some(index) = self.slots.iter().position(|slot| slot.state == State::Free) else { return Ok(None) };
        let (Ok(number), Some(slot)) = (u8::try_from(index), self.slots.get_mut(index)) else { return Ok(None) };
        let mut segments = Vec::new();
        let mut left = bytes;
        while left > 0 {
            if slot.pages.len() == segments.len() {
                let page = GrantedPage::new(self.backend, Access::ReadWrite)?;
                slot.pages.push(page).map_err(|_| BlkError::Unaligned)?;
            }
            let gref = slot.pages.get(segments.len()).ok_or(BlkError::Unaligned)?.gref();
            let sectors = u8::try_from(left.min(PAGE_SIZE) / SECTOR_SIZE).map_err(|_| BlkError::Unaligned)?;
            let last_sect = sectors.checked_sub(1).ok_or(BlkError::Unaligned)?;
            segments.push(Segment { gref, first_sect: 0, last_sect, pad: 0 }).map_err(|_| BlkError::Unaligned)?;
            left -= left.min(PAGE_SIZE);
        }
        Ok(Some((SlotId(number), segments)))
    }

    fn transfer(&mut self, op: BlkOp, id: SlotId, sector_number: u64, segments: Vec<Segment, MAX_SEGMENTS>) {
        let mut request = Request {
            operation: op.raw(),
            handle: self.handle,
            id: u64::from(id.0),
            sector_number,
            ..Default::default()
        };
        for (to, from) in request.seg.iter_mut().zip(&segments) {
            *to = *from;
            request.nr_segments += 1;
        }
        self.push(op, id, &request);
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
                State::Abandoned(op) if op.raw() == response.operation => slot.state = State::Free,
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
        for (page, bytes) in slot.pages.iter().zip(read_to.unwrap_or_default().chunks_mut(PAGE_SIZE)) {
            page.shared().read_bytes(0, bytes);
        }
        Ok(Some(()))
    }

    /// Gives a slot up, now or when its answer comes.
    pub(super) fn release(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(id.index()) {
            slot.state = match slot.state {
                State::InFlight(op) | State::Abandoned(op) => State::Abandoned(op),
                State::Answered(_) | State::Free => State::Free,
            };
        }
    }
}
