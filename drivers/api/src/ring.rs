//! The back end's view of a shared request ring of one or more pages, whatever its slots hold.
//!
//! Slots are copied out whole, once, and only the copy is looked at. Indices are private; the front end's
//! copies are read where they are needed and checked against ours (Xen public/io/ring.h).

use alloc::vec::Vec;
use core::marker::PhantomData;

use hypercall_abi::PAGE_SIZE;
use hypercall_abi::ring::{self, RingOverflow};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::SharedPage;

/// The ring's pages and our private indices.
pub struct BackRing<P, Request, Response> {
    pages: Vec<P>,
    slot: PhantomData<(Request, Response)>,
    /// A power of two.
    slots: u32,
    /// The next request to take.
    req_cons: u32,
    /// The next response to put; `rsp_prod` in the page follows it in [`Self::publish`].
    rsp_prod_pvt: u32,
    /// What `rsp_prod` in the page says.
    rsp_prod: u32,
}

impl<P, Request, Response> BackRing<P, Request, Response>
where
    P: SharedPage,
    Request: FromBytes + IntoBytes,
    Response: IntoBytes + Immutable,
{
    /// Bytes of a slot: the larger of the two.
    const SLOT: usize =
        if size_of::<Request>() > size_of::<Response>() { size_of::<Request>() } else { size_of::<Response>() };

    /// Takes over a ring that the front end has initialised.
    ///
    /// After a reconnection the ring may stand anywhere; as in Linux the indices begin where our own last published
    /// index stands, which a fresh ring has at 0.
    pub fn new(pages: Vec<P>) -> Self {
        let slots = ring::slots(pages.len(), Self::SLOT);
        let start = pages.first().map_or(0, |page| page.load_u32(ring::RSP_PROD));
        Self { pages, slot: PhantomData, slots, req_cons: start, rsp_prod_pvt: start, rsp_prod: start }
    }

    /// Slots in the ring.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The mapped pages, to be unmapped.
    pub fn into_pages(self) -> Vec<P> {
        self.pages
    }

    fn header(&self, offset: usize) -> u32 {
        self.pages.first().map_or(0, |page| page.load_u32(offset))
    }

    /// How many requests wait to be taken.
    ///
    /// # Errors
    /// The front end claims more than the ring can hold.
    pub fn pending(&self) -> Result<u32, RingOverflow> {
        ring::unconsumed_requests(self.slots, self.header(ring::REQ_PROD), self.req_cons, self.rsp_prod_pvt)
    }

    /// Takes the next request; the caller knows from [`Self::pending`] that there is one.
    pub fn take(&mut self) -> Request {
        let mut request = Request::new_zeroed();
        self.take_into(&mut request);
        request
    }

    /// The same, to where the private copy of another one was.
    pub fn take_into(&mut self, request: &mut Request) {
        let bytes = request.as_mut_bytes();
        let start = ring::slot_offset(self.req_cons, self.slots, Self::SLOT);
        let (first, second) = bytes.split_at_mut(split(start, bytes.len()));
        self.page(start, |page, offset| page.copy_out(offset, first));
        if !second.is_empty() {
            self.page(start + first.len(), |page, offset| page.copy_out(offset, second));
        }
        self.req_cons = self.req_cons.wrapping_add(1);
    }

    /// Asks to be notified of the next request and looks once more, so that none slips in between.
    ///
    /// # Errors
    /// As [`Self::pending`].
    pub fn final_check(&self) -> Result<u32, RingOverflow> {
        if let Some(page) = self.pages.first() {
            page.store_u32(ring::REQ_EVENT, ring::final_check_event(self.req_cons));
            page.full_barrier();
        }
        self.pending()
    }

    /// Puts a response into the next slot, unpublished. There is room: each answers a request taken before.
    pub fn put(&mut self, response: &Response) {
        let bytes = response.as_bytes();
        let start = ring::slot_offset(self.rsp_prod_pvt, self.slots, Self::SLOT);
        let (first, second) = bytes.split_at(split(start, bytes.len()));
        self.page(start, |page, offset| page.copy_in(offset, first));
        if !second.is_empty() {
            self.page(start + first.len(), |page, offset| page.copy_in(offset, second));
        }
        self.rsp_prod_pvt = self.rsp_prod_pvt.wrapping_add(1);
    }

    /// Publishes what was put, and says whether the front end asked to be notified of it.
    pub fn publish(&mut self) -> bool {
        let (old, new) = (self.rsp_prod, self.rsp_prod_pvt);
        let Some(page) = self.pages.first() else {
            return false;
        };
        if old == new {
            return false;
        }
        page.store_u32(ring::RSP_PROD, new);
        page.full_barrier();
        self.rsp_prod = new;
        ring::must_notify(old, new, page.load_u32(ring::RSP_EVENT))
    }

    /// Whether the front end still waits for an event about what is published: not once it has taken that without one, and
    /// Linux takes an event about nothing for an attack and listens to the next ones late.
    pub fn is_awaited(&self) -> bool {
        self.rsp_prod.wrapping_sub(self.header(ring::RSP_EVENT)) < self.slots
    }

    /// Works on the page that holds byte `at` of the ring, and the offset in it.
    fn page(&self, at: usize, work: impl FnOnce(&P, usize)) {
        if let Some(page) = self.pages.get(at / PAGE_SIZE) {
            work(page, at % PAGE_SIZE);
        }
    }
}

/// How many of `len` bytes from `start` lie in the first of the pages that they touch.
fn split(start: usize, len: usize) -> usize {
    len.min(PAGE_SIZE - start % PAGE_SIZE)
}
