//! How the domain ends.

pub use hypercall_abi::sched::ShutdownReason;

/// Powers the domain off.
pub fn poweroff() -> ! {
    crate::hypercall::shutdown(ShutdownReason::Poweroff)
}

/// Ends the domain for the given reason; what follows is the tool stack's to decide.
pub fn shutdown(reason: ShutdownReason) -> ! {
    crate::hypercall::shutdown(reason)
}
