//! Guests that keep the scheduler at work without end. Nobody else gets less of a pCPU for it than beside a guest that just
//! computes, which is measured beside them.

use core::sync::atomic::{AtomicU64, Ordering};

use pv_guest_lib::abi::arm::GUEST_GICV3_GICR0_BASE;
use pv_guest_lib::abi::nr;
use pv_guest_lib::abi::sched::SchedOp;
use pv_guest_lib::abi::xs_wire::XsOp;

use crate::store::Connection;
use crate::sys::{self, Scratch, firmware, hypercall, millisecond, now};
use crate::{Attacker, race};

const CPU_OFF: u64 = 0x8400_0002;
const CPU_ON: u64 = 0xC400_0003;
/// From one redistributor to the next, and to its frame of private interrupts.
const REDISTRIBUTOR: u64 = 0x2_0000;
const PRIVATE: u64 = 0x1_0000;
const ISENABLER: u64 = 0x100;
/// Both timers' interrupts, and the SGI that is sent.
const TIMERS: u32 = 1 << 27 | 1 << 30;
const SGI: u32 = 1 << 1;

/// What the second vCPU does.
static ROLE: AtomicU64 = AtomicU64::new(RACE);
const RACE: u64 = 0;
const WAKE: u64 = 1;
const OFF: u64 = 2;

/// Sleeps until `before` milliseconds before the time that the configuration says, in milliseconds of the machine's clock.
pub fn wait(from: u64, before: u64) {
    enable(0, TIMERS);
    sys::sleep_until(from.saturating_sub(before) * millisecond());
}

/// Lets others run.
pub fn yields(_: &mut Attacker) -> u64 {
    loop {
        pv_guest_lib::hypercall::yield_now();
    }
}

/// Polls until a time that has passed, one that is about to, and one that comes soon.
pub fn polls(attacker: &mut Attacker) -> u64 {
    let scratch = attacker.scratch;
    let nanoseconds = |ticks: u64| ticks * 1_000_000 / millisecond();
    scratch.set(0, scratch.at(64));
    scratch.set(8, 1);
    // The port of the store, where nothing comes.
    scratch.set(64, 1);
    loop {
        for ahead in [0, 2_000, 50_000] {
            scratch.set(16, if ahead == 0 { 1 } else { nanoseconds(now()) + ahead });
            hypercall(u64::from(nr::SCHED_OP), [u64::from(SchedOp::Poll.raw()), scratch.at(0), 0, 0, 0, 0]);
        }
    }
}

/// Wakes its other vCPU, which sleeps at once.
pub fn interrupts(attacker: &mut Attacker) -> u64 {
    enable(1, SGI);
    start_second(attacker.scratch, WAKE);
    loop {
        // To affinity 0.0.0.1: SGI 1.
        sys::send_sgi(1 << 24 | 1 << 1);
    }
}

/// Sets both timers to times that have passed, sleeps, and takes their interrupts.
pub fn past_timers(_: &mut Attacker) -> u64 {
    enable(0, TIMERS);
    loop {
        sys::set_timers_to_the_past();
        sys::sleep_and_end();
    }
}

/// Turns its other vCPU on, which turns itself off.
pub fn on_and_off(attacker: &mut Attacker) -> u64 {
    loop {
        start_second(attacker.scratch, OFF);
    }
}

/// Asks the store, so that the control domain has as much to do as it is given time for.
pub fn store(attacker: &mut Attacker) -> u64 {
    let Some(connection) = Connection::open() else { return 1 };
    loop {
        connection.ask(attacker, XsOp::Directory, 0, &[b"device\0"]);
    }
}

/// Lets private interrupts of a vCPU in.
fn enable(vcpu: u64, interrupts: u32) {
    if let Some(registers) = Scratch::special(GUEST_GICV3_GICR0_BASE + vcpu * REDISTRIBUTOR + PRIVATE) {
        registers.set32(ISENABLER, interrupts);
    }
}

fn start_second(scratch: Scratch, role: u64) -> u64 {
    ROLE.store(role, Ordering::Release);
    firmware(false, [CPU_ON, 1, sys::second_entry(), scratch.base() + 255 * 4096])
}

/// The other vCPU.
pub fn second() -> ! {
    match ROLE.load(Ordering::Acquire) {
        WAKE => {
            sys::open_interface();
            loop {
                sys::sleep_and_end();
            }
        }
        OFF => loop {
            firmware(false, [CPU_OFF, 0, 0, 0]);
        },
        _ => race::second(),
    }
}
