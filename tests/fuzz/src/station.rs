//! Somebody at the end of a cable, who takes frames and keeps their bytes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};

use driver_api::fake::{Machine, OwnMemory};
use driver_api::net::{Frame, HEAD, Offload, PageRef, Piece, Port, Refused};
use driver_api::{DmaMemory, PAGE_SIZE};

/// A frame as it was put: its head, and where its bytes are.
type Put = (Vec<u8>, Vec<Piece>);

/// Takes frames, and fetches them at the commit as a ring does.
pub struct Station {
    machine: Rc<Machine>,
    put: RefCell<Vec<Put>>,
    heard: RefCell<Vec<Vec<u8>>>,
    /// It has no room.
    pub full: Cell<bool>,
    /// It can neither segment nor compute checksums.
    plain: bool,
}

impl Station {
    /// A station that reads the pages of `machine`.
    pub fn new(machine: &Rc<Machine>, plain: bool) -> Rc<Self> {
        let machine = Rc::clone(machine);
        Rc::new(Station { machine, put: RefCell::default(), heard: RefCell::default(), full: Cell::new(false), plain })
    }

    /// The frames that have come since the last call.
    pub fn take(&self) -> Vec<Vec<u8>> {
        self.heard.take()
    }
}

impl Port for Station {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        if self.full.get() {
            return Err(Refused::Full);
        }
        if self.plain && !frame.is_complete() {
            return Err(Refused::Unfit);
        }
        let len: u32 = frame.pieces.iter().map(|piece| u32::from(piece.len)).sum();
        assert_eq!(len, frame.len, "a frame says another length than its pieces have");
        assert!(frame.head.len() <= HEAD && frame.head.len() <= len as usize, "a head of {}", frame.head.len());
        self.put.borrow_mut().push((frame.head.to_vec(), frame.pieces.to_vec()));
        Ok(())
    }

    fn commit(&self) {
        for (head, pieces) in self.put.take() {
            let bytes = pieces.iter().map(|piece| self.machine.fetch(piece.page, piece.offset, piece.len));
            // A page that is not granted loses the frame, as in a copy by the hypervisor.
            let Some(bytes) = bytes.collect::<Option<Vec<_>>>() else { continue };
            let bytes = bytes.concat();
            assert!(bytes.starts_with(&head), "what was decided about is not what is delivered");
            self.heard.borrow_mut().push(bytes);
        }
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.full.get() { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// Sends a frame from `memory`, whole pages of the host's that hold it.
pub fn send(memory: &OwnMemory, to: &impl Port, bytes: &[u8], offload: Offload) -> Result<(), Refused> {
    memory.copy_in(0, bytes);
    let starts = (0..bytes.len()).step_by(PAGE_SIZE);
    let pieces: Vec<_> = starts
        .map(|at| Piece {
            page: PageRef::Own(memory.bus_addr().offset(at as u64)),
            offset: 0,
            len: u16::try_from((bytes.len() - at).min(PAGE_SIZE)).unwrap_or(0),
        })
        .collect();
    let head = &bytes[..bytes.len().min(HEAD)];
    let len = u32::try_from(bytes.len()).unwrap_or(0);
    let put = to.put(&Frame { head, pieces: &pieces, len, offload, source: 0 });
    to.commit();
    put
}
