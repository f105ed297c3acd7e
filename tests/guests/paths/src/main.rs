//! A guest that measures the paths through the hypervisor in instructions, by the virtual counter.
//!
//! It is meant for QEMU's `-icount shift=0`, where an instruction takes a nanosecond, so that the counter counts
//! instructions. It uses Xen's ABI alone and runs on Xen as well. Two domains take part: one with `bench=ID` on its
//! command line measures, and before it one with `partner=ID` is started, which is the other end of grants and events;
//! each names the other's domain id. The result is a line for each path on the console:
//! `paths: NAME TICKS ROUNDS`, where the ticks are those of all rounds without the empty loop. With the word `watched`
//! it waits for a debugger and makes each path once between two marks, for the debugger to count what is done. With `from=`
//! it measures nothing but how it gets on beside other pairs.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod fifo;
mod grants;
mod pair;
mod single;
#[allow(unsafe_code)]
mod sys;
mod together;

use pv_guest_lib::abi::ids::DomId;
use pv_guest_lib::shutdown::poweroff;
use pv_guest_lib::{BootInfo, entry, println};

entry!(main);

/// Time for Dom0 to become idle after it has created this domain or printed a line of ours.
const SETTLE_MS: u64 = 20;

fn main(boot: BootInfo) -> ! {
    sys::take_interrupts();
    let words = || boot.arguments().split_whitespace();
    let has = |word: &str| words().any(|other| other == word);
    let number =
        |key: &str| words().find_map(|word| word.strip_prefix(key)).and_then(|value| value.parse::<u64>().ok());
    let domain = |key: &str| number(key).and_then(|id| u16::try_from(id).ok()).map(DomId);
    match (domain("partner="), domain("bench="), number("from=")) {
        (Some(bench), ..) => pair::serve(bench),
        (None, Some(partner), None) => measure(partner, has("watched")),
        (None, Some(partner), Some(from)) => {
            with(partner, |partner| together::run(partner, from, number("window=").unwrap_or(1000), has("all")));
        }
        (None, None, _) => println!("paths: neither bench=ID nor partner=ID is on the command line"),
    }
    poweroff()
}

/// Measures by the clock, or lets a debugger count.
fn measure(partner: DomId, watched: bool) {
    if watched {
        sys::await_debugger();
    } else {
        println!("paths: hz {}", sys::frequency());
    }
    sys::sleep(10 * SETTLE_MS);
    single::run();
    with(partner, |partner| {
        grants::run(partner);
        partner.run();
    });
    fifo::run();
    println!("paths: end");
    sys::sleep(SETTLE_MS);
}

/// Does something with the partner, or says what it lacks.
fn with(partner: DomId, work: impl FnOnce(&pair::Partner)) {
    match pair::Partner::find(partner) {
        Ok(partner) => work(&partner),
        Err(lack) => println!("paths: domain {partner} is no partner: {lack}"),
    }
}

/// Measures one path in rounds and prints the line.
///
/// `once` makes it, `empty` does all the same but the instruction that enters the hypervisor.
pub fn row<R>(name: &str, rounds: u64, once: impl FnMut() -> R, empty: impl FnMut() -> R) {
    sys::sleep(SETTLE_MS);
    let made = sys::fewest_ticks(name, rounds, once);
    let idle = sys::fewest_ticks("", rounds, empty);
    report(name, made.saturating_sub(idle), rounds);
}

/// Prints the line of a path.
pub fn report(name: &str, ticks: u64, rounds: u64) {
    if !sys::watched() {
        println!("paths: {name} {ticks} {rounds}");
    }
}
