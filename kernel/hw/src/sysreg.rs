//! System registers by their names in the manual.
//!
//! One macro per direction is the single source of every register here: the crates that wrap them lack the list
//! registers, the hypervisor timer's compare value and others, and two sources for one thing are one too many.

/// Reads a system register.
macro_rules! mrs {
    ($name:expr) => {{
        let value: u64;
        #[allow(unused_unsafe, reason = "also used where a write next to it is unsafe already")]
        // SAFETY: reading the registers that this crate names has no effect on memory. Not `pure`: registers change.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

/// Writes a system register. Callers say in a SAFETY comment why the value keeps EL2 sound.
macro_rules! msr {
    ($name:expr, $value:expr) => {{
        let value: u64 = $value;
        core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags))
    }};
}

/// Runs a barrier or another instruction without operands.
macro_rules! barrier {
    ($instruction:literal) => {
        #[allow(unused_unsafe, reason = "as for `mrs`")]
        // SAFETY: barriers and hints change no state but order; a memory clobber is implied.
        unsafe {
            core::arch::asm!($instruction, options(nostack, preserves_flags))
        }
    };
}

pub(crate) use {barrier, mrs, msr};
