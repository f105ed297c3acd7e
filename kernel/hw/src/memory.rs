//! The contents of frames. Guests read and write them at the same time, so every access is assembly or atomic: the
//! compiler sees no Rust object here, assumes nothing about the values, and reads each byte once.
//!
//! Callers hold a reference on the frame (`Hw`'s contract), and EL2 maps all RAM at its own address; that is what
//! the SAFETY comments below call "a frame".
//!
//! Without the atomic instructions of Armv8.1 there are only load-exclusive and store-exclusive, which a guest that
//! stores to the same line in a loop can make fail for ever (the class of XSA-295). So attempts are bounded: `cas64` is
//! one, and behind those at bits comes a plain store, which may undo a store of the guest that fights for its own word,
//! and harms nobody else. It is the same on all pCPUs, so that what is tested is what runs.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel_core::addr::Pa;
use kernel_core::hw::Memory;

use crate::Arm;
use crate::sysreg::{barrier, mrs};

/// From this many bytes on, saving SIMD registers costs less than they gain.
const WIDE: u64 = 512;
/// Bytes that the SIMD loop copies at once.
const WIDE_STEP: u64 = 128;
/// Attempts at an exclusive store after the first one has failed; each waits twice as long as the one before.
const ATTEMPTS: u32 = 12;

/// Copies forward. In line, because most copies have a length that the compiler knows: then no loop is left.
#[inline(always)]
fn copy_raw(mut to: u64, mut from: u64, mut left: u64) {
    if left >= WIDE {
        let wide = left & !(WIDE_STEP - 1);
        copy_wide(to, from, wide);
        (to, from, left) = (to + wide, from + wide, left - wide);
    }
    /// As long as so many bytes are left, moves them through these registers, and both pointers behind them.
    macro_rules! steps {
        ($bytes:literal, $($through:ident)*: $($instruction:literal),*) => {
            while left >= $bytes {
                // SAFETY: both ranges are frames or memory of the caller's, as the callers below establish.
                unsafe {
                    asm!($($instruction,)* from = inout(reg) from, to = inout(reg) to, $($through = out(reg) _,)*
                        options(nostack, preserves_flags));
                }
                left -= $bytes;
            }
        };
    }
    steps!(32, a b c d: "ldp {a}, {b}, [{from}], #16", "ldp {c}, {d}, [{from}], #16",
        "stp {a}, {b}, [{to}], #16", "stp {c}, {d}, [{to}], #16");
    if left == 0 {
        return;
    }
    steps!(8, a: "ldr {a}, [{from}], #8", "str {a}, [{to}], #8");
    steps!(4, a: "ldr {a:w}, [{from}], #4", "str {a:w}, [{to}], #4");
    steps!(1, a: "ldrb {a:w}, [{from}], #1", "strb {a:w}, [{to}], #1");
}

/// Copies a multiple of [`WIDE_STEP`], not zero, through q0 to q7. Some guest's values may be in there, so they are put
/// back, and so is the trap for guests that have no right to them.
#[inline(never)]
fn copy_wide(to: u64, from: u64, bytes: u64) {
    // SAFETY: the ranges as for `copy_raw`; q0 to q7 and CPTR_EL2 are left as they were, in 128 bytes of stack.
    unsafe {
        asm!(
            ".arch_extension fp",
            ".arch_extension simd",
            "mrs {trap}, cptr_el2",
            "and {a}, {trap}, #~(1 << 10)",
            "msr cptr_el2, {a}",
            "isb",
            "stp q0, q1, [sp, #-128]!",
            "stp q2, q3, [sp, #32]",
            "stp q4, q5, [sp, #64]",
            "stp q6, q7, [sp, #96]",
            // Twice in a turn, of which the first one has only the second half if they are odd.
            "tbnz {left}, #7, 2f",
            "1:",
            ".rept 2",
            "ldp q2, q3, [{from}, #32]",
            "ldp q4, q5, [{from}, #64]",
            "ldp q6, q7, [{from}, #96]",
            "ldp q0, q1, [{from}], #128",
            "stp q2, q3, [{to}, #32]",
            "stp q4, q5, [{to}, #64]",
            "stp q6, q7, [{to}, #96]",
            "stp q0, q1, [{to}], #128",
            "2:",
            ".endr",
            "subs {left}, {left}, #256",
            "b.gt 1b",
            "ldp q2, q3, [sp, #32]",
            "ldp q4, q5, [sp, #64]",
            "ldp q6, q7, [sp, #96]",
            "ldp q0, q1, [sp], #128",
            "msr cptr_el2, {trap}",
            trap = out(reg) _,
            a = out(reg) _,
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            left = inout(reg) bytes => _,
        );
    }
}

/// Does `op` for each block of the range, `TURN` of them in a turn, whose bytes must divide a page: what is touched
/// beside the range is in the same pages.
#[inline(always)]
fn sweep<const TURN: u64>(start: Pa, bytes: u64, block: u64, op: impl Fn(u64)) {
    let end = start.raw() + bytes;
    let mut at = start.raw() & !(TURN * block - 1);
    while at < end {
        for _ in 0..TURN {
            op(at);
            at += block;
        }
    }
}

/// Zeroes a block (DC ZVA). EL2 may do this always: what prohibits it prohibits it to EL1 and EL0.
fn zero_block(at: u64) {
    // SAFETY: whole blocks of a frame, since blocks divide pages.
    unsafe { asm!("dc zva, {}", in(reg) at, options(nostack, preserves_flags)) };
}

/// Cleans and invalidates a line to the point of coherency.
fn clean_line(at: u64) {
    // SAFETY: changes no value.
    unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
}

/// Bytes of a block of DC ZVA, at most 2 KiB.
fn zero_size() -> u64 {
    4 << (mrs!("dczid_el0") & 0xf)
}

/// Bytes of the smallest line of any data cache (`CTR_EL0.DminLine`), or 512, which is a step as good if lines are longer.
fn line_size() -> u64 {
    4 << (mrs!("ctr_el0") >> 16 & 0xf).min(7)
}

fn word32<'a>(at: Pa) -> &'a AtomicU32 {
    // SAFETY: an aligned word of a frame; words that guests write are reached by this module alone. The reference does
    // not leave it.
    unsafe { AtomicU32::from_ptr(at.raw() as *mut u32) }
}

fn word64<'a>(at: Pa) -> &'a AtomicU64 {
    // SAFETY: as for `word32`.
    unsafe { AtomicU64::from_ptr(at.raw() as *mut u64) }
}

/// Changes a double word by an instruction. What follows a first attempt that failed is in the same assembly, so that no
/// caller has to save registers for a call: more attempts, each after a wait twice as long, and in the end what always
/// makes progress. Core's own would try for ever.
macro_rules! change64 {
    ($at:ident, $bits:ident, $instruction:literal) => {{
        let found: u64;
        // SAFETY: as for `word32`.
        unsafe {
            asm!(
                "ldaxr {found}, [{at}]",
                concat!($instruction, " {changed}, {found}, {bits}"),
                "stlxr {left:w}, {changed}, [{at}]",
                "cbz {left:w}, 5f",
                "mov {wait}, #1",
                "3:",
                "mov {left}, {wait}",
                "4:",
                "yield",
                "sub {left}, {left}, #1",
                "cbnz {left}, 4b",
                "ldaxr {found}, [{at}]",
                concat!($instruction, " {changed}, {found}, {bits}"),
                "stlxr {left:w}, {changed}, [{at}]",
                "cbz {left:w}, 5f",
                "lsl {wait}, {wait}, #1",
                "tbz {wait}, #{attempts}, 3b",
                "ldar {found}, [{at}]",
                concat!($instruction, " {changed}, {found}, {bits}"),
                "stlr {changed}, [{at}]",
                "5:",
                found = out(reg) found,
                changed = out(reg) _,
                left = out(reg) _,
                wait = out(reg) _,
                at = in(reg) $at.raw(),
                bits = in(reg) $bits,
                attempts = const ATTEMPTS,
                options(nostack, preserves_flags)
            );
        }
        found
    }};
}

impl Memory for Arm {
    fn zero(at: Pa, bytes: u64) {
        sweep::<2>(at, bytes, zero_size(), zero_block);
    }

    #[inline(always)]
    fn read_bytes(at: Pa, into: &mut [u8]) {
        /// Loads a number, at any alignment, to a register: most arguments of hypercalls that are in memory are one.
        macro_rules! load {
            ($type:ty, $value:literal) => {
                if let Ok(bytes) = <&mut [u8; size_of::<$type>()]>::try_from(&mut *into) {
                    let value: $type;
                    // SAFETY: reads a frame.
                    unsafe {
                        asm!(concat!("ldr ", $value, ", [{}]"), out(reg) value, in(reg) at.raw(),
                            options(nostack, preserves_flags, readonly));
                    }
                    *bytes = value.to_le_bytes();
                    return;
                }
            };
        }
        load!(u32, "{:w}");
        load!(u64, "{}");
        copy_raw(into.as_mut_ptr() as u64, at.raw(), into.len() as u64);
    }

    #[inline(always)]
    fn write_bytes(at: Pa, from: &[u8]) {
        copy_raw(at.raw(), from.as_ptr() as u64, from.len() as u64);
    }

    fn copy(to: Pa, from: Pa, bytes: u64) {
        copy_raw(to.raw(), from.raw(), bytes);
    }

    fn clean_to_poc(at: Pa, bytes: u64) {
        sweep::<8>(at, bytes, line_size(), clean_line);
        barrier!("dsb sy");
    }

    fn zero_to_poc(at: Pa, bytes: u64) {
        // Where lines and the blocks of DC ZVA are alike and of the common size, each line is cleaned right after it was
        // zeroed (operations on one line keep their order).
        const LINE: u64 = 64;
        if zero_size() != LINE || line_size() != LINE {
            Self::zero(at, bytes);
            return Self::clean_to_poc(at, bytes);
        }
        sweep::<32>(at, bytes, LINE, |at| {
            zero_block(at);
            clean_line(at);
        });
        barrier!("dsb sy");
    }

    #[inline(always)]
    fn forget_instructions() {
        // SAFETY: forgetting fetched instructions changes no value; completes for all pCPUs with the DSB.
        unsafe { asm!("ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
    }

    fn load32(at: Pa) -> u32 {
        word32(at).load(Ordering::Relaxed)
    }

    fn store32(at: Pa, value: u32) {
        word32(at).store(value, Ordering::Release);
    }

    fn load64(at: Pa) -> u64 {
        // LDAR as for an acquire, which a compiler could make an LDAPR: that one overtakes STLR and STLXR.
        word64(at).load(Ordering::SeqCst)
    }

    fn store64(at: Pa, value: u64) {
        word64(at).store(value, Ordering::Release);
    }

    fn cas64(at: Pa, old: u64, new: u64) -> Result<u64, u64> {
        word64(at).compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire)
    }

    fn set_bits64(at: Pa, bits: u64) -> u64 {
        change64!(at, bits, "orr")
    }

    fn clear_bits64(at: Pa, bits: u64) -> u64 {
        change64!(at, bits, "bic")
    }
}
