//! `sched_op`: giving up the CPU and ending the domain (Xen public/sched.h).
//!
//! `sched_op(cmd = x0, arg = x1)`.

use crate::ids::{DomId, GuestPtr};

wire_enum! {
    /// `SCHEDOP_*`: the command of `sched_op`.
    SchedOp: u32 {
        /// Let others run; stay runnable. `arg` is ignored.
        Yield = 0,
        /// Unmask upcalls and sleep until an event arrives. `arg` is ignored.
        Block = 1,
        /// End this domain: [`Shutdown`].
        Shutdown = 2,
        /// Sleep until one of a set of ports is pending: [`Poll`].
        Poll = 3,
        /// Declare another domain ended; privileged: [`RemoteShutdown`].
        RemoteShutdown = 4,
        /// Replace the reason of this domain's end: [`Shutdown`].
        ShutdownCode = 5,
        /// Arm, poke or disarm a watchdog: [`Watchdog`]. Result of arming: its id.
        Watchdog = 6,
        /// Override a vCPU's pinning for a while; Dom0.
        PinOverride = 7,
    }
}

wire_enum! {
    /// `SHUTDOWN_*`: why a domain ended.
    ShutdownReason: u32 {
        /// It powered itself off.
        Poweroff = 0,
        /// It asked to be started again.
        Reboot = 1,
        /// It is ready to be saved.
        Suspend = 2,
        /// It crashed.
        Crash = 3,
        /// Its watchdog expired.
        Watchdog = 4,
        /// It asked for a reset that keeps its memory.
        SoftReset = 5,
    }
}

wire_struct! {
    /// `struct sched_shutdown`.
    Shutdown (4) {
        /// See [`ShutdownReason`].
        0: reason: u32,
    }
}
wire_struct! {
    /// `struct sched_poll`.
    Poll (24) {
        /// `evtchn_port_t[nr_ports]`.
        0: ports: GuestPtr,
        /// Number of ports; at most 128.
        8: nr_ports: u32,
        /// Padding.
        12: pad: u32,
        /// System time in nanoseconds to give up at; 0 for never.
        16: timeout: u64,
    }
}
wire_struct! {
    /// `struct sched_remote_shutdown`.
    RemoteShutdown (8) {
        /// The domain.
        0: domain_id: DomId,
        /// Padding.
        2: pad: u16,
        /// See [`ShutdownReason`].
        4: reason: u32,
    }
}
wire_struct! {
    /// `struct sched_watchdog`.
    Watchdog (8) {
        /// 0 to arm a new one, else the id to poke or disarm.
        0: id: u32,
        /// Seconds; 0 disarms.
        4: timeout: u32,
    }
}
