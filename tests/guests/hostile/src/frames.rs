//! Frames whose parts do not fit together, a flood of addresses, and garbage in the control ring: what a front end of netif
//! can do while its rings themselves are sound.

use pv_guest_lib::abi::netif::{
    EXTRA_MORE, ExtraType, GsoType, RX_SLOT_SIZE, TX_CSUM_BLANK, TX_EXTRA_INFO, TX_MORE_DATA, TX_SLOT_SIZE,
};
use pv_guest_lib::abi::ring;

use crate::Attacker;
use crate::net::{CTRL, FIRST, Front, GRANTED, RX, TX};
use crate::rings::notify;
use crate::sys;

/// How long each attack goes on, in milliseconds.
const LENGTH: u64 = 20_000;
/// Where the bytes of frames lie in the scratch memory, and the reference of that page.
const DATA: u64 = TX + 2 * 4096;
const PAGE: u64 = FIRST + 2;
/// Slots of the rings.
const SLOTS: u32 = 256;
/// Bytes of a slot of the control ring, and its slots.
const CTRL_SLOT: usize = 16;
const CTRL_SLOTS: u32 = 128;

const MORE: u64 = TX_MORE_DATA as u64;
const BLANK: u64 = TX_CSUM_BLANK as u64;
const EXTRA: u64 = TX_EXTRA_INFO as u64;

/// A slot: offset, flags, size.
type Slot = (u64, u64, u64);

/// Frames by their slots, each wrong in one way; what stands in brackets is the sum that is wrong.
const SHAPES: &[&[Slot]] = &[
    // No bytes at all, and fewer than a header has.
    &[(0, 0, 0)],
    &[(0, 0, 13)],
    // Fragments without bytes.
    &[(0, MORE, 200), (0, MORE, 0), (0, MORE, 0), (0, 0, 0)],
    // Fragments that are the whole, and more than the whole.
    &[(0, MORE, 100), (0, 0, 100)],
    &[(0, MORE, 100), (0, 0, 4096)],
    // Across the end of the page, and outside of it.
    &[(4095, 0, 60)],
    &[(0xFFFF, 0, 0xFFFF)],
    &[(0, MORE, 2000), (4090, 0, 60)],
    // The header in two parts, with a checksum to make and nothing behind it.
    &[(0, MORE | BLANK, 15), (14, 0, 1)],
    &[(0, BLANK, 14)],
    &[(0, BLANK, 34)],
    &[(0, BLANK, 53)],
    // A chain that does not end.
    &[(0, MORE, 500), (0, MORE, 100)],
];

/// Frames of wrong shapes, over and over.
pub fn shapes(attacker: &mut Attacker) -> u64 {
    attack(attacker, |front, attacker| {
        let (ip, tcp) = (attacker.random.pick(&[0x45, 0x4F, 0x40]), attacker.random.pick(&[0x50, 0xF0, 0]));
        head(attacker, ip, tcp);
        let shape = SHAPES.get(attacker.random.index(SHAPES.len())).copied().unwrap_or_default();
        match attacker.random.below(6) {
            0 => chain(front, attacker),
            1 => split_head(front, attacker),
            2 => segmentation(front, attacker),
            _ => shape.iter().for_each(|(offset, flags, size)| front.slot(attacker, PAGE, *offset, *flags, *size)),
        }
    })
}

/// Chains of more slots than anybody takes, up to 64 KiB and beyond.
fn chain(front: &mut Front, attacker: &mut Attacker) {
    let slots = attacker.random.pick(&[17, 18, 19, 20, 60, 200]);
    let (piece, whole) = [(50, 18_000), (4096, 0xFFFF), (3640, 0xFFFF), (0, 60)][attacker.random.index(4)];
    front.slot(attacker, PAGE, 0, MORE, whole);
    for slot in 1..slots {
        front.slot(attacker, PAGE, 0, if slot + 1 < slots { MORE } else { 0 }, piece);
    }
}

/// A TCP header that lies in slots of a few bytes each, not all of them there.
fn split_head(front: &mut Front, attacker: &mut Attacker) {
    let (piece, slots) = (1 + attacker.random.below(5), 2 + attacker.random.below(15));
    front.slot(attacker, PAGE, 0, MORE | BLANK, piece * slots);
    for slot in 1..slots {
        front.slot(attacker, PAGE, piece * slot, if slot + 1 < slots { MORE } else { 0 }, piece);
    }
}

/// Segmentations into nothing, of no kind, in many extra slots.
fn segmentation(front: &mut Front, attacker: &mut Attacker) {
    let size = attacker.random.pick(&[60, 54, 1514, 4096]);
    front.slot(attacker, PAGE, 0, EXTRA | BLANK, size);
    let extras = 1 + attacker.random.below(9);
    for extra in 1..=extras {
        let kind = attacker.random.pick(&[ExtraType::Gso.raw().into(), ExtraType::Hash.raw().into(), 0, 200]);
        let more = if extra < extras { u64::from(EXTRA_MORE) } else { 0 };
        let size = attacker.random.pick(&[0, 1, 1448, 0xFFFF]);
        let gso = attacker.random.pick(&[GsoType::TcpV4.raw().into(), GsoType::TcpV6.raw().into(), 0, 77]);
        front.raw(attacker, [kind | more << 8 | size << 16, gso, 0]);
    }
}

/// Frames from and to as many addresses as there is time for.
pub fn addresses(attacker: &mut Attacker) -> u64 {
    attack(attacker, |front, attacker| {
        for at in (0..4096).step_by(64) {
            for offset in [0, 8] {
                // Neither of the two is the address of a group.
                attacker.scratch.set(DATA + at + offset, attacker.random.next() & !0x0001_0000_0000_0001);
            }
            front.slot(attacker, PAGE, at, 0, 60);
        }
    })
}

/// Requests of the control ring with every odd value, and a producer that runs away in the end.
pub fn control_requests(attacker: &mut Attacker) -> u64 {
    let mut producer = 0u32;
    let answers = attack(attacker, |front, attacker| {
        for _ in 0..4 {
            let at = CTRL + ring::slot_offset(producer, CTRL_SLOTS, CTRL_SLOT) as u64;
            let kind = attacker.random.below(12);
            attacker.scratch.set32(at, u32::try_from(u64::from(producer & 0xFFFF) | kind << 16).unwrap_or(0));
            for word in 1..4 {
                let odd = u64::from(attacker.random.word());
                let value =
                    attacker.random.pick(&[0, 1, 4, 15, 16, 40, 41, 128, 129, PAGE, FIRST, 9999, 0xFFFF_FFFF, odd]);
                attacker.scratch.set32(at + 4 * word, u32::try_from(value).unwrap_or(u32::MAX));
            }
            producer = producer.wrapping_add(1);
        }
        attacker.scratch.set32(CTRL + ring::REQ_PROD as u64, producer);
        notify(attacker, front.ctrl_port());
        // The key and the table that requests name change while they are read.
        attacker.scratch.set(DATA + attacker.random.below(16) * 8, attacker.random.next());
    });
    attacker.scratch.set32(CTRL + ring::REQ_PROD as u64, producer.wrapping_add(0x4000_0000));
    answers
}

/// Connects, and lets `round` put something on the transmit ring again and again.
fn attack(attacker: &mut Attacker, mut round: impl FnMut(&mut Front, &mut Attacker)) -> u64 {
    let Some(mut front) = Front::open(attacker) else { return u64::MAX };
    let until = sys::now() + LENGTH * sys::millisecond();
    while sys::now() < until {
        front.give_room(attacker, RX_SLOT_SIZE, SLOTS);
        round(&mut front, attacker);
        front.publish(attacker);
        if !front.settle(attacker) {
            return 0xDEAD << 32 | u64::from(front.producer());
        }
    }
    u64::from(front.producer())
}

/// The head of a frame of TCP over IPv4 for everybody, with these sizes of its headers.
fn head(attacker: &Attacker, ip: u64, tcp: u64) {
    let [ip, tcp] = [ip, tcp].map(|byte| u8::try_from(byte).unwrap_or(0));
    let ethernet = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 0, 9, 8, 0];
    let packet = [ip, 0, 0xFF, 0xFF, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 99, 10, 0, 0, 98];
    let segment = [0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, tcp, 0x10, 0xFF, 0xFF, 0, 0, 0, 0];
    attacker.scratch.fill(DATA, &ethernet);
    attacker.scratch.fill(DATA + 14, &packet);
    attacker.scratch.fill(DATA + 34, &segment);
}

/// The transmit ring of a front end, slot by slot.
impl Front {
    /// Puts a request.
    fn slot(&mut self, attacker: &Attacker, gref: u64, offset: u64, flags: u64, size: u64) {
        self.raw(attacker, [gref, offset | flags << 16, size << 16]);
    }

    /// Puts three words.
    fn raw(&mut self, attacker: &Attacker, words: [u64; 3]) {
        let at = TX + ring::slot_offset(self.next(), SLOTS, TX_SLOT_SIZE) as u64;
        for (word, value) in (0..).zip(words) {
            attacker.scratch.set32(at + 4 * word, u32::try_from(value & 0xFFFF_FFFF).unwrap_or(0));
        }
    }

    /// Offers all pages but the rings to receive into.
    fn give_room(&self, attacker: &Attacker, slot: usize, slots: u32) {
        for index in 0..slots {
            let gref = FIRST + 3 + u64::from(index) % (GRANTED - 4);
            attacker.scratch.set(RX + ring::slot_offset(index, slots, slot) as u64, u64::from(index) | gref << 32);
        }
        let answered = attacker.scratch.get32(RX + ring::RSP_PROD as u64);
        attacker.scratch.set32(RX + ring::REQ_PROD as u64, answered.wrapping_add(slots));
    }
}
