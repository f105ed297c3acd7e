//! The host's port between a wire that notes what it hears and a stack that is the test.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use driver_api::fake::{Machine, OwnMemory};
use driver_api::net::{Checksum, Frame, Offload, PageRef, Piece, Port, Refused, own_pieces};
use driver_api::{DmaMemory, PAGE_SIZE};
use embassy_net_driver::{Driver, RxToken, TxToken};
use hypercall_abi::ids::{DomId, GrantRef};

use crate::{Inbox, Link, MAX_FRAME, MEMORY};

/// The bridge's side.
#[derive(Clone)]
struct Wire {
    machine: Rc<Machine>,
    heard: Rc<RefCell<Vec<Vec<u8>>>>,
    /// It has no room.
    full: Rc<Cell<bool>>,
}

impl Port for Wire {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        if self.full.get() {
            return Err(Refused::Full);
        }
        let bytes = frame.pieces.iter().map(|piece| self.machine.fetch(piece.page, piece.offset, piece.len).unwrap());
        self.heard.borrow_mut().push(bytes.collect::<Vec<_>>().concat());
        Ok(())
    }

    fn commit(&self) {}

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        if self.full.get() { Poll::Pending } else { Poll::Ready(()) }
    }
}

struct World {
    inbox: Rc<Inbox<Rc<Machine>, OwnMemory>>,
    link: Link<Rc<Machine>, OwnMemory, Wire>,
    wire: Wire,
    /// Where the sender has its frames.
    memory: OwnMemory,
}

fn world() -> World {
    let machine = Machine::new();
    let inbox = Rc::new(Inbox::new(Rc::clone(&machine), machine.own(MEMORY)));
    let wire = Wire { machine: Rc::clone(&machine), heard: Rc::default(), full: Rc::default() };
    let link = Link::new(Rc::clone(&inbox), machine.own(MAX_FRAME), wire.clone(), [2, 0, 0, 0, 0, 1], 9000);
    World { memory: machine.own(17 * PAGE_SIZE), inbox, link, wire }
}

impl World {
    fn put(&self, bytes: &[u8], offload: Offload) -> Result<(), Refused> {
        self.memory.copy_in(0, bytes);
        let pieces: Vec<Piece> = own_pieces(&self.memory, 0, bytes.len()).collect();
        let len = bytes.len().try_into().unwrap();
        let put = self.inbox.put(&Frame { head: &[0; 14], pieces: &pieces, len, offload, source: 0 });
        self.inbox.commit();
        put
    }

    fn received(&mut self) -> Option<Vec<u8>> {
        let (received, _) = self.link.receive(&mut Context::from_waker(Waker::noop()))?;
        Some(received.consume(|bytes| bytes.to_vec()))
    }
}

#[test]
fn frames_reach_the_stack_in_order_and_whole() {
    let mut world = world();
    // The longest first, whose copies cross pages of both sides.
    let len = |n: u8| if n < 8 { MAX_FRAME - 3_000 * usize::from(n) } else { 2_040 - 30 * usize::from(n) };
    let frames: Vec<Vec<u8>> = (0..50).map(|n| vec![n; len(n)]).collect();
    frames.iter().for_each(|frame| world.put(frame, Offload::default()).unwrap());
    for frame in frames {
        assert_eq!(world.received(), Some(frame));
    }
    assert_eq!(world.received(), None);
}

#[test]
fn what_the_stack_sends_is_on_the_wire_when_it_has_been_sent() {
    let mut world = world();
    let mut cx = Context::from_waker(Waker::noop());
    for len in [14, 60, 9014] {
        world.link.transmit(&mut cx).unwrap().consume(len, |bytes| bytes.fill(7));
        assert_eq!(world.wire.heard.borrow().last(), Some(&vec![7; len]));
    }
}

#[test]
fn a_packet_that_is_longer_than_the_wire_carries_does_not_leave() {
    let mut world = world();
    let mut cx = Context::from_waker(Waker::noop());
    for (len, sent) in [(9014, 1), (9015, 1)] {
        world.link.transmit(&mut cx).unwrap().consume(len, |bytes| bytes.fill(7));
        assert_eq!(world.wire.heard.borrow().len(), sent, "{len}");
    }
}

#[test]
fn frames_longer_than_any_are_refused_and_long_ones_come_whole() {
    let mut world = world();
    let blank = Offload { checksum: Checksum::Blank, gso: None };
    let long: Vec<u8> = (0..=250).cycle().take(MAX_FRAME).collect();
    assert_eq!(world.put(&long, blank), Ok(()));
    assert_eq!(world.received(), Some(long));
    assert_eq!(world.put(&vec![1; MAX_FRAME + 1], Offload::default()), Err(Refused::Unfit));
    assert_eq!(world.received(), None);
}

#[test]
fn a_frame_that_finds_no_room_waits_and_is_sent_once() {
    let mut world = world();
    let mut cx = Context::from_waker(Waker::noop());
    world.wire.full.set(true);
    world.link.transmit(&mut cx).unwrap().consume(60, |bytes| bytes.fill(7));
    assert!(world.link.transmit(&mut cx).is_none(), "one waits already");
    world.wire.full.set(false);
    world.link.transmit(&mut cx).unwrap().consume(60, |bytes| bytes.fill(8));
    assert_eq!(*world.wire.heard.borrow(), [vec![7; 60], vec![8; 60]]);
}

#[test]
fn a_full_inbox_makes_senders_wait_until_the_stack_has_taken_a_frame() {
    let mut world = world();
    let filled = (0..1000).take_while(|_| world.put(&[1; 60], Offload::default()).is_ok()).count();
    assert_eq!((filled, world.put(&[1; 60], Offload::default())), (64, Err(Refused::Full)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(world.inbox.poll_room(&mut cx).is_pending());
    world.received().unwrap();
    assert!(world.inbox.poll_room(&mut cx).is_ready());
    assert_eq!(world.put(&[1; 60], Offload::default()), Ok(()));
}

#[test]
fn a_frame_whose_page_is_not_granted_never_arrives() {
    let mut world = world();
    let page = PageRef::Granted(DomId(1), GrantRef(9));
    let gone = Piece { page, offset: 0, len: 60 };
    let frame = Frame { head: &[0; 14], pieces: &[gone], len: 60, offload: Offload::default(), source: 0 };
    assert_eq!(world.inbox.put(&frame), Ok(()));
    assert_eq!(world.put(&[2; 60], Offload::default()), Ok(()));
    assert_eq!(world.received(), Some(vec![2; 60]));
    assert_eq!(world.received(), None);
}
