//! Bridges with ports that note what they are given.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};

use driver_api::fake::{Machine, OwnMemory};
use driver_api::net::{Checksum, Frame, HEAD, Offload, PageRef, Piece, Port, Refused};
use driver_api::{DmaMemory, PAGE_SIZE};

use crate::adapt::SCRATCH_BYTES;
use crate::{Bridge, Mac, Plug, PortConfig};

mod forwarding;
mod offloads;
mod vlans;

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);
const ALL: Mac = Mac([0xFF; 6]);

/// A station: what it was given, and what it takes.
struct Station {
    machine: Rc<Machine>,
    put: RefCell<Vec<(Vec<Piece>, Offload)>>,
    received: RefCell<Vec<(Vec<u8>, Offload)>>,
    full: Cell<bool>,
    /// It takes only what is for it alone.
    crowded: Cell<bool>,
    /// It can neither segment nor compute checksums.
    plain: bool,
}

impl Port for Station {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        if self.full.get() {
            return Err(Refused::Full);
        }
        if self.plain && (frame.offload.checksum == Checksum::Blank || frame.offload.gso.is_some()) {
            return Err(Refused::Unfit);
        }
        self.put.borrow_mut().push((frame.pieces.to_vec(), frame.offload));
        Ok(())
    }

    fn commit(&self) {
        for (pieces, offload) in self.put.borrow_mut().drain(..) {
            let bytes = pieces.iter().map(|piece| self.machine.fetch(piece.page, piece.offset, piece.len).unwrap());
            self.received.borrow_mut().push((bytes.collect::<Vec<_>>().concat(), offload));
        }
    }

    fn has_room_for_all(&self) -> bool {
        !self.crowded.get()
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.full.get() { Poll::Pending } else { Poll::Ready(()) }
    }
}

thread_local! {
    /// The clock of a test, in seconds.
    static SECONDS: Cell<u64> = const { Cell::new(1) };
}

type TestBridge = Bridge<Rc<Machine>, OwnMemory>;

struct World {
    machine: Rc<Machine>,
    bridge: Rc<TestBridge>,
    memory: OwnMemory,
}

impl World {
    fn new() -> Self {
        let machine = Machine::new();
        let scratch = machine.own(SCRATCH_BYTES);
        let memory = machine.own(1 << 17);
        World { bridge: Bridge::new(Rc::clone(&machine), scratch, 99, || SECONDS.get()), machine, memory }
    }

    fn station(&self, plain: bool, config: PortConfig) -> (Rc<Station>, Plug<Rc<Machine>, OwnMemory>) {
        let station = Rc::new(Station {
            machine: Rc::clone(&self.machine),
            put: RefCell::default(),
            received: RefCell::default(),
            full: Cell::new(false),
            crowded: Cell::new(false),
            plain,
        });
        let plug = self.bridge.attach("port".into(), station.clone(), config);
        (station, plug)
    }

    fn send(&self, plug: &impl Port, bytes: &[u8], offload: Offload) -> Result<(), Refused> {
        self.memory.copy_in(0, bytes);
        let mut pieces = Vec::new();
        for at in (0..bytes.len()).step_by(PAGE_SIZE) {
            let page = PageRef::Own(self.memory.bus_addr().offset(at as u64));
            pieces.push(Piece { page, offset: 0, len: (bytes.len() - at).min(PAGE_SIZE) as u16 });
        }
        let head = &bytes[..bytes.len().min(HEAD)];
        let sent = plug.put(&Frame { head, pieces: &pieces, len: bytes.len() as u32, offload, source: 0 });
        plug.commit();
        sent
    }
}

fn frame(to: Mac, from: Mac) -> Vec<u8> {
    [&to.0[..], &from.0[..], &[0x88, 0xB5], &[7; 46]].concat()
}

/// What a station was given, without what was left to it.
fn seen(station: &Station) -> Vec<Vec<u8>> {
    station.received.borrow_mut().drain(..).map(|(bytes, _)| bytes).collect()
}

fn count(station: &Station) -> usize {
    station.received.borrow().len()
}
