//! A well-behaved front end and its event channel.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use driver_api::EventPort;
use hypercall_abi::blkif::{BlkOp, IndirectRequest, Request, Response, SLOT_SIZE, Segment as BlkSegment};
use hypercall_abi::ids::{GrantRef, Port};
use hypercall_abi::ring;
use zerocopy::{FromBytes, IntoBytes};

use super::memory::Memory;
use crate::QueueParams;

/// One direction of an event channel.
#[derive(Default)]
pub struct Line {
    pending: Cell<bool>,
    pub sent: Cell<u32>,
    waker: RefCell<Option<Waker>>,
}

impl Line {
    /// Sends an event, whether the other side asked for it or not.
    pub fn send_raw(&self) {
        self.pending.set(true);
        self.sent.set(self.sent.get() + 1);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pending.replace(false) {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// An end of an event channel.
#[derive(Clone)]
pub struct Wire {
    pub out: Rc<Line>,
    pub into: Rc<Line>,
}

impl EventPort for Wire {
    fn notify(&self) {
        self.out.send_raw();
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.into.poll_event(cx)
    }
}

pub fn channel() -> (Wire, Wire) {
    let (a, b) = (Rc::new(Line::default()), Rc::new(Line::default()));
    let near = Wire { out: Rc::clone(&a), into: Rc::clone(&b) };
    (near, Wire { out: b, into: a })
}

/// The front end of a well-behaved guest.
pub struct Front {
    pub memory: Rc<Memory>,
    pub port: Wire,
    /// The ring's pages are in a row.
    first_page: u32,
    ring_pages: u32,
    slots: u32,
    req_prod: u32,
    rsp_cons: u32,
}

impl Front {
    pub fn new(memory: &Rc<Memory>, port: Wire, first_page: u32, ring_pages: u32) -> Self {
        memory.write_u32(first_page, ring::REQ_EVENT, 1);
        memory.write_u32(first_page, ring::RSP_EVENT, 1);
        Self {
            memory: Rc::clone(memory),
            port,
            first_page,
            ring_pages,
            slots: ring::slots(ring_pages as usize, SLOT_SIZE),
            req_prod: 0,
            rsp_cons: 0,
        }
    }

    pub fn params(&self) -> QueueParams {
        let pages = self.first_page..self.first_page + self.ring_pages;
        QueueParams { ring: pages.map(GrantRef).collect(), port: Port(1) }
    }

    pub fn slots(&self) -> u32 {
        self.slots
    }

    pub fn free(&self) -> u32 {
        ring::free_requests(self.slots, self.req_prod, self.rsp_cons)
    }

    /// Writes a request into the next slot.
    pub fn put(&mut self, request: &[u8]) {
        assert!(self.free() != 0);
        let at = ring::slot_offset(self.req_prod, self.slots, SLOT_SIZE);
        self.memory.write(self.first_page, at, request);
        self.req_prod = self.req_prod.wrapping_add(1);
    }

    /// Publishes what was put, and notifies if the back end asked for it.
    pub fn push(&self) {
        let old = self.memory.read_u32(self.first_page, ring::REQ_PROD);
        self.memory.write_u32(self.first_page, ring::REQ_PROD, self.req_prod);
        if ring::must_notify(old, self.req_prod, self.memory.read_u32(self.first_page, ring::REQ_EVENT)) {
            self.port.notify();
        }
    }

    /// The next response, waiting for it by event alone.
    pub async fn response(&mut self) -> Response {
        loop {
            for _ in 0..2 {
                let prod = self.memory.read_u32(self.first_page, ring::RSP_PROD);
                if ring::unconsumed_responses(prod, self.rsp_cons, self.req_prod).unwrap() != 0 {
                    let at = ring::slot_offset(self.rsp_cons, self.slots, SLOT_SIZE);
                    self.rsp_cons = self.rsp_cons.wrapping_add(1);
                    let bytes = self.memory.read(self.first_page, at, size_of::<Response>());
                    return Response::read_from_bytes(&bytes).unwrap();
                }
                self.memory.write_u32(self.first_page, ring::RSP_EVENT, self.rsp_cons.wrapping_add(1));
            }
            self.port.wait().await;
        }
    }

    /// Puts, pushes, and takes the answer to one request.
    pub async fn ask(&mut self, request: Request) -> i16 {
        self.put(request.as_bytes());
        self.push();
        let response = self.response().await;
        assert_eq!(response.id, request.id);
        response.status
    }
}

/// A direct request for whole pages.
pub fn direct(id: u64, operation: BlkOp, sector: u64, pages: &[u32]) -> Request {
    let mut request = Request {
        operation: operation.raw(),
        nr_segments: u8::try_from(pages.len()).unwrap(),
        id,
        sector_number: sector,
        ..Request::default()
    };
    for (segment, &page) in request.seg.iter_mut().zip(pages) {
        *segment = whole(page);
    }
    request
}

/// A segment of a whole page.
pub fn whole(page: u32) -> BlkSegment {
    BlkSegment { gref: GrantRef(page), first_sect: 0, last_sect: 7, pad: 0 }
}

/// An indirect request whose table stands in page `table`.
pub fn indirect(memory: &Memory, id: u64, op: BlkOp, sector: u64, table: u32, segments: &[BlkSegment]) -> Request {
    for (index, segment) in segments.iter().enumerate() {
        memory.write(table, index * 8, segment.as_bytes());
    }
    let mut inner = IndirectRequest {
        operation: BlkOp::Indirect.raw(),
        indirect_op: op.raw(),
        nr_segments: u16::try_from(segments.len()).unwrap(),
        id,
        sector_number: sector,
        ..IndirectRequest::default()
    };
    inner.indirect_grefs[0] = GrantRef(table);
    slot_of(inner.as_bytes())
}

/// Any request as a slot.
pub fn slot_of(bytes: &[u8]) -> Request {
    let mut slot = [0; SLOT_SIZE];
    slot[..bytes.len()].copy_from_slice(bytes);
    Request::read_from_bytes(&slot).unwrap()
}
