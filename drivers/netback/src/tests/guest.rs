//! The front end of a guest: its rings, and pages to send from and to receive into.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};

use driver_api::EventPort;
use driver_api::fake::Machine;
use hypercall_abi::ids::{DomId, GrantRef};
use hypercall_abi::netif::{RX_SLOT_SIZE, RxRequest, RxResponse, TX_SLOT_SIZE, TxRequest, TxResponse};
use hypercall_abi::ring;
use zerocopy::{FromBytes, IntoBytes};

/// References of the rings' pages, and of the first pages to send from and to receive into.
pub const TX_RING: u32 = 1;
pub const RX_RING: u32 = 2;
pub const TX_PAGE: u32 = 100;
pub const RX_PAGE: u32 = 1000;

/// An event channel that counts.
#[derive(Clone, Default)]
pub struct Bell(pub Rc<Cell<u32>>);

impl EventPort for Bell {
    fn notify(&self) {
        self.0.set(self.0.get() + 1);
    }

    fn poll_event(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// The guest.
pub struct Guest {
    machine: Rc<Machine>,
    domid: DomId,
    tx_prod: u32,
    tx_cons: u32,
    rx_prod: u32,
    rx_cons: u32,
}

impl Guest {
    pub fn new(machine: &Rc<Machine>, domid: DomId) -> Self {
        for gref in [TX_RING, RX_RING] {
            machine.grant(domid, gref, true);
            for event in [ring::REQ_EVENT, ring::RSP_EVENT] {
                machine.write(domid, gref, event, &1u32.to_le_bytes());
            }
        }
        for page in 0..64 {
            machine.grant(domid, TX_PAGE + page, false);
        }
        for page in 0..256 {
            machine.grant(domid, RX_PAGE + page, true);
        }
        Guest { machine: Rc::clone(machine), domid, tx_prod: 0, tx_cons: 0, rx_prod: 0, rx_cons: 0 }
    }

    fn load(&self, gref: u32, at: usize) -> u32 {
        u32::read_from_bytes(&self.machine.read(self.domid, gref, at, 4)).unwrap()
    }

    /// Puts bytes into the next slot of the transmit ring.
    pub fn slot(&mut self, bytes: &[u8]) {
        let slots = ring::slots(1, TX_SLOT_SIZE);
        let at = ring::slot_offset(self.tx_prod, slots, TX_SLOT_SIZE);
        self.machine.write(self.domid, TX_RING, at, bytes);
        self.tx_prod = self.tx_prod.wrapping_add(1);
        self.produce(self.tx_prod);
    }

    /// Says that there are requests up to `prod`.
    pub fn produce(&self, prod: u32) {
        self.machine.write(self.domid, TX_RING, ring::REQ_PROD, &prod.to_le_bytes());
    }

    /// Puts a request.
    pub fn send(&mut self, id: u16, page: u32, offset: u16, size: u16, flags: u16) {
        let gref = GrantRef(TX_PAGE + page);
        self.slot(TxRequest { gref, offset, flags, id, size }.as_bytes());
    }

    /// Fills a page to send from.
    pub fn fill(&self, page: u32, offset: usize, bytes: &[u8]) {
        self.machine.write(self.domid, TX_PAGE + page, offset, bytes);
    }

    /// Answers that have come: ids and statuses.
    pub fn answers(&mut self) -> Vec<(u16, i16)> {
        let prod = self.load(TX_RING, ring::RSP_PROD);
        let slots = ring::slots(1, TX_SLOT_SIZE);
        let mut answers = Vec::new();
        while self.tx_cons != prod {
            let at = ring::slot_offset(self.tx_cons, slots, TX_SLOT_SIZE);
            let response = TxResponse::read_from_bytes(&self.machine.read(self.domid, TX_RING, at, 4)).unwrap();
            answers.push((response.id, response.status));
            self.tx_cons = self.tx_cons.wrapping_add(1);
        }
        answers
    }

    /// Gives `count` pages to receive into; page n has id n.
    pub fn offer(&mut self, count: u32) {
        let slots = ring::slots(1, RX_SLOT_SIZE);
        for _ in 0..count {
            let page = self.rx_prod % 256;
            let request = RxRequest { id: page as u16, pad: 0, gref: GrantRef(RX_PAGE + page) };
            let at = ring::slot_offset(self.rx_prod, slots, RX_SLOT_SIZE);
            self.machine.write(self.domid, RX_RING, at, request.as_bytes());
            self.rx_prod = self.rx_prod.wrapping_add(1);
        }
        self.machine.write(self.domid, RX_RING, ring::REQ_PROD, &self.rx_prod.to_le_bytes());
    }

    /// What has come: answers, each with the bytes of its page.
    pub fn arrivals(&mut self) -> Vec<(RxResponse, Vec<u8>)> {
        let prod = self.load(RX_RING, ring::RSP_PROD);
        let slots = ring::slots(1, RX_SLOT_SIZE);
        let mut arrivals = Vec::new();
        while self.rx_cons != prod {
            let at = ring::slot_offset(self.rx_cons, slots, RX_SLOT_SIZE);
            let response = RxResponse::read_from_bytes(&self.machine.read(self.domid, RX_RING, at, 8)).unwrap();
            let page = RX_PAGE + self.rx_cons % 256;
            let len = usize::try_from(response.status).unwrap_or(0).min(4096);
            arrivals.push((response, self.machine.read(self.domid, page, usize::from(response.offset) % 4096, len)));
            self.rx_cons = self.rx_cons.wrapping_add(1);
        }
        // As a driver that has taken everything: it wants to hear of the next one.
        self.machine.write(self.domid, RX_RING, ring::RSP_EVENT, &self.rx_cons.wrapping_add(1).to_le_bytes());
        arrivals
    }
}
