//! Calls of the hypervisor and of firmware, with any arguments.

use core::arch::asm;

/// A hypercall with any number and any arguments.
pub fn hypercall(number: u64, arguments: [u64; 6]) -> u64 {
    let [a0, a1, a2, a3, a4, a5] = arguments;
    let result;
    // SAFETY: what the hypervisor writes by these arguments is limited to scratch pages by the callers, or is no
    // memory of this domain at all; that such a call does no other harm is what this guest is there to try.
    unsafe {
        asm!("hvc #0xEA1", inlateout("x0") a0 => result, inlateout("x1") a1 => _, inlateout("x2") a2 => _,
            inlateout("x3") a3 => _, inlateout("x4") a4 => _, inlateout("x5") a5 => _, inlateout("x16") number => _);
    }
    result
}

/// Firmware by HVC or SMC.
pub fn firmware(secure: bool, arguments: [u64; 4]) -> u64 {
    let [a0, a1, a2, a3] = arguments;
    let result;
    // SAFETY: no call of PSCI or SMCCC writes to memory; results come in x0 to x3, and x4 to x17 may change.
    unsafe {
        if secure {
            asm!("smc #0", inlateout("x0") a0 => result, inlateout("x1") a1 => _, inlateout("x2") a2 => _,
                inlateout("x3") a3 => _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
                out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _,
                out("x17") _);
        } else {
            asm!("hvc #0", inlateout("x0") a0 => result, inlateout("x1") a1 => _, inlateout("x2") a2 => _,
                inlateout("x3") a3 => _, out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _,
                out("x10") _, out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _,
                out("x17") _);
        }
    }
    result
}
