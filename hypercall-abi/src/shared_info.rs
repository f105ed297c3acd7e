//! The shared information page and the per-vCPU part of it (Xen public/xen.h), as offsets.
//!
//! Both sides write these words at any time, so they are described by where they stand and reached by atomic
//! field accesses; only the time record is a structure to copy. On Arm the architecture's parts are empty:
//! `vcpu_info` is 48 bytes and `evtchn_pending` follows it directly, unlike on x86.

wire_struct! {
    /// `struct vcpu_time_info`. Arm guests read the architected timer instead; the record stays zero.
    VcpuTimeInfo (32) {
        /// Odd while the record is being written.
        0: version: u32,
        /// Padding.
        4: pad0: u32,
        /// Counter at the last update.
        8: tsc_timestamp: u64,
        /// Nanoseconds since boot at the last update.
        16: system_time: u64,
        /// Scale from counter to nanoseconds.
        24: tsc_to_system_mul: u32,
        /// Shift from counter to nanoseconds.
        28: tsc_shift: i8,
        /// `XEN_PVCLOCK_*`.
        29: flags: u8,
        /// Padding.
        30: pad1: [u8; 2],
    }
}

/// `struct vcpu_info` on Arm.
pub mod vcpu_info {
    /// Byte size of the structure on Arm.
    pub const SIZE: usize = 48;
    /// `evtchn_upcall_pending`, u8: set by the hypervisor before it raises the event interrupt, cleared by the
    /// guest before it reads the selector.
    pub const UPCALL_PENDING: usize = 0;
    /// `evtchn_upcall_mask` on x86; unused here (the interrupt controller masks).
    pub const PAD: usize = 1;
    /// `evtchn_pending_sel`, u64: one bit per word of `evtchn_pending` that may have news.
    pub const PENDING_SEL: usize = 8;
    /// `time`: a [`VcpuTimeInfo`](super::VcpuTimeInfo).
    pub const TIME: usize = 16;
}

/// `struct shared_info` on Arm.
pub mod layout {
    /// Byte size of the structure on Arm.
    pub const SIZE: usize = 1088;
    /// `vcpu_info[0]`, for a vCPU 0 that has registered no place of its own.
    pub const VCPU_INFO: usize = 0;
    /// `evtchn_pending`, 64 words of 64 bits: bit `port % 64` of word `port / 64`.
    pub const EVTCHN_PENDING: usize = 48;
    /// `evtchn_mask`, 64 words of 64 bits.
    pub const EVTCHN_MASK: usize = 560;
    /// Number of words in each of the two bitmaps.
    pub const EVTCHN_WORDS: usize = 64;
    /// `wc_version`, u32: odd while the wall clock is being written.
    pub const WC_VERSION: usize = 1072;
    /// `wc_sec`, u32: seconds since 1970 at boot, low half.
    pub const WC_SEC: usize = 1076;
    /// `wc_nsec`, u32: nanoseconds past that.
    pub const WC_NSEC: usize = 1080;
    /// `wc_sec_hi`, u32: seconds, high half.
    pub const WC_SEC_HI: usize = 1084;
    /// vCPUs that have a `vcpu_info` in the page (`XEN_LEGACY_MAX_VCPUS`); the others must register one.
    pub const LEGACY_MAX_VCPUS: usize = 1;

    const _: () = {
        assert!(EVTCHN_PENDING == VCPU_INFO + LEGACY_MAX_VCPUS * super::vcpu_info::SIZE);
        assert!(EVTCHN_MASK == EVTCHN_PENDING + EVTCHN_WORDS * 8);
        assert!(WC_VERSION == EVTCHN_MASK + EVTCHN_WORDS * 8);
        assert!(SIZE == WC_SEC_HI + 4);
        assert!(super::vcpu_info::TIME + size_of::<super::VcpuTimeInfo>() == super::vcpu_info::SIZE);
    };
}

/// Word and bit of `port` in the bitmaps of the 2-level ABI, or `None` when it is out of their range.
#[must_use]
pub const fn bitmap_position(port: crate::ids::Port) -> Option<(usize, u32)> {
    if port.0 >= crate::evtchn::NR_PORTS_2L {
        return None;
    }
    Some(((port.0 / 64) as usize, port.0 % 64))
}
