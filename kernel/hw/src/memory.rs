//! The contents of frames. Guests read and write them at the same time, so every access is assembly: the compiler
//! sees no Rust object here, assumes nothing about the values, and reads each byte once.
//!
//! Callers hold a reference on the frame (`Hw`'s contract), and EL2 maps all RAM at its own address; that is what
//! the SAFETY comments below call "a frame".

use core::arch::asm;

use kernel_core::addr::{PAGE_SIZE, Pa};

use crate::sysreg::{barrier, mrs};

/// From this many bytes on, saving SIMD registers costs less than they gain.
const WIDE: u64 = 512;
/// Bytes that the SIMD loop copies at once.
const WIDE_STEP: u64 = 128;

/// Copies forward.
fn copy_raw(to: u64, from: u64, bytes: u64) {
    let wide = if bytes >= WIDE { bytes & !(WIDE_STEP - 1) } else { 0 };
    if wide != 0 {
        copy_wide(to, from, wide);
    }
    copy_narrow(to + wide, from + wide, bytes - wide);
}

/// Copies a multiple of [`WIDE_STEP`], not zero, through q0 to q7. Some guest's values may be in there, so they are put
/// back, and so is the trap for guests that have no right to them.
fn copy_wide(to: u64, from: u64, bytes: u64) {
    // SAFETY: the ranges as for `copy_narrow`; q0 to q7 and CPTR_EL2 are left as they were, in 128 bytes of stack.
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
            "1: ldp q2, q3, [{from}, #32]",
            "ldp q4, q5, [{from}, #64]",
            "ldp q6, q7, [{from}, #96]",
            "ldp q0, q1, [{from}], #128",
            "stp q2, q3, [{to}, #32]",
            "stp q4, q5, [{to}, #64]",
            "stp q6, q7, [{to}, #96]",
            "stp q0, q1, [{to}], #128",
            "subs {left}, {left}, #128",
            "b.ne 1b",
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

/// Copies in the largest steps of general registers that are left.
fn copy_narrow(to: u64, from: u64, bytes: u64) {
    // SAFETY: both ranges are frames or memory of the caller's, as the three functions below establish.
    unsafe {
        asm!(
            "b 2f",
            "1: ldp {a}, {b}, [{from}], #16",
            "ldp {c}, {d}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            "stp {c}, {d}, [{to}], #16",
            "2: subs {left}, {left}, #32",
            "b.hs 1b",
            "add {left}, {left}, #32",
            "b 4f",
            "3: ldr {a}, [{from}], #8",
            "str {a}, [{to}], #8",
            "4: subs {left}, {left}, #8",
            "b.hs 3b",
            "add {left}, {left}, #8",
            "b 6f",
            "5: ldrb {a:w}, [{from}], #1",
            "strb {a:w}, [{to}], #1",
            "6: subs {left}, {left}, #1",
            "b.hs 5b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            left = inout(reg) bytes => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            d = out(reg) _,
            options(nostack)
        );
    }
}

/// Copies out of a frame.
pub fn read_bytes(at: Pa, into: &mut [u8]) {
    copy_raw(into.as_mut_ptr() as u64, at.raw(), into.len() as u64);
}

/// Copies into a frame.
pub fn write_bytes(at: Pa, from: &[u8]) {
    copy_raw(at.raw(), from.as_ptr() as u64, from.len() as u64);
}

/// Copies between frames.
pub fn copy(to: Pa, from: Pa, bytes: u64) {
    copy_raw(to.raw(), from.raw(), bytes);
}

/// Fills whole pages with zeros, by cache lines where `DCZID_EL0` allows it.
pub fn zero(at: Pa, bytes: u64) {
    let dczid = mrs!("dczid_el0");
    let end = at.raw() + bytes;
    const PROHIBITED: u64 = 1 << 4;
    // SAFETY: whole pages of a frame; the block of DC ZVA, at most 2 KiB, divides a page.
    unsafe {
        if dczid & PROHIBITED == 0 {
            let block = 4u64 << (dczid & 0xf);
            // Two blocks a turn: a page has two of the largest at least.
            asm!(
                "b 2f",
                "1: dc zva, {at}",
                "add {at}, {at}, {block}",
                "dc zva, {at}",
                "add {at}, {at}, {block}",
                "2: cmp {at}, {end}",
                "b.lo 1b",
                at = inout(reg) at.raw() => _,
                end = in(reg) end,
                block = in(reg) block,
                options(nostack)
            );
        } else {
            asm!(
                "b 2f",
                "1: stp xzr, xzr, [{at}], #16",
                "stp xzr, xzr, [{at}], #16",
                "2: cmp {at}, {end}",
                "b.lo 1b",
                at = inout(reg) at.raw() => _,
                end = in(reg) end,
                options(nostack)
            );
        }
    }
}

/// Cleans and invalidates to the point of coherency, and forgets instructions that were fetched from there: for
/// guests that start with their caches off.
pub fn clean_to_poc(at: Pa, bytes: u64) {
    // CTR_EL0.DminLine: log2 of the words in the smallest line.
    let line = 4u64 << (mrs!("ctr_el0") >> 16 & 0xf);
    let end = at.raw() + bytes;
    let at = at.raw() & !(line - 1);
    let lines = (end - at).div_ceil(line);
    // SAFETY: a frame; cleaning changes no value.
    unsafe {
        // Two lines a turn, then the odd one.
        asm!(
            "b 2f",
            "1: dc civac, {at}",
            "add {at}, {at}, {line}",
            "dc civac, {at}",
            "add {at}, {at}, {line}",
            "2: subs {pairs}, {pairs}, #1",
            "b.hs 1b",
            "cbz {odd}, 3f",
            "dc civac, {at}",
            "3:",
            at = inout(reg) at => _,
            pairs = inout(reg) lines / 2 => _,
            odd = in(reg) lines % 2,
            line = in(reg) line,
            options(nostack)
        );
    }
    forget_instructions();
}

/// Zeroes whole pages and cleans them to the point of coherency. Where the lines are as large as the blocks of
/// DC ZVA, as on most cores, each line is cleaned right after it was zeroed (operations on one line keep their order).
pub fn zero_to_poc(at: Pa, bytes: u64) {
    let block = 4u64 << (mrs!("dczid_el0") & 0x1f);
    let line = 4u64 << (mrs!("ctr_el0") >> 16 & 0xf);
    // Four lines a turn divide a page; and a prohibited DC ZVA (bit 4) makes a block that no line is as large as.
    if block != line || 4 * line > PAGE_SIZE {
        zero(at, bytes);
        return clean_to_poc(at, bytes);
    }
    // SAFETY: whole pages of a frame.
    unsafe {
        asm!(
            "b 2f",
            "1: .rept 4",
            "dc zva, {at}",
            "dc civac, {at}",
            "add {at}, {at}, {line}",
            ".endr",
            "2: cmp {at}, {end}",
            "b.lo 1b",
            at = inout(reg) at.raw() => _,
            end = in(reg) at.raw() + bytes,
            line = in(reg) line,
            options(nostack)
        );
    }
    forget_instructions();
}

/// Completes cache maintenance, and forgets what was fetched from memory that has changed.
fn forget_instructions() {
    barrier!("dsb sy");
    // SAFETY: forgetting fetched instructions changes no value; completes for all pCPUs with the DSB.
    unsafe { asm!("ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
