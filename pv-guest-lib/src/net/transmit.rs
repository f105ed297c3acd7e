//! The transmit ring: frames are copied into pages that stay granted, since a copy costs less than a grant and its end.

use core::sync::atomic::Ordering;
use core::task::Context;

use heapless::Vec;
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, GrantRef};
use hypercall_abi::netif::{
    NetStatus, TX_CSUM_BLANK, TX_DATA_VALIDATED, TX_MORE_DATA, TX_SLOT_SIZE, TxRequest, TxResponse,
};
use hypercall_abi::{PAGE_SIZE, ring};

use super::Broken;
use super::stats::Stats;
use crate::evtchn::EventChannel;
use crate::grant::{Access, GrantedPage};
use crate::sys::cpu::full_barrier;

/// Frames, up to a page each, that can be on their way; a bit each in [`Transmitter::free`].
const PAGES: usize = 64;
const SLOTS: u32 = ring::slots(1, TX_SLOT_SIZE);
const _: () = assert!(PAGES <= SLOTS as usize);

/// The transmit ring. Private indices are the truth; the shared ones are published copies of them.
pub(super) struct Transmitter {
    ring: GrantedPage,
    pages: Vec<GrantedPage, PAGES>,
    /// A bit for each page that the back end does not have.
    free: u64,
    req_prod: u32,
    /// Up to where the back end was notified, if it wanted to be.
    told: u32,
    rsp_cons: u32,
}

impl Transmitter {
    /// # Errors
    /// As [`GrantedPage::new`].
    pub(super) fn new(backend: DomId) -> Result<Self, XenError> {
        let ring = GrantedPage::new(backend, Access::ReadWrite)?;
        let mut pages = Vec::new();
        while !pages.is_full() {
            let _ = pages.push(GrantedPage::new(backend, Access::ReadOnly)?);
        }
        ring.shared().u32(ring::REQ_EVENT).store(1, Ordering::Relaxed);
        ring.shared().u32(ring::RSP_EVENT).store(1, Ordering::Release);
        Ok(Self { ring, pages, free: u64::MAX, req_prod: 0, told: 0, rsp_cons: 0 })
    }

    pub(super) const fn gref(&self) -> GrantRef {
        self.ring.gref()
    }

    /// Whether a frame of `bytes` can be sent; if not, the task is woken when half of what is on its way was answered.
    pub(super) fn poll_room(
        &mut self,
        channel: &EventChannel,
        context: &mut Context<'_>,
        bytes: usize,
        stats: &mut Stats,
    ) -> Result<bool, Broken> {
        let needed = u32::try_from(bytes.div_ceil(PAGE_SIZE)).unwrap_or(u32::MAX);
        loop {
            if self.free.count_ones() >= needed {
                return Ok(true);
            }
            self.take_answers(stats)?;
            if self.free.count_ones() >= needed {
                return Ok(true);
            }
            let waiting = self.req_prod.wrapping_sub(self.rsp_cons);
            let event = self.rsp_cons.wrapping_add((waiting / 2).max(1));
            self.ring.shared().u32(ring::RSP_EVENT).store(event, Ordering::Release);
            full_barrier();
            self.take_answers(stats)?;
            if self.free.count_ones() >= needed {
                return Ok(true);
            }
            if channel.poll_notified(context).is_pending() {
                return Ok(false);
            }
            // Where both rings have one channel, the notification may have been for the other.
            context.waker().wake_by_ref();
        }
    }

    /// Puts a frame on the ring, for which there is room; `blank` says that its checksum is. [`Self::notify`] has to follow.
    pub(super) fn send(&mut self, frame: &[u8], blank: bool, stats: &mut Stats) {
        let Ok(whole) = u16::try_from(frame.len()) else { return };
        let needed = frame.len().div_ceil(PAGE_SIZE);
        if needed == 0 || (self.free.count_ones() as usize) < needed {
            stats.tx_dropped += 1;
            return;
        }
        for (number, chunk) in frame.chunks(PAGE_SIZE).enumerate() {
            let first = if number > 0 {
                0
            } else if blank {
                TX_CSUM_BLANK | TX_DATA_VALIDATED
            } else {
                0
            };
            let more = if number + 1 < needed { TX_MORE_DATA } else { 0 };
            // The first slot says how long the whole frame is.
            let size = if number == 0 { whole } else { u16::try_from(chunk.len()).unwrap_or(0) };
            self.put(chunk, first | more, size);
        }
        self.ring.shared().u32(ring::REQ_PROD).store(self.req_prod, Ordering::Release);
        stats.tx_frames += 1;
        stats.tx_bytes += frame.len() as u64;
    }

    /// Notifies the back end of the frames since the last time, if it wants to know of one of them.
    pub(super) fn notify(&mut self, channel: &EventChannel) {
        let old = core::mem::replace(&mut self.told, self.req_prod);
        full_barrier();
        if ring::must_notify(old, self.req_prod, self.ring.shared().u32(ring::REQ_EVENT).load(Ordering::Acquire)) {
            // A failure means that the back end is gone, which the watch on its state will tell.
            let _ = channel.notify();
        }
    }

    fn put(&mut self, chunk: &[u8], flags: u16, size: u16) {
        let number = self.free.trailing_zeros();
        let (Ok(id), Some(page)) = (u16::try_from(number), self.pages.get(number as usize)) else { return };
        self.free &= !(1 << number);
        page.shared().write_bytes(0, chunk);
        let request = TxRequest { gref: page.gref(), offset: 0, flags, id, size };
        self.ring.shared().write(ring::slot_offset(self.req_prod, SLOTS, TX_SLOT_SIZE), &request);
        self.req_prod = self.req_prod.wrapping_add(1);
    }

    /// Takes back the pages of every frame that was answered.
    fn take_answers(&mut self, stats: &mut Stats) -> Result<(), Broken> {
        let ring = self.ring.shared();
        let produced = ring.u32(ring::RSP_PROD).load(Ordering::Acquire);
        let ready = ring::unconsumed_responses(produced, self.rsp_cons, self.req_prod).map_err(|_| Broken)?;
        for _ in 0..ready {
            let response: TxResponse = ring.read(ring::slot_offset(self.rsp_cons, SLOTS, TX_SLOT_SIZE));
            self.rsp_cons = self.rsp_cons.wrapping_add(1);
            let page = 1u64.checked_shl(u32::from(response.id)).ok_or(Broken)?;
            if self.free & page != 0 {
                return Err(Broken);
            }
            self.free |= page;
            stats.tx_bad += u64::from(response.status != NetStatus::Okay.raw());
        }
        Ok(())
    }
}
