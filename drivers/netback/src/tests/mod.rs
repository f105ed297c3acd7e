//! The back end against a guest that behaves, and against one that does not.

mod ctrl;
mod guest;
mod limit;
mod receive;
mod transmit;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};

use driver_api::BackRing;
use driver_api::fake::{GrantsOf, Machine, OwnMemory};
use driver_api::net::{Frame, Offload, Piece, Port, Refused};
use hypercall_abi::ids::DomId;

use crate::Control;
use crate::negotiate::Features;
use crate::receive::Receiver;
use crate::transmit::{HEAD_BYTES, Transmitter};
use guest::{Bell, Guest, RX_RING, TX_RING};

const GUEST: DomId = DomId(7);

const EVERYTHING: Features =
    Features { scatter: true, gso_v4: true, gso_v6: true, checksum_v4: true, checksum_v6: true };

type Tx = Transmitter<driver_api::fake::Page, Rc<Machine>, OwnMemory>;
type Rx = Receiver<driver_api::fake::Page, Rc<Machine>, Bell>;

/// A guest and both sides of its back end.
struct World {
    machine: Rc<Machine>,
    guest: Guest,
    tx: Tx,
    rx: Rc<Rx>,
    bell: Bell,
    stats: Rc<Control>,
}

fn ring<Request, Response>(machine: &Rc<Machine>, gref: u32) -> BackRing<driver_api::fake::Page, Request, Response>
where
    Request: zerocopy::FromBytes + zerocopy::IntoBytes,
    Response: zerocopy::IntoBytes + zerocopy::Immutable,
{
    use driver_api::{Access, Grants};
    let mut pages = Vec::new();
    GrantsOf(Rc::clone(machine), GUEST).map(&[hypercall_abi::ids::GrantRef(gref)], Access::ReadWrite, &mut pages);
    BackRing::new(pages.into_iter().flatten().collect())
}

impl World {
    fn new(features: Features) -> Self {
        let machine = Machine::new();
        let guest = Guest::new(&machine, GUEST);
        let (stats, bell) = (Rc::<Control>::default(), Bell::default());
        let heads = machine.own(HEAD_BYTES);
        let tx = Transmitter::new(GUEST, ring(&machine, TX_RING), Rc::clone(&machine), heads, Rc::clone(&stats));
        let rx = ring(&machine, RX_RING);
        let rx = Receiver::new(GUEST, rx, features, Rc::clone(&machine), bell.clone(), Rc::clone(&stats));
        World { machine, guest, tx, rx: Rc::new(rx), bell, stats }
    }
}

/// A frame as it came out at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Received {
    head: Vec<u8>,
    bytes: Vec<u8>,
    offload: Offload,
}

/// A frame before it is fetched: its head, where its bytes are, what was left to the receiver.
type Put = (Vec<u8>, Vec<Piece>, Offload);

/// The other end of the cable: fetches frames when they are committed.
struct Sink {
    machine: Rc<Machine>,
    put: RefCell<Vec<Put>>,
    received: RefCell<Vec<Received>>,
    /// Frames that it still takes.
    room: Cell<usize>,
}

impl Sink {
    fn new(machine: &Rc<Machine>) -> Self {
        let machine = Rc::clone(machine);
        Sink { machine, put: RefCell::default(), received: RefCell::default(), room: Cell::new(usize::MAX) }
    }
}

impl Port for Sink {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        if self.room.get() == 0 {
            return Err(Refused::Full);
        }
        self.room.set(self.room.get() - 1);
        assert_eq!(frame.pieces.iter().map(|piece| u32::from(piece.len)).sum::<u32>(), frame.len);
        self.put.borrow_mut().push((frame.head.to_vec(), frame.pieces.to_vec(), frame.offload));
        Ok(())
    }

    fn commit(&self) {
        for (head, pieces, offload) in self.put.borrow_mut().drain(..) {
            let fetched = pieces.iter().map(|piece| self.machine.fetch(piece.page, piece.offset, piece.len));
            let bytes = fetched.collect::<Option<Vec<_>>>().unwrap_or_default().concat();
            self.received.borrow_mut().push(Received { head, bytes, offload });
        }
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.room.get() > 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}
