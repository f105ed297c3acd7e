//! How often a path is made, by whom it is counted, and how long it took.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering};

use pv_guest_lib::println;

use super::clock::now;

/// Batches of rounds; the quickest one counts, so that a tick of somebody's timer does not.
pub const BATCHES: u64 = 8;

global_asm!(
    r#"
    .section .text.paths, "ax"
    .balign 4
paths_mark:
    nop
    ret
"#
);

unsafe extern "C" {
    fn paths_mark(name: *const u8, length: usize) -> u64;
}

/// How often each path is made between two marks; the debugger takes the shortest.
pub const WATCHED_TIMES: u64 = 3;

/// True when a debugger counts what each path does, instead of the clock.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// True when a debugger counts.
pub fn watched() -> bool {
    WATCHED.load(Ordering::Relaxed)
}

/// Waits for a debugger that stops where it is told now, and answers there with another value than it finds.
pub fn await_debugger() {
    println!("paths: mark {:#x}", paths_mark as *const () as u64);
    // SAFETY: the function does nothing, and changes no more than a function may.
    while unsafe { paths_mark(core::ptr::null(), 0) } == 0 {}
    WATCHED.store(true, Ordering::Relaxed);
}

/// Tells the debugger that what has this name begins, or without a name that it ends.
#[inline(always)]
pub fn mark(name: &str) {
    // SAFETY: as above.
    unsafe { paths_mark(name.as_ptr(), name.len()) };
}

/// How often a path is made where `rounds` are asked for.
pub fn times(rounds: u64) -> u64 {
    if watched() { 2 + WATCHED_TIMES } else { rounds * BATCHES }
}

/// The ticks of the quickest of some batches of rounds.
///
/// When a debugger counts, there are no ticks: what has a name is made between two marks, after it has been made before,
/// so that nothing is done for the first time.
#[inline(always)]
pub fn fewest_ticks<R>(name: &str, rounds: u64, mut once: impl FnMut() -> R) -> u64 {
    if watched() {
        once();
        once();
        for _ in 0..if name.is_empty() { 0 } else { WATCHED_TIMES } {
            mark(name);
            once();
            mark("");
        }
        return 0;
    }
    let mut fewest = u64::MAX;
    for _ in 0..BATCHES {
        let start = now();
        for _ in 0..rounds {
            once();
        }
        fewest = fewest.min(now() - start);
    }
    fewest
}
