//! The receive ring: pages that the back end copies frames into, and frames out of them.
//!
//! Request number n, counted from the first, always offers page n modulo the number of pages, and is put again only once
//! its answer was taken. So a page is found from the position alone, which is how an extra slot's page must be found.

use core::sync::atomic::Ordering;
use core::task::Context;

use heapless::Vec;
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, GrantRef};
use hypercall_abi::netif::{
    EXTRA_MORE, ExtraInfo, RX_CSUM_BLANK, RX_DATA_VALIDATED, RX_EXTRA_INFO, RX_MORE_DATA, RX_SLOT_SIZE, RxRequest,
    RxResponse,
};
use hypercall_abi::{PAGE_SIZE, ring};

use super::stats::Stats;
use super::{Broken, checksum};
use crate::evtchn::EventChannel;
use crate::grant::{Access, GrantedPage};
use crate::sys::cpu::full_barrier;

/// Pages that are offered at once: room for a full TCP window of 64 KiB and some.
const PAGES: usize = 64;
const SLOTS: u32 = ring::slots(1, RX_SLOT_SIZE);
const _: () = assert!(PAGES <= SLOTS as usize);

/// What a look at the ring found.
enum Found {
    /// A frame of this many bytes.
    Frame(usize),
    /// A frame that was no good and is gone.
    Bad,
    /// No whole frame up to this response.
    Nothing(u32),
}

/// The receive ring. Private indices are the truth; the shared ones are published copies of them.
pub(super) struct Receiver {
    ring: GrantedPage,
    pages: Vec<GrantedPage, PAGES>,
    req_prod: u32,
    rsp_cons: u32,
}

impl Receiver {
    /// # Errors
    /// As [`GrantedPage::new`].
    pub(super) fn new(backend: DomId) -> Result<Self, XenError> {
        let ring = GrantedPage::new(backend, Access::ReadWrite)?;
        let mut pages = Vec::new();
        while !pages.is_full() {
            let _ = pages.push(GrantedPage::new(backend, Access::ReadWrite)?);
        }
        ring.shared().u32(ring::REQ_EVENT).store(1, Ordering::Relaxed);
        ring.shared().u32(ring::RSP_EVENT).store(1, Ordering::Release);
        Ok(Self { ring, pages, req_prod: 0, rsp_cons: 0 })
    }

    pub(super) const fn gref(&self) -> GrantRef {
        self.ring.gref()
    }

    /// The length of the next frame, which is in the buffer; without one the task is woken when there is.
    pub(super) fn poll(
        &mut self,
        channel: &EventChannel,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        stats: &mut Stats,
    ) -> Result<Option<usize>, Broken> {
        loop {
            if let Found::Frame(length) = self.take(buffer, stats)? {
                return Ok(Some(length));
            }
            self.offer(channel);
            let seen = match self.take(buffer, stats)? {
                Found::Frame(length) => return Ok(Some(length)),
                Found::Bad => continue,
                Found::Nothing(seen) => seen,
            };
            self.ring.shared().u32(ring::RSP_EVENT).store(ring::final_check_event(seen), Ordering::Release);
            full_barrier();
            match self.take(buffer, stats)? {
                Found::Frame(length) => return Ok(Some(length)),
                Found::Bad => {}
                Found::Nothing(_) => {
                    if channel.poll_notified(context).is_pending() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Offers every page whose last answer was taken.
    pub(super) fn offer(&mut self, channel: &EventChannel) {
        let old = self.req_prod;
        let ring = self.ring.shared();
        while (self.req_prod.wrapping_sub(self.rsp_cons) as usize) < PAGES {
            let Ok(id) = u16::try_from(self.req_prod as usize % PAGES) else { return };
            let Some(page) = self.pages.get(usize::from(id)) else { return };
            let request = RxRequest { id, pad: 0, gref: page.gref() };
            ring.write(ring::slot_offset(self.req_prod, SLOTS, RX_SLOT_SIZE), &request);
            self.req_prod = self.req_prod.wrapping_add(1);
        }
        if self.req_prod == old {
            return;
        }
        ring.u32(ring::REQ_PROD).store(self.req_prod, Ordering::Release);
        full_barrier();
        if ring::must_notify(old, self.req_prod, ring.u32(ring::REQ_EVENT).load(Ordering::Acquire)) {
            // A failure means that the back end is gone, which the watch on its state will tell.
            let _ = channel.notify();
        }
    }

    /// Takes the next frame off the ring.
    fn take(&mut self, buffer: &mut [u8], stats: &mut Stats) -> Result<Found, Broken> {
        let ring = self.ring.shared();
        let produced = ring.u32(ring::RSP_PROD).load(Ordering::Acquire);
        ring::unconsumed_responses(produced, self.rsp_cons, self.req_prod).map_err(|_| Broken)?;
        let slot = |at| ring::slot_offset(at, SLOTS, RX_SLOT_SIZE);
        let (mut at, mut length, mut good) = (self.rsp_cons, 0, true);
        let mut flags = None;
        loop {
            if at == produced {
                return Ok(Found::Nothing(produced));
            }
            let response: RxResponse = ring.read(slot(at));
            let page = self.pages.get(at as usize % PAGES).ok_or(Broken)?;
            let piece = usize::try_from(response.status).unwrap_or(usize::MAX);
            let offset = usize::from(response.offset);
            match buffer.get_mut(length..).and_then(|rest| rest.get_mut(..piece)) {
                Some(place) if offset + piece <= PAGE_SIZE && usize::from(response.id) == at as usize % PAGES => {
                    page.shared().read_bytes(offset, place);
                    length += piece;
                }
                Some(_) | None => good = false,
            }
            at = at.wrapping_add(1);
            let mut extras = flags.is_none() && response.flags & RX_EXTRA_INFO != 0;
            while extras {
                if at == produced {
                    return Ok(Found::Nothing(produced));
                }
                extras = ring.read::<ExtraInfo>(slot(at)).flags & EXTRA_MORE != 0;
                at = at.wrapping_add(1);
            }
            flags.get_or_insert(response.flags);
            if response.flags & RX_MORE_DATA == 0 {
                break;
            }
        }
        self.rsp_cons = at;
        let vouched = flags.unwrap_or(0) & (RX_CSUM_BLANK | RX_DATA_VALIDATED) != 0;
        let frame = buffer.get(..length).unwrap_or_default();
        if good && (vouched || checksum::is_right(frame)) {
            stats.rx_frames += 1;
            stats.rx_bytes += length as u64;
            Ok(Found::Frame(length))
        } else {
            stats.rx_bad += 1;
            Ok(Found::Bad)
        }
    }
}
