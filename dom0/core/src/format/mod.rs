//! What `xl` and the `xenstore-*` tools print, to the column: scripts parse it.
//!
//! Each function takes plain data and a `fmt::Write`. Lines end in `\n`; the image adds the carriage return that its
//! serial line needs. Formats are those of Xen 4.17's tools.

mod block;
mod info;
mod json;
mod list;
mod long;
mod network;
mod sched;
mod store;
#[cfg(test)]
mod tests;
mod top;
mod uptime;
mod vcpus;

pub use block::{BlockRow, block_list};
pub use info::{HostInfo, info};
pub use list::{DomainRow, domain_list};
pub use long::{LongDomain, list_long};
pub use network::{
    BridgeInfo, BridgePort, NatState, NetworkRow, address_list, bridge_info, bridge_list, nat_state, network_list,
};
pub use sched::{ShareRow, pool_list, share_list};
pub use store::{StoreLine, sanitise, store_ls_line, store_read_line};
pub use top::{NetworkCounters, TopRow, Traffic, top};
pub use uptime::{uptime_head, uptime_line, uptime_short};
pub use vcpus::{VcpuRow, vcpu_list};

/// What the microkernel says of a domain at this moment, for state letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateFlags {
    /// A vCPU is on a pCPU.
    pub running: bool,
    /// No vCPU has anything to do.
    pub blocked: bool,
    /// Paused by the toolstack.
    pub paused: bool,
    /// It has stopped, for this reason (`SHUTDOWN_*`, Xen public/sched.h).
    pub shutdown: Option<u32>,
    /// It is being destroyed.
    pub dying: bool,
}

impl From<&hypercall_abi::control::DomainInfo> for StateFlags {
    fn from(info: &hypercall_abi::control::DomainInfo) -> Self {
        use hypercall_abi::control as c;
        let has = |bit: u32| info.state & bit != 0;
        Self {
            running: has(c::STATE_RUNNING),
            blocked: has(c::STATE_BLOCKED),
            paused: has(c::STATE_PAUSED),
            shutdown: has(c::STATE_SHUTDOWN).then_some(info.shutdown_reason),
            dying: has(c::STATE_DYING),
        }
    }
}

/// `letter` when `set`, else a dash.
fn letter(set: bool, letter: char) -> char {
    if set { letter } else { '-' }
}

/// Nanoseconds as seconds with one decimal, rounded, right-aligned.
struct Seconds {
    ns: u64,
    width: usize,
}

impl core::fmt::Display for Seconds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Integers, because Dom0 has no floating-point unit to use.
        let tenths = self.ns.saturating_add(50_000_000) / 100_000_000;
        write!(f, "{:>width$}.{}", tenths / 10, tenths % 10, width = self.width.saturating_sub(2))
    }
}
