//! The second vCPU, which does what the first one asks it to.

use core::sync::atomic::{AtomicU64, Ordering};

use pv_guest_lib::hypercall;

use crate::gic::dist;
use crate::{Outcome, gic, interface, is, level, sys};

/// What is asked, with an argument above it; 0 is nothing, and [`READY`] that it is there.
static ASKED: AtomicU64 = AtomicU64::new(0);
static ANSWER: AtomicU64 = AtomicU64::new(0);
const READY: u64 = 1;
const TAKE: u64 = 2;
const LOOK: u64 = 3;
const END: u64 = 4;
const RESET: u64 = 5;
const LOAD: u64 = 6;
const STORE: u64 = 7;
const TIMER: u64 = 8;
/// Where the argument begins.
const ARGUMENT: u32 = 8;
/// Where a value begins that is to be stored at an offset of the distributor.
const VALUE: u32 = 24;

/// What the second vCPU does, for ever.
pub fn serve() {
    sys::mask_interrupts();
    sys::take_exceptions();
    ASKED.store(READY, Ordering::Release);
    loop {
        let asked = ASKED.load(Ordering::Acquire);
        let answer = match asked & ((1 << ARGUMENT) - 1) {
            TAKE => gic::take(),
            LOOK => gic::nothing_comes().map_or_else(|seen| seen.saw, |()| gic::NOTHING),
            END => {
                interface::set_eoir1(asked >> ARGUMENT);
                0
            }
            RESET => {
                gic::reset_interface();
                0
            }
            LOAD => sys::load(dist(asked >> ARGUMENT)),
            STORE => {
                sys::store(dist(asked >> ARGUMENT & 0xFFF), asked >> VALUE);
                0
            }
            TIMER => {
                level::virtual_timer(asked >> ARGUMENT != 0);
                0
            }
            _ => {
                hypercall::yield_now();
                continue;
            }
        };
        ANSWER.store(answer, Ordering::Relaxed);
        ASKED.store(READY, Ordering::Release);
    }
}

/// Waits until the second vCPU has nothing to do.
pub fn wait() {
    while ASKED.load(Ordering::Acquire) != READY {
        hypercall::yield_now();
    }
}

fn ask(what: u64) -> u64 {
    ASKED.store(what, Ordering::Release);
    wait();
    ANSWER.load(Ordering::Relaxed)
}

/// This interrupt comes to the second vCPU.
pub fn comes(irq: u64) -> Outcome {
    is("what the other vCPU takes", ask(TAKE), irq)
}

/// This interrupt comes to the second vCPU and is ended.
pub fn comes_and_ends(irq: u64) -> Outcome {
    comes(irq)?;
    end(irq);
    Ok(())
}

/// Nothing comes to the second vCPU.
pub fn nothing_comes() -> Outcome {
    is("what the other vCPU takes", ask(LOOK), gic::NOTHING)
}

/// The second vCPU ends an interrupt.
pub fn end(irq: u64) {
    ask(END | irq << ARGUMENT);
}

/// The second vCPU loads a word of the distributor.
pub fn load(offset: u64) -> u64 {
    ask(LOAD | offset << ARGUMENT)
}

/// The second vCPU stores a word there.
pub fn store(offset: u64, value: u64) {
    ask(STORE | offset << ARGUMENT | value << VALUE);
}

/// The line of the second vCPU's virtual timer.
pub fn set_virtual_timer(high: bool) {
    ask(TIMER | u64::from(high) << ARGUMENT);
}

/// The CPU interface of the second vCPU.
pub fn reset_interface() {
    ask(RESET);
}
