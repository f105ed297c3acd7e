//! What a GICv2 has that a GICv3 has not (Arm IHI 0048B): targets as masks, and software-generated interrupts that know who
//! has sent them.

use crate::gic::{
    ENABLE, GROUP, GROUP0, GROUP1, NOTHING, PEND, PPI, SGI, SPI, TARGET, UNPEND, bit, comes_and_ends, dist,
    nothing_comes, raise, set, states, take,
};
use crate::states::{FIQ, IRQ};
use crate::{Outcome, Rule, interface, is, other, sys};

/// Registers of SGIs: to send one, and to make one pending or not, a byte for each with a bit for each sender.
pub const SEND: u64 = 0xF00;
pub const TAKE_BACK: u64 = 0xF10;
pub const PEND_BY_SENDER: u64 = 0xF20;
/// Where the acknowledge register has the sender.
const SENDER: u32 = 10;
/// What it says when the most urgent interrupt is of group 1, which it does not take unless it is told to.
const OF_GROUP1: u64 = 1022;

pub const RULES: &[Rule] = &[
    ("both kinds of frames say that this is a GICv2", revision),
    ("private interrupts have the vCPU that asks as their target", own_targets),
    ("a target holds its mask, by bytes and by words", targets),
    ("an SGI comes once from each sender, and says from whom", senders),
    ("an SGI is pended and taken back by sender, and by no other register", by_sender),
    ("an interrupt of group 1 comes where both groups are enabled and taken alike", group1),
    ("an interrupt of group 0 is a FIQ where that is asked for, and one of group 1 is not", fiq),
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

/// Puts one private interrupt into group 1, and lets both groups through.
fn both_groups(irq: u64) {
    sys::store(dist(GROUP), 1 << irq);
    sys::store(dist(0), GROUP0 | GROUP1);
    interface::control(interface::ENABLE_GROUP1, true);
}

fn group1() -> Outcome {
    both_groups(PPI);
    sys::store(dist(0), GROUP0);
    raise(PPI);
    nothing_comes()?;
    sys::store(dist(0), GROUP0 | GROUP1);
    interface::control(interface::ENABLE_GROUP1, false);
    is("ISR_EL1 while group 1 is off", sys::isr() & (IRQ | FIQ), 0)?;
    interface::control(interface::ENABLE_GROUP1, true);
    is("ISR_EL1", sys::isr() & (IRQ | FIQ), IRQ)?;
    is("what is pending", interface::hppir1(), OF_GROUP1)?;
    is("what is taken of group 0", interface::iar1(), OF_GROUP1)?;
    states(PPI, 1, 0)?;
    interface::control(interface::TAKE_GROUP1, true);
    comes_and_ends(PPI)?;
    states(PPI, 0, 0)
}

fn fiq() -> Outcome {
    both_groups(PPI);
    interface::control(interface::GROUP0_AS_FIQ | interface::TAKE_GROUP1, true);
    for (irq, signal) in [(SGI, FIQ), (PPI, IRQ)] {
        raise(irq);
        is("ISR_EL1", sys::isr() & (IRQ | FIQ), signal)?;
        comes_and_ends(irq)?;
        is("ISR_EL1", sys::isr() & (IRQ | FIQ), 0)?;
    }
    Ok(())
}
