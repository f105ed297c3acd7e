//! The contents of frames. Guests read and write them at the same time, so every access is assembly: the compiler
//! sees no Rust object here, assumes nothing about the values, and reads each byte once.
//!
//! Callers hold a reference on the frame (`Hw`'s contract), and EL2 maps all RAM at its own address; that is what
//! the SAFETY comments below call "a frame".

use core::arch::asm;

use kernel_core::addr::Pa;

use crate::sysreg::{barrier, mrs};

/// Copies forward in the largest steps that are left.
fn copy_raw(to: u64, from: u64, bytes: u64) {
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
            asm!(
                "b 2f",
                "1: dc zva, {at}",
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
    let mut at = at.raw() & !(line - 1);
    while at < end {
        // SAFETY: a frame; cleaning changes no value.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at += line;
    }
    barrier!("dsb sy");
    // SAFETY: forgetting fetched instructions changes no value; completes for all pCPUs with the DSB.
    unsafe { asm!("ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
