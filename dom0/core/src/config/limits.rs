//! The ranges of `xl.cfg`'s numbers.

use crate::layout::{RAM0_SIZE, RAM1_SIZE};

/// Most vCPUs of one domain: what the guest layout has redistributors for.
pub const MAX_VCPUS: u32 = hypercall_abi::arm::GUEST_MAX_VCPUS;

/// Most grant-table frames of one domain: what Xen's `gnttab_max_frames` allows unless it is raised.
pub const MAX_GRANT_FRAMES: u32 = 64;

/// Most event channels of one domain: the ports that the FIFO ABI can number (Xen public/event_channel.h).
pub const MAX_EVENT_CHANNELS: u32 = 1 << 17;

/// Longest domain name. XenStore paths and listings hold names, so they stay short.
pub const MAX_NAME_LEN: usize = 64;

/// Most guest memory in MiB: both RAM banks full.
pub(super) const MAX_MEMORY_MIB: u64 = (RAM0_SIZE + RAM1_SIZE) >> 20;

/// Memory when the key is absent, in MiB (libxl's default).
pub(super) const DEFAULT_MEMORY_MIB: u64 = 32;

/// Grant-table frames when the key is absent (libxl's default).
pub(super) const DEFAULT_GRANT_FRAMES: u32 = 64;

/// Event channels when the key is absent (libxl's default: enough for all front ends, small enough to bound state).
pub(super) const DEFAULT_EVENT_CHANNELS: u32 = 1023;
