//! Event channels, 2-level ABI: ports of a domain, what they are connected to, and the calls on them.
//!
//! The state of a port has a lock of its own; two ports are locked in the order of their addresses. Which ports
//! are taken is kept apart, under the allocator's lock, which is never held together with a port's.

mod bind;
mod deliver;
mod ops;
mod port;
#[cfg(test)]
mod tests;

use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::NR_PORTS_2L;
use hypercall_abi::ids::{DomId, Port};
use spin::Once;
use spin::mutex::SpinMutex;

use crate::hw::Hw;

pub use bind::{alloc_unbound, close, close_all};
pub use deliver::{is_pending, mark_vcpu_pending, send, send_global_virq};
pub use ops::op;
pub use port::{Binding, PortEntry};

use port::{BUCKET_PORTS, Bucket, PortMap};

/// Buckets that hold all ports of the ABI.
const BUCKETS: usize = NR_PORTS_2L as usize / BUCKET_PORTS;

/// The event channels of one domain.
pub struct Events<H: Hw> {
    owner: DomId,
    limit: u32,
    /// Guards which ports are taken.
    taken: SpinMutex<PortMap>,
    /// Ports come in frames of their own, made when the first port of each is allocated and charged to the domain.
    buckets: [Once<H::Shared<Bucket>>; BUCKETS],
    /// Ports of the virtual interrupts that a domain has once; 0 is none. Guards itself.
    pub global_virqs: SpinMutex<[u32; 24]>,
}

impl<H: Hw> Events<H> {
    /// No ports yet; `limit` of them at most (0: all that the ABI has).
    pub const fn new(owner: DomId, limit: u32) -> Self {
        let limit = if limit == 0 || limit > NR_PORTS_2L { NR_PORTS_2L } else { limit };
        Events {
            owner,
            limit,
            taken: SpinMutex::new(PortMap::new()),
            buckets: [const { Once::new() }; BUCKETS],
            global_virqs: SpinMutex::new([0; 24]),
        }
    }

    /// The entry of a port; `EINVAL` if it was never allocated.
    pub fn port(&self, port: Port) -> Result<&PortEntry, XenError> {
        let index = usize::try_from(port.0).map_err(|_| XenError::Inval)?;
        let bucket = self.buckets.get(index / BUCKET_PORTS).and_then(Once::get).ok_or(XenError::Inval)?;
        bucket.entries.get(index % BUCKET_PORTS).ok_or(XenError::Inval)
    }

    /// Takes a free port; its entry is closed still. Port 0 is never used.
    fn allocate(&self) -> Result<Port, XenError> {
        let port = self.taken.lock().take(self.limit).ok_or(XenError::NoSpc)?;
        let made = self.bucket_for(port);
        if made.is_err() {
            self.taken.lock().free(port);
        }
        made.map(|()| port)
    }

    fn bucket_for(&self, port: Port) -> Result<(), XenError> {
        let index = usize::try_from(port.0).map_err(|_| XenError::Inval)? / BUCKET_PORTS;
        let slot = self.buckets.get(index).ok_or(XenError::NoSpc)?;
        let fresh = || H::share(self.owner, Bucket::new()).map_err(|_| XenError::NoMem);
        slot.try_call_once(fresh).map(|_| ())
    }

    /// The lowest port at or after `from` that is taken.
    fn next_taken(&self, from: Port) -> Option<Port> {
        self.taken.lock().next(from)
    }

    fn free(&self, port: Port) {
        self.taken.lock().free(port);
    }
}
