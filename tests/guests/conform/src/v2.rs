//! What a GICv2 has that a GICv3 has not (Arm IHI 0048B): targets as masks, and software-generated interrupts that know who
//! has sent them.

use crate::gic::{
    ENABLE, NOTHING, PEND, SGI, SPI, TARGET, UNPEND, bit, comes_and_ends, dist, nothing_comes, set, take,
};
use crate::{Outcome, Rule, interface, is, other, sys};

/// Registers of SGIs: to send one, and to make one pending or not, a byte for each with a bit for each sender.
pub const SEND: u64 = 0xF00;
pub const TAKE_BACK: u64 = 0xF10;
pub const PEND_BY_SENDER: u64 = 0xF20;
/// Where the acknowledge register has the sender.
const SENDER: u32 = 10;

pub const RULES: &[Rule] = &[
    ("both kinds of frames say that this is a GICv2", revision),
    ("private interrupts have the vCPU that asks as their target", own_targets),
    ("a target holds its mask, by bytes and by words", targets),
    ("an SGI comes once from each sender, and says from whom", senders),
    ("an SGI is pended and taken back by sender, and by no other register", by_sender),
];

fn revision() -> Outcome {
    is("GICD PIDR2.ArchRev", sys::load(dist(0xFE8)) >> 4 & 0xF, 2)?;
    is("GICC_IIDR.Architecture", interface::identification() >> 16 & 0xF, 2)
}

fn own_targets() -> Outcome {
    for n in 0..8 {
        is("four targets", sys::load(dist(TARGET) + n * 4), 0x0101_0101)?;
    }
    is("a target at the other vCPU", other::load(TARGET) & 0xFF, 2)
}

fn targets() -> Outcome {
    for irq in 32..crate::gic::limit() {
        for mask in [2, 0, 1] {
            sys::store_byte(dist(TARGET) + irq, mask);
            is("a target", sys::load_byte(dist(TARGET) + irq), mask)?;
        }
    }
    sys::store(dist(TARGET) + SPI, 0x0001_0201);
    is("four targets", sys::load(dist(TARGET) + SPI), 0x0001_0201)
}

fn senders() -> Outcome {
    set(ENABLE, SGI);
    sys::store(dist(SEND), 1 << 16 | SGI);
    sys::store(dist(SEND), 2 << 24 | SGI);
    other::store(SEND, 1 << 16 | SGI);
    is("who has sent it", sys::load_byte(dist(PEND_BY_SENDER) + SGI), 0b11)?;
    let mut seen = 0;
    for _ in 0..2 {
        let taken = take();
        is("what is taken", taken & 0x3FF, SGI)?;
        seen |= 1 << (taken >> SENDER & 7);
        interface::set_eoir1(taken);
    }
    is("who has sent what came", seen, 0b11)?;
    nothing_comes()
}

fn by_sender() -> Outcome {
    set(ENABLE, SGI);
    sys::store(dist(PEND), 1 << SGI);
    is("the pending bit", bit(PEND, SGI), 0)?;
    sys::store_byte(dist(PEND_BY_SENDER) + SGI, 0b10);
    sys::store(dist(UNPEND), 1 << SGI);
    is("the pending bit", bit(PEND, SGI), 1)?;
    sys::store_byte(dist(TAKE_BACK) + SGI, 0b01);
    let taken = take();
    is("what is taken", taken, 1 << SENDER | SGI)?;
    interface::set_eoir1(taken);
    sys::store_byte(dist(PEND_BY_SENDER) + SGI, 0b11);
    sys::store_byte(dist(TAKE_BACK) + SGI, 0b10);
    comes_and_ends(SGI)?;
    is("what is taken", interface::iar1(), NOTHING)
}
