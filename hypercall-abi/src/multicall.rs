//! `multicall`: several hypercalls in one (Xen public/xen.h).
//!
//! `multicall(entries = x0, count = x1)`. The calls are made in order; each leaves its result in its entry.

wire_struct! {
    /// `struct multicall_entry`.
    MulticallEntry (64) {
        /// Number of the hypercall, see [`crate::nr`].
        0: op: u64,
        /// *out* its result.
        8: result: u64,
        /// Its arguments; five count on Arm.
        16: args: [u64; 6],
    }
}
