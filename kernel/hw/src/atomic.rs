//! Words that EL2 and guests write at the same time.
//!
//! cortex-a53, a57 and a72 have only load-exclusive and store-exclusive, which a guest that stores to the same
//! line in a loop can make fail for ever (the class of XSA-295). So attempts are bounded; behind the bound the
//! pCPUs that have them use the atomic instructions of Armv8.1, which always make progress, and the others a plain
//! store, which may undo a store of the guest that fights for its own word, and harms nobody else.

use core::arch::asm;

use kernel_core::addr::Pa;

use crate::sysreg::{barrier, mrs};

/// Attempts after the first one has failed; each waits longer than the one before.
const ATTEMPTS: u32 = 16;

/// `ID_AA64ISAR0_EL1.Atomic`: whether this pCPU has the atomic instructions.
fn has_lse() -> bool {
    mrs!("id_aa64isar0_el1") >> 20 & 0xf >= 2
}

fn back_off(attempt: u32) {
    for _ in 0..1u32 << attempt.min(10) {
        barrier!("yield");
    }
}

/// Defines an aligned load or store; what it orders is the instruction's.
macro_rules! access {
    ($(#[$doc:meta])* load $name:ident, $type:ty, $code:literal) => {
        $(#[$doc])*
        pub fn $name(at: Pa) -> $type {
            let value: $type;
            // SAFETY: an aligned word in a frame that the caller holds; EL2 maps RAM at its own address.
            unsafe { asm!($code, out(reg) value, in(reg) at.raw(), options(nostack, preserves_flags)) };
            value
        }
    };
    ($(#[$doc:meta])* store $name:ident, $type:ty, $code:literal) => {
        $(#[$doc])*
        pub fn $name(at: Pa, value: $type) {
            // SAFETY: as for loads.
            unsafe { asm!($code, in(reg) value, in(reg) at.raw(), options(nostack, preserves_flags)) };
        }
    };
}

access!(/** Loads an aligned word, once. */ load load32, u32, "ldr {:w}, [{}]");
access!(/** Stores an aligned word, after everything before it. */ store store32, u32, "stlr {:w}, [{}]");
access!(/** Loads an aligned double word, before everything after it. */ load load64, u64, "ldar {}, [{}]");
access!(/** Stores an aligned double word, after everything before it. */ store store64, u64, "stlr {}, [{}]");

/// One attempt with exclusives to replace `old` by `new`; the value found, unless the store failed.
fn try_cas32(at: Pa, old: u32, new: u32) -> Option<u32> {
    let found: u32;
    let failed: u32;
    // SAFETY: as for loads.
    unsafe {
        asm!(
            "ldaxr {found:w}, [{at}]",
            "mov {failed:w}, wzr",
            "cmp {found:w}, {old:w}",
            "b.ne 1f",
            "stlxr {failed:w}, {new:w}, [{at}]",
            "1:",
            found = out(reg) found,
            failed = out(reg) failed,
            at = in(reg) at.raw(),
            old = in(reg) old,
            new = in(reg) new,
            options(nostack)
        );
    }
    (failed == 0).then_some(found)
}

/// What follows a first attempt that failed: more of them, and in the end what always makes progress.
#[cold]
#[inline(never)]
fn contend<T>(attempt: impl Fn() -> Option<T>, atomic: impl FnOnce() -> T, plain: impl FnOnce() -> T) -> T {
    for n in 0..ATTEMPTS {
        back_off(n);
        if let Some(found) = attempt() {
            return found;
        }
    }
    if has_lse() { atomic() } else { plain() }
}

/// Replaces `old` by `new`; returns the value found.
pub fn cas32(at: Pa, old: u32, new: u32) -> u32 {
    let attempt = move || try_cas32(at, old, new);
    let atomic = move || {
        let found: u32;
        // SAFETY: as for loads; the pCPU has the instruction.
        unsafe {
            asm!(".arch_extension lse", "casal {f:w}, {n:w}, [{at}]",
                f = inout(reg) old => found, n = in(reg) new, at = in(reg) at.raw(), options(nostack));
        }
        found
    };
    let plain = move || {
        let found = load32(at);
        if found == old {
            store32(at, new);
        }
        found
    };
    attempt().unwrap_or_else(|| contend(attempt, atomic, plain))
}

/// Defines an atomic change of a double word: by exclusives, by the Armv8.1 instruction, by Rust.
macro_rules! update64 {
    ($(#[$doc:meta])* $name:ident, $exclusive:literal, $lse:literal, $plain:expr) => {
        $(#[$doc])*
        pub fn $name(at: Pa, bits: u64) -> u64 {
            let attempt = move || {
                let found: u64;
                let failed: u32;
                // SAFETY: as for loads.
                unsafe {
                    asm!(
                        "ldaxr {found}, [{at}]",
                        concat!($exclusive, " {changed}, {found}, {bits}"),
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
            let atomic = move || {
                let found: u64;
                // SAFETY: as for loads; the pCPU has the instruction.
                unsafe {
                    asm!(".arch_extension lse", concat!($lse, " {b}, {f}, [{at}]"),
                        b = in(reg) bits, f = out(reg) found, at = in(reg) at.raw(), options(nostack));
                }
                found
            };
            let plain = move || {
                let found = load64(at);
                let change: fn(u64, u64) -> u64 = $plain;
                store64(at, change(found, bits));
                found
            };
            attempt().unwrap_or_else(|| contend(attempt, atomic, plain))
        }
    };
}

update64! {
    /// Sets bits; returns the value before.
    set_bits64, "orr", "ldsetal", |found, bits| found | bits
}
update64! {
    /// Clears bits; returns the value before.
    clear_bits64, "bic", "ldclral", |found, bits| found & !bits
}
