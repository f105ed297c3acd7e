//! Words that EL2 and guests write at the same time.
//!
//! Without the atomic instructions of Armv8.1 there are only load-exclusive and store-exclusive, which a guest that
//! stores to the same line in a loop can make fail for ever (the class of XSA-295). So attempts are bounded, and
//! behind the bound comes a plain store, which may undo a store of the guest that fights for its own word, and harms
//! nobody else. It is the same on all pCPUs, so that what is tested is what runs.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel_core::addr::Pa;

use crate::sysreg::barrier;

/// Attempts after the first one has failed; each waits longer than the one before.
const ATTEMPTS: u32 = 16;

fn word32<'a>(at: Pa) -> &'a AtomicU32 {
    // SAFETY: an aligned word in a frame that the caller holds; EL2 maps RAM at its own address, and reaches words that
    // guests write by this module alone. The reference does not leave it.
    unsafe { AtomicU32::from_ptr(at.raw() as *mut u32) }
}

fn word64<'a>(at: Pa) -> &'a AtomicU64 {
    // SAFETY: as for `word32`.
    unsafe { AtomicU64::from_ptr(at.raw() as *mut u64) }
}

/// Loads an aligned word, once.
pub fn load32(at: Pa) -> u32 {
    word32(at).load(Ordering::Relaxed)
}

/// Stores an aligned word, after everything before it.
pub fn store32(at: Pa, value: u32) {
    word32(at).store(value, Ordering::Release);
}

/// Loads an aligned double word, before everything after it.
pub fn load64(at: Pa) -> u64 {
    word64(at).load(Ordering::Acquire)
}

/// Stores an aligned double word, after everything before it.
pub fn store64(at: Pa, value: u64) {
    word64(at).store(value, Ordering::Release);
}

/// What follows a first attempt that failed: more of them, and in the end what always makes progress.
#[cold]
#[inline(never)]
fn contend<T>(attempt: impl Fn() -> Option<T>, plain: impl FnOnce() -> T) -> T {
    for n in 0..ATTEMPTS {
        for _ in 0..1u32 << n.min(10) {
            barrier!("yield");
        }
        if let Some(found) = attempt() {
            return found;
        }
    }
    plain()
}

/// Replaces `old` by `new`; returns the value found.
pub fn cas32(at: Pa, old: u32, new: u32) -> u32 {
    // "Weak" is one attempt: it may find `old` and fail all the same.
    let attempt = move || match word32(at).compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire) {
        Err(found) if found == old => None,
        Ok(found) | Err(found) => Some(found),
    };
    let plain = move || {
        let found = load32(at);
        if found == old {
            store32(at, new);
        }
        found
    };
    attempt().unwrap_or_else(|| contend(attempt, plain))
}

/// Defines a change of a double word: by exclusives, and by Rust. Core's own would try for ever.
macro_rules! update64 {
    ($(#[$doc:meta])* $name:ident, $instruction:literal, $change:expr) => {
        $(#[$doc])*
        pub fn $name(at: Pa, bits: u64) -> u64 {
            let attempt = move || {
                let (found, failed): (u64, u32);
                // SAFETY: as for `word32`.
                unsafe {
                    asm!(
                        "ldaxr {found}, [{at}]",
                        concat!($instruction, " {changed}, {found}, {bits}"),
                        "stlxr {failed:w}, {changed}, [{at}]",
                        found = out(reg) found,
                        changed = out(reg) _,
                        failed = out(reg) failed,
                        at = in(reg) at.raw(),
                        bits = in(reg) bits,
                        options(nostack, preserves_flags)
                    );
                }
                (failed == 0).then_some(found)
            };
            let plain = move || {
                let found = load64(at);
                let change: fn(u64, u64) -> u64 = $change;
                store64(at, change(found, bits));
                found
            };
            attempt().unwrap_or_else(|| contend(attempt, plain))
        }
    };
}

update64! {
    /// Sets bits; returns the value before.
    set_bits64, "orr", |found, bits| found | bits
}
update64! {
    /// Clears bits; returns the value before.
    clear_bits64, "bic", |found, bits| found & !bits
}
