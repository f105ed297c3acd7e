//! `console_io`: the hypervisor's own console (Xen public/xen.h).
//!
//! `console_io(cmd = x0, count = x1, buffer = x2)`.

wire_enum! {
    /// `CONSOLEIO_*`: the command of `console_io`.
    ConsoleIo: u32 {
        /// Print `count` bytes. Result: 0.
        Write = 0,
        /// Read at most `count` bytes. Result: how many.
        Read = 1,
    }
}
