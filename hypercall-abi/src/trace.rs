//! Traces: the records that the microkernel writes for each pCPU, the ring that they are in, and the file that Dom0 makes
//! of them. Our own, as the control calls are.
//!
//! **Ring.** Pages of Dom0's ([`Op::TraceRing`](crate::control::Op::TraceRing)). The first begins with the number of
//! records ever written (u64); record `n` is in slot `n` modulo their number of the pages behind it, [`PER_PAGE`] in each.
//! A reader that was too slow finds records overwritten, which it knows by the count: it reads the count, the
//! records, and the count again, and what was written by then may have replaced what it read, the next record included.
//!
//! **File.** [`FileHeader`], then chunks: a [`ChunkHeader`] and its bytes. Positions of records count on for each pCPU, so
//! that a gap between two chunks says how many were lost.

use crate::ids::{DomId, VcpuId};

/// The version of the records and of the file.
pub const VERSION: u32 = 1;
/// What a file begins with.
pub const MAGIC: [u8; 8] = *b"XENOLTRC";
/// The most pages of a ring, the first included: 16,384 records.
pub const MAX_PAGES: usize = 129;
/// Records in a page.
pub const PER_PAGE: u64 = crate::PAGE_SIZE as u64 / size_of::<Record>() as u64;

wire_enum! {
    /// What a record tells.
    Kind: u8 {
        /// The vCPU goes from one [`Runstate`](crate::vcpu::Runstate) to another: `detail` has the new one in bits 3:0 and
        /// the old one in bits 7:4, `value` the pCPU where it runs or waits. Written by the pCPU that does it: by its
        /// own when it gets or leaves a pCPU, by the waker's when it wakes up.
        State = 1,
        /// An exit but for hypercalls, which began at `time`: `detail` has an [`ExitKind`], `value` is `ESR_EL2`, and
        /// `span` the time until a guest goes on, sleep of the pCPU included.
        Exit = 2,
        /// A hypercall: `value` has its number in bits 31:0, its first argument in bits 63:32; `span` as of an exit.
        Hypercall = 3,
        /// The vCPU goes on with a pending interrupt in a list register that was not there before the exit: `value` is
        /// `ICH_LR<n>_EL2`, the interrupt's number in bits 31:0.
        Injection = 4,
    }
}

wire_enum! {
    /// What made a vCPU exit.
    ExitKind: u8 {
        /// An exception of its own instruction, of the class in bits 31:26 of `ESR_EL2`.
        Sync = 1,
        /// A physical interrupt.
        Irq = 2,
        /// An SError.
        SError = 3,
    }
}

wire_struct! {
    /// One record.
    Record (32) {
        /// `CNTPCT_EL0`.
        0: time: u64,
        /// [`Kind`].
        8: kind: u8,
        /// By kind.
        9: detail: u8,
        /// Whose vCPU it is about.
        10: domid: DomId,
        /// Which one.
        12: vcpu: VcpuId,
        /// By kind.
        16: value: u64,
        /// Ticks that it took, of exits.
        24: span: u64,
    }
}

wire_struct! {
    /// How a file begins.
    FileHeader (24) {
        /// [`MAGIC`].
        0: magic: [u8; 8],
        /// [`VERSION`].
        8: version: u32,
        /// pCPUs of the machine.
        12: pcpus: u32,
        /// Ticks per second.
        16: counter_hz: u32,
        /// Zero.
        20: pad: u32,
    }
}

wire_enum! {
    /// What is in a chunk of a file.
    ChunkKind: u16 {
        /// Records of pCPU `id`, of which the first is number `position`.
        Records = 1,
        /// The name of domain `id`, in UTF-8; a later one replaces it.
        Name = 2,
    }
}

wire_struct! {
    /// How a chunk begins.
    ChunkHeader (16) {
        /// [`ChunkKind`].
        0: kind: u16,
        /// By kind.
        2: id: u16,
        /// Bytes that follow.
        4: bytes: u32,
        /// By kind.
        8: position: u64,
    }
}
