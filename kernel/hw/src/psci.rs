//! The firmware below: PSCI by SMC (Arm DEN 0022). A hypervisor's firmware cannot be reached by HVC.

use core::arch::asm;

const CPU_ON: u64 = 0xc400_0003;
const SYSTEM_OFF: u64 = 0x8400_0008;
const SYSTEM_RESET: u64 = 0x8400_0009;

fn smc(function: u64, a: u64, b: u64, c: u64) -> i32 {
    let result: u64;
    // SAFETY: SMCCC 1.0 lets a call change x0 to x17 only, and the functions here leave our memory alone; CPU_ON
    // starts a pCPU at an address that `start_secondary` vouches for.
    unsafe {
        asm!("smc #0", inout("x0") function => result, inout("x1") a => _, inout("x2") b => _, inout("x3") c => _,
            clobber_abi("C"), options(nostack));
    }
    // PSCI answers are 32-bit and signed.
    result.cast_signed().try_into().unwrap_or((result & 0xffff_ffff) as u32 as i32)
}

/// Starts the pCPU `mpidr` at `entry` with `context` in x0; the error is PSCI's.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Result<(), i32> {
    match smc(CPU_ON, mpidr, entry, context) {
        0 => Ok(()),
        error => Err(error),
    }
}

/// Switches the machine off.
pub fn system_off() -> ! {
    smc(SYSTEM_OFF, 0, 0, 0);
    park()
}

/// Restarts the machine.
pub fn system_reset() -> ! {
    smc(SYSTEM_RESET, 0, 0, 0);
    park()
}

/// Stops this pCPU for good.
pub fn park() -> ! {
    loop {
        crate::sysreg::barrier!("wfi");
    }
}
