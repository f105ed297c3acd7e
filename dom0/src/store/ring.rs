//! The ring of one domain: bytes between its shared page and the store (Xen public/io/xs_wire.h, docs/misc/xenstore-ring.txt).
//!
//! Our two indices are private and the page receives copies; the domain's two are read once a pass. An index that
//! cannot be true, or a broken message, closes this connection with an error in the page, and nothing else.

use alloc::rc::Rc;
use core::cell::Cell;
use core::fmt;

use driver_api::{EventPort, SharedPage};
use embassy_futures::select::select;
use embassy_futures::yield_now;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use hypercall_abi::ids::{DomId, GrantRef, Port};
use hypercall_abi::xs_wire::interface as page;
use xenstore::{ConnId, ConnKind, Fault};

use super::Hub;
use crate::hal::{ForeignPage, GuestPort, RingError, open_ring};
use crate::notices;

/// The grant that every toolstack reserves for the store (`GNTTAB_RESERVED_XENSTORE`, Xen public/grant_table.h).
pub const RESERVED_REFERENCE: GrantRef = GrantRef(1);
/// Passes after which others get their turn.
const BUDGET: usize = 8;
const RING_SIZE: u32 = 1024;
const _: () = assert!(page::RING_SIZE == RING_SIZE as usize);

/// Why a connection is given up.
enum Broken {
    Indices,
    Protocol(Fault),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Indices => f.write_str("ring indices out of range"),
            Broken::Protocol(fault) => fault.fmt(f),
        }
    }
}

/// The store ring of a domain.
pub struct Ring {
    domid: DomId,
    page: ForeignPage,
    port: GuestPort,
    req_cons: Cell<u32>,
    rsp_prod: Cell<u32>,
    nudged: Signal<NoopRawMutex, ()>,
    stopped: Cell<bool>,
}

impl Ring {
    /// Maps the page and binds the port.
    pub fn open(domid: DomId, port: Port) -> Result<Self, RingError> {
        let (page, port) = open_ring(domid, RESERVED_REFERENCE, port)?;
        let ring = Ring {
            domid,
            req_cons: Cell::new(page.load_u32(page::REQ_CONS)),
            rsp_prod: Cell::new(page.load_u32(page::RSP_PROD)),
            page,
            port,
            nudged: Signal::new(),
            stopped: Cell::new(false),
        };
        ring.page.store_u32(page::SERVER_FEATURES, page::FEATURE_RECONNECTION | page::FEATURE_ERROR);
        Ok(ring)
    }

    /// Looks at the ring again soon.
    pub fn nudge(&self) {
        self.nudged.signal(());
    }

    /// Ends [`Self::serve`].
    pub fn stop(&self) {
        self.stopped.set(true);
        self.nudge();
    }

    /// Moves bytes until the domain is released or breaks the protocol.
    pub async fn serve(self: Rc<Self>, hub: Rc<Hub>) {
        let Ok(conn) = hub.with(|store| store.connect(ConnKind::Domain { domid: self.domid })) else { return };
        let mut passes = 0;
        while !self.stopped.get() {
            match self.pass(&hub, conn) {
                Ok(true) if passes < BUDGET => passes += 1,
                Ok(true) => {
                    passes = 0;
                    yield_now().await;
                }
                Ok(false) => {
                    passes = 0;
                    select(self.port.wait(), self.nudged.wait()).await;
                }
                Err(broken) => {
                    self.give_up(&hub, conn, &broken);
                    // It may ask for a new connection, and break that, as fast as this looks.
                    yield_now().await;
                    while !self.stopped.get() && !self.wants_reset() {
                        select(self.port.wait(), self.nudged.wait()).await;
                    }
                }
            }
        }
        hub.with(|store| store.disconnect(conn));
    }

    /// One look in both directions; says whether anything moved.
    fn pass(&self, hub: &Rc<Hub>, conn: ConnId) -> Result<bool, Broken> {
        if self.wants_reset() {
            self.reset(hub, conn);
        }
        let read = self.take_requests(hub, conn)?;
        let written = self.put_replies(hub, conn)?;
        if read || written {
            self.port.notify();
        }
        Ok(read || written)
    }

    fn take_requests(&self, hub: &Rc<Hub>, conn: ConnId) -> Result<bool, Broken> {
        let cons = self.req_cons.get();
        let ready = self.page.load_u32(page::REQ_PROD).wrapping_sub(cons);
        if ready > RING_SIZE {
            return Err(Broken::Indices);
        }
        let at = (cons % RING_SIZE) as usize;
        let count = (ready as usize).min(page::RING_SIZE - at);
        let mut bytes = [0; page::RING_SIZE];
        let bytes = bytes.get_mut(..count).unwrap_or_default();
        self.page.copy_out(page::REQ + at, bytes);
        let taken = hub.with(|store| store.input(conn, bytes)).map_err(Broken::Protocol)?;
        let taken = u32::try_from(taken).unwrap_or(0);
        self.req_cons.set(cons.wrapping_add(taken));
        self.page.full_barrier();
        self.page.store_u32(page::REQ_CONS, self.req_cons.get());
        Ok(taken != 0)
    }

    fn put_replies(&self, hub: &Rc<Hub>, conn: ConnId) -> Result<bool, Broken> {
        let mut moved = false;
        loop {
            let prod = self.rsp_prod.get();
            let used = prod.wrapping_sub(self.page.load_u32(page::RSP_CONS));
            if used > RING_SIZE {
                return Err(Broken::Indices);
            }
            let at = (prod % RING_SIZE) as usize;
            let room = ((RING_SIZE - used) as usize).min(page::RING_SIZE - at);
            let count = hub.with(|store| {
                let bytes = store.output(conn);
                let bytes = bytes.get(..room.min(bytes.len())).unwrap_or_default();
                self.page.copy_in(page::RSP + at, bytes);
                let count = bytes.len();
                store.consume(conn, count);
                count
            });
            if count == 0 {
                return Ok(moved);
            }
            moved = true;
            self.rsp_prod.set(prod.wrapping_add(u32::try_from(count).unwrap_or(0)));
            self.page.full_barrier();
            self.page.store_u32(page::RSP_PROD, self.rsp_prod.get());
        }
    }

    fn wants_reset(&self) -> bool {
        self.page.load_u32(page::CONNECTION) == page::RECONNECT
    }

    fn reset(&self, hub: &Rc<Hub>, conn: ConnId) {
        hub.with(|store| store.reset(conn));
        self.req_cons.set(0);
        self.rsp_prod.set(0);
        for index in [page::REQ_CONS, page::REQ_PROD, page::RSP_CONS, page::RSP_PROD, page::ERROR] {
            self.page.store_u32(index, 0);
        }
        self.page.full_barrier();
        self.page.store_u32(page::CONNECTION, page::CONNECTED);
        self.port.notify();
    }

    fn give_up(&self, hub: &Rc<Hub>, conn: ConnId, broken: &Broken) {
        let domid = self.domid;
        notices::warn(domid, format_args!("xenstored: d{domid}: {broken}; connection closed"));
        let code = match broken {
            Broken::Indices => page::ERROR_RINGIDX,
            Broken::Protocol(_) => page::ERROR_PROTO,
        };
        hub.with(|store| store.reset(conn));
        self.page.store_u32(page::ERROR, code);
        self.port.notify();
    }
}
