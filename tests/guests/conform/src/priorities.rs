//! Which one is taken first, and which one interrupts which (IHI 0069H, section 4.8).

use crate::gic::{PEND, SPI, USUAL, comes, comes_and_ends, nothing_comes, raise, set_priority, states, take_within};
use crate::{Outcome, Rule, interface, is, sys};

pub const RULES: &[Rule] = &[
    ("the most urgent comes first, in whatever order they were pended", order),
    ("the priority mask keeps away what is not more urgent", mask),
    ("a new priority of a pending interrupt counts", change),
    ("what is more urgent interrupts, and what is as urgent does not", preemption),
    ("interrupts nest as deep as priorities differ", nesting),
    ("what is ended after deep nesting can come again", nesting_again),
    ("the binary point keeps those of a group from interrupting each other", binary_point),
];

/// Nested interrupts: more than any GIC has list registers would need more priorities than five bits have.
const DEPTH: u64 = 14;

/// The interrupts of the deep nest, of several kinds, the least urgent first.
fn nested() -> impl DoubleEndedIterator<Item = (u64, u64)> {
    (0..DEPTH).map(|n| (if n % 2 == 0 { n + 1 } else { SPI + n }, 0xF0 - n * 0x10))
}

fn order() -> Outcome {
    for step in [1, 5, 7, 11] {
        // 13 interrupts, of which each has a place of its own in the order.
        for n in 0..13 {
            let place = n * step % 13;
            set_priority(32 + place, 0x10 + place * 0x10);
        }
        for n in 0..13 {
            raise(32 + n * step % 13);
        }
        for n in 0..13 {
            comes_and_ends(32 + n)?;
        }
    }
    Ok(())
}

fn mask() -> Outcome {
    interface::set_pmr(USUAL);
    raise(SPI);
    nothing_comes()?;
    is("ISR_EL1.I", sys::isr() >> 7 & 1, 0)?;
    interface::set_pmr(USUAL + 0x10);
    comes_and_ends(SPI)
}

fn change() -> Outcome {
    for irq in [3, SPI] {
        interface::set_pmr(USUAL);
        raise(irq);
        nothing_comes()?;
        set_priority(irq, USUAL - 0x10);
        comes_and_ends(irq)?;
        raise(irq);
        set_priority(irq, USUAL + 0x10);
        // Either counts now; but in the end the new one does.
        let taken = take_within(sys::frequency() / 50);
        if taken == irq {
            interface::set_eoir1(irq);
        }
        interface::set_pmr(0xFF);
        raise(irq);
        comes(irq)?;
        is("the running priority", interface::running() & 0xFF, USUAL + 0x10)?;
        interface::set_eoir1(irq);
    }
    Ok(())
}

fn preemption() -> Outcome {
    raise(SPI);
    comes(SPI)?;
    is("the running priority", interface::running() & 0xFF, USUAL)?;
    raise(SPI + 1);
    nothing_comes()?;
    set_priority(SPI + 2, USUAL - 0x10);
    raise(SPI + 2);
    comes(SPI + 2)?;
    is("the running priority", interface::running() & 0xFF, USUAL - 0x10)?;
    interface::set_eoir1(SPI + 2);
    is("the running priority", interface::running() & 0xFF, USUAL)?;
    nothing_comes()?;
    interface::set_eoir1(SPI);
    comes_and_ends(SPI + 1)?;
    is("the running priority", interface::running() & 0xFF, 0xFF)
}

fn nesting() -> Outcome {
    for (irq, priority) in nested() {
        set_priority(irq, priority);
        raise(irq);
        comes(irq)?;
        is("the running priority", interface::running() & 0xFF, priority)?;
    }
    for (irq, _) in nested().rev() {
        states(irq, 0, 1)?;
        interface::set_eoir1(irq);
        states(irq, 0, 0)?;
    }
    is("the running priority", interface::running() & 0xFF, 0xFF)
}

fn nesting_again() -> Outcome {
    for round in 0..3 {
        for (irq, priority) in nested() {
            set_priority(irq, priority);
            raise(irq);
            comes(irq)?;
            // Pending once more; it must wait for its own end.
            crate::gic::set(PEND, irq);
        }
        for (irq, _) in nested().rev() {
            interface::set_eoir1(irq);
            comes(irq)?;
            interface::set_eoir1(irq);
            if round == 2 {
                states(irq, 0, 0)?;
            }
        }
    }
    nothing_comes()
}

fn binary_point() -> Outcome {
    // Only the uppermost bit counts.
    interface::set_bpr1(7);
    set_priority(SPI, 0xC0);
    raise(SPI);
    comes(SPI)?;
    set_priority(SPI + 1, 0x90);
    raise(SPI + 1);
    nothing_comes()?;
    set_priority(SPI + 2, 0x40);
    raise(SPI + 2);
    comes_and_ends(SPI + 2)?;
    interface::set_eoir1(SPI);
    comes_and_ends(SPI + 1)
}
