//! The end of a pCPU or of all: PSCI by SMC (Arm DEN 0022). A hypervisor's firmware cannot be reached by HVC.

use smccc::{Smc, psci};

/// Switches the machine off.
pub fn system_off() -> ! {
    // Firmware that refuses leaves nothing to do but to stop.
    let _ = psci::system_off::<Smc>();
    park()
}

/// Restarts the machine.
pub fn system_reset() -> ! {
    let _ = psci::system_reset::<Smc>();
    park()
}

/// Stops this pCPU for good.
pub fn park() -> ! {
    loop {
        crate::sysreg::barrier!("wfi");
    }
}
