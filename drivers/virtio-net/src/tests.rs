//! A device of rings that note what they are given, between memory of a fake machine and a wire that notes what it hears.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use driver_api::fake::{Machine, OwnMemory};
use driver_api::net::{Checksum, Frame, Offload, PageRef, Piece, Port, Refused};
use driver_api::{DmaMemory, PAGE_SIZE};
use hypercall_abi::ids::{DomId, GrantRef};

use crate::{BUFFER, BUFFERS, DEFAULT_MTU, MEMORY, Received, Rings, VirtioNet};

const HEADER: usize = 12;

/// The device's side: buffers that it has, frames that it has sent.
#[derive(Default)]
struct Device {
    given: RefCell<Vec<u16>>,
    arrived: RefCell<VecDeque<Received>>,
    sending: RefCell<VecDeque<u16>>,
    sent: RefCell<Vec<Vec<u8>>>,
    mtu: Cell<u16>,
}

struct FakeRings {
    device: Rc<Device>,
    memory: OwnMemory,
}

impl Rings for FakeRings {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 9]
    }

    fn mtu(&self) -> u16 {
        self.device.mtu.get()
    }

    fn memory(&self) -> &impl DmaMemory {
        &self.memory
    }

    fn header(&self) -> usize {
        HEADER
    }

    fn give(&mut self, buffer: u16) {
        let mut given = self.device.given.borrow_mut();
        assert!(!given.contains(&buffer), "the device has buffer {buffer} already");
        given.push(buffer);
    }

    fn received(&mut self) -> Option<Received> {
        self.device.arrived.borrow_mut().pop_front()
    }

    fn send(&mut self, buffer: u16, len: usize) {
        let mut bytes = vec![0; len];
        self.memory.copy_out((usize::from(BUFFERS) + usize::from(buffer)) * BUFFER + HEADER, &mut bytes);
        self.device.sent.borrow_mut().push(bytes);
        self.device.sending.borrow_mut().push_back(buffer);
    }

    fn sent(&mut self) -> Option<u16> {
        self.device.sending.borrow_mut().pop_front()
    }

    fn acknowledge(&mut self) {}
}

type Nic = VirtioNet<FakeRings, Rc<Machine>>;

fn nic() -> (Rc<Machine>, Rc<Device>, Nic, OwnMemory) {
    let machine = Machine::new();
    let device = Rc::new(Device { mtu: Cell::new(DEFAULT_MTU), ..Device::default() });
    let memory = machine.own(MEMORY);
    // The same memory once more, for the device to write.
    let other = machine.view(&memory);
    let rings = FakeRings { device: Rc::clone(&device), memory };
    let nic = VirtioNet::new(rings, Rc::clone(&machine));
    (machine, device, nic, other)
}

/// A receiver that holds what it is given until the commit, as a guest's ring does.
#[derive(Default)]
struct Ear {
    put: RefCell<Vec<Vec<Piece>>>,
    heard: RefCell<Vec<Vec<u8>>>,
    full: Cell<bool>,
    machine: Rc<Machine>,
}

impl Port for Ear {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        if self.full.get() {
            return Err(Refused::Full);
        }
        self.put.borrow_mut().push(frame.pieces.to_vec());
        Ok(())
    }

    fn commit(&self) {
        for pieces in self.put.borrow_mut().drain(..) {
            let bytes = pieces.iter().map(|piece| self.machine.fetch(piece.page, piece.offset, piece.len).unwrap());
            self.heard.borrow_mut().push(bytes.collect::<Vec<_>>().concat());
        }
    }

    fn poll_room(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

fn arrive(device: &Device, memory: &OwnMemory, bytes: &[u8]) {
    let buffer = device.given.borrow_mut().remove(0);
    memory.copy_in(usize::from(buffer) * BUFFER + HEADER, bytes);
    device.arrived.borrow_mut().push_back(Received { buffer, offset: HEADER, len: bytes.len() });
}

fn poll_receive(nic: &Nic, ear: &Ear) {
    let mut run = pin!(nic.run(ear));
    for _ in 0..8 {
        assert!(run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

#[test]
fn what_arrives_is_passed_on_and_its_buffer_goes_back_to_the_device() {
    let (machine, device, nic, memory) = nic();
    let ear = Ear { machine, ..Ear::default() };
    for n in 0..100u8 {
        arrive(&device, &memory, &[n; 60]);
    }
    assert_eq!(device.given.borrow().len(), usize::from(BUFFERS) - 100);
    poll_receive(&nic, &ear);
    let heard = ear.heard.borrow();
    assert!(heard.iter().zip(0..).all(|(bytes, n): (_, u8)| *bytes == [n; 60]) && heard.len() == 100);
    assert_eq!(device.given.borrow().len(), usize::from(BUFFERS));
}

#[test]
fn a_receiver_without_room_loses_the_frame_and_the_device_keeps_its_buffers() {
    let (machine, device, nic, memory) = nic();
    let ear = Ear { machine, full: Cell::new(true), ..Ear::default() };
    arrive(&device, &memory, &[1; 60]);
    poll_receive(&nic, &ear);
    assert_eq!((nic.stats().dropped, device.given.borrow().len()), (1, usize::from(BUFFERS)));
}

#[test]
fn what_no_frame_can_be_is_dropped() {
    let (machine, device, nic, memory) = nic();
    let ear = Ear { machine, ..Ear::default() };
    for len in [0, 13, 1519] {
        arrive(&device, &memory, &vec![1; len]);
    }
    poll_receive(&nic, &ear);
    assert_eq!((nic.stats().dropped, ear.heard.borrow().len()), (3, 0));
}

const GUEST: DomId = DomId(1);

fn guest_frame(machine: &Machine, gref: u32, len: u16) -> Piece {
    machine.grant(GUEST, gref, false);
    machine.write(GUEST, gref, 100, &vec![u8::try_from(gref).unwrap(); usize::from(len)]);
    Piece { page: PageRef::Granted(GUEST, GrantRef(gref)), offset: 100, len }
}

fn put(nic: &Nic, pieces: &[Piece], offload: Offload) -> Result<(), Refused> {
    let len = pieces.iter().map(|piece| u32::from(piece.len)).sum();
    nic.put(&Frame { head: &[0; 14], pieces, len, offload, source: 0 })
}

#[test]
fn a_frame_of_several_pieces_leaves_in_one_and_only_when_its_pages_are_granted() {
    let (machine, device, nic, _) = nic();
    let pieces = [guest_frame(&machine, 1, 700), guest_frame(&machine, 2, 800)];
    let gone = [guest_frame(&machine, 3, 60), guest_frame(&machine, 4, 60)];
    machine.revoke(GUEST, 3);
    assert_eq!(put(&nic, &gone, Offload::default()), Ok(()));
    assert_eq!(put(&nic, &pieces, Offload::default()), Ok(()));
    assert!(device.sent.borrow().is_empty(), "nothing leaves before the commit");
    nic.commit();
    assert_eq!(*device.sent.borrow(), [[vec![1; 700], vec![2; 800]].concat()]);
    assert_eq!((nic.stats().sent, nic.stats().errors), (1, 1));
}

#[test]
fn jumbo_frames_pass_both_ways_where_the_network_carries_them() {
    let (machine, device, nic, memory) = nic();
    let ear = Ear { machine: Rc::clone(&machine), ..Ear::default() };
    let long: Vec<u8> = (0..9014u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let pieces = [guest_frame(&machine, 1, 3900), guest_frame(&machine, 2, 3900), guest_frame(&machine, 3, 1214)];
    assert_eq!(put(&nic, &pieces, Offload::default()), Err(Refused::Unfit));
    device.mtu.set(9000);
    assert_eq!(nic.mtu(), 9000);
    for n in 0..5 {
        arrive(&device, &memory, &long);
        arrive(&device, &memory, &[n; 60]);
    }
    poll_receive(&nic, &ear);
    let heard = ear.heard.borrow();
    assert!(heard.len() == 10 && heard.iter().step_by(2).all(|frame| *frame == long));
    assert_eq!(put(&nic, &pieces, Offload::default()), Ok(()));
    nic.commit();
    assert_eq!(*device.sent.borrow(), [[vec![1; 3900], vec![2; 3900], vec![3; 1214]].concat()]);
}

#[test]
fn frames_that_are_not_complete_or_too_long_are_left_to_the_switch() {
    let (machine, _, nic, _) = nic();
    let blank = Offload { checksum: Checksum::Blank, gso: None };
    let short = guest_frame(&machine, 1, 60);
    assert_eq!(put(&nic, &[short], blank), Err(Refused::Unfit));
    let long = guest_frame(&machine, 2, 1519);
    assert_eq!(put(&nic, &[long], Offload::default()), Err(Refused::Unfit));
    let page = Piece { offset: 0, len: u16::try_from(PAGE_SIZE).unwrap(), ..short };
    assert_eq!(put(&nic, &[page; 17], Offload::default()), Err(Refused::Unfit));
}

#[test]
fn a_sender_waits_when_the_device_has_every_buffer_and_goes_on_when_one_is_sent() {
    let (machine, device, nic, _) = nic();
    let piece = guest_frame(&machine, 1, 60);
    for _ in 0..BUFFERS {
        assert_eq!(put(&nic, &[piece], Offload::default()), Ok(()));
    }
    assert_eq!(put(&nic, &[piece], Offload::default()), Err(Refused::Full));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(nic.poll_room(&mut cx).is_pending());
    nic.commit();
    assert_eq!(device.sent.borrow().len(), usize::from(BUFFERS));
    nic.on_interrupt();
    assert!(nic.poll_room(&mut cx).is_ready());
    assert_eq!(put(&nic, &[piece], Offload::default()), Ok(()));
}
