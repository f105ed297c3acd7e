//! Event channels: the ports of a domain, what each is bound to and whom it notifies. How a guest is told which of them
//! are pending is in `deliver` for the 2-level ABI, with which a domain starts, and in `fifo` for the other one.
//!
//! A port is one word that changes in one step, so its state has no lock; two ports are connected while each names the
//! other. Which free port is next is under a lock of the domain.

mod deliver;
mod fifo;
mod ops;
#[cfg(test)]
mod tests;

use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::{NR_PORTS_2L, PortStatus};
use hypercall_abi::ids::{DomId, Port, VcpuId};

use crate::hw::Hw;
use crate::sync::{AtomicBool, AtomicU64, Ordering, SpinMutex};

pub use deliver::{is_pending, send, send_global_virq, tell};
pub use fifo::Queues;
pub use ops::{close, close_all, op};

/// Ports that are made together, in a frame.
const BUCKET_PORTS: usize = 256;
/// Buckets that hold all ports of the ABI.
const BUCKETS: usize = NR_PORTS_2L as usize / BUCKET_PORTS;

/// What a port is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Not in use.
    Free,
    /// Waits for this domain to connect.
    Unbound(DomId),
    /// Names a port of another domain (or of the same one). The two are connected as long as that one names this.
    Interdomain(DomId, Port),
    /// Announces this virtual interrupt.
    Virq(u32),
    /// For notifications among the domain's vCPUs.
    Ipi,
}

impl Binding {
    /// What the guest is told of it, as in `Status`: the state, and the two words of its union.
    #[inline(always)]
    fn describe(self) -> (PortStatus, u16, u32) {
        match self {
            Binding::Free => (PortStatus::Closed, 0, 0),
            Binding::Unbound(remote) => (PortStatus::Unbound, remote.0, 0),
            Binding::Interdomain(remote, far) => (PortStatus::Interdomain, remote.0, far.0),
            Binding::Virq(virq) => (PortStatus::Virq, u16::try_from(virq).unwrap_or(u16::MAX), 0),
            Binding::Ipi => (PortStatus::Ipi, 0, 0),
        }
    }

    /// The description in one word: state (7:0), the union (31:16 and 63:32), and room for the vCPU (15:8).
    #[inline(always)]
    fn encode(self) -> u64 {
        let (status, first, second) = self.describe();
        u64::from(status as u32) | u64::from(first) << 16 | u64::from(second) << 32
    }
}

/// A port's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortState {
    /// The other end.
    pub binding: Binding,
    /// The vCPU that is notified.
    pub vcpu: VcpuId,
}

impl PortState {
    /// The word of a free port.
    const FREE: u64 = 0;

    #[inline(always)]
    fn encode(self) -> u64 {
        self.binding.encode() | u64::from(self.vcpu.0 & 0xFF) << 8
    }

    fn decode(word: u64) -> Self {
        let [status, _, d0, d1, n0, n1, n2, n3] = word.to_le_bytes();
        let (first, second) = (u16::from_le_bytes([d0, d1]), u32::from_le_bytes([n0, n1, n2, n3]));
        let binding = match PortStatus::from_raw(u32::from(status)) {
            Some(PortStatus::Unbound) => Binding::Unbound(DomId(first)),
            Some(PortStatus::Interdomain) => Binding::Interdomain(DomId(first), Port(second)),
            Some(PortStatus::Virq) => Binding::Virq(u32::from(first)),
            Some(PortStatus::Ipi) => Binding::Ipi,
            Some(PortStatus::Closed | PortStatus::Pirq) | None => Binding::Free,
        };
        PortState { binding, vcpu: Self::vcpu(word) }
    }

    fn vcpu(word: u64) -> VcpuId {
        let [_, vcpu, ..] = word.to_le_bytes();
        VcpuId(u32::from(vcpu))
    }
}

/// A port. All orders are sequential: of two that change both ends of a channel, each in its own order, one sees what
/// the other did.
pub struct PortEntry(AtomicU64);

impl PortEntry {
    /// What it is now.
    #[inline]
    pub fn load(&self) -> PortState {
        PortState::decode(self.0.load(Ordering::SeqCst))
    }

    /// Whom it notifies, if it is bound to this.
    #[inline(always)]
    fn bound_to(&self, binding: Binding) -> Option<VcpuId> {
        let word = self.0.load(Ordering::SeqCst);
        (word & !0xFF00 == binding.encode()).then(|| PortState::vcpu(word))
    }

    /// Makes it free; returns what it was bound to, unless it was free.
    fn free(&self) -> Option<Binding> {
        let word = self.0.swap(PortState::FREE, Ordering::SeqCst);
        (word != PortState::FREE).then(|| PortState::decode(word).binding)
    }

    /// Changes the state to what `to` makes of it, unless that is nothing; returns the state before.
    fn update(&self, mut to: impl FnMut(PortState) -> Option<PortState>) -> Option<PortState> {
        let to = |word| to(PortState::decode(word)).map(PortState::encode);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, to).ok().map(PortState::decode)
    }

    /// Binds it to something else, if it is bound to `from`; false if it is not.
    fn rebind(&self, from: Binding, binding: Binding) -> bool {
        self.update(|state| (state.binding == from).then_some(PortState { binding, ..state })).is_some()
    }
}

/// Some ports, in a frame.
struct Bucket {
    ports: [PortEntry; BUCKET_PORTS],
    places: [fifo::Place; BUCKET_PORTS],
}

impl Bucket {
    fn new() -> Self {
        Bucket {
            ports: [const { PortEntry(AtomicU64::new(PortState::FREE)) }; BUCKET_PORTS],
            places: [const { fifo::Place::new() }; BUCKET_PORTS],
        }
    }
}

/// What changes with the ports that there are.
struct Table {
    /// No port below this one is free, but for those that were on a queue when they were looked at.
    lowest: u32,
    /// The pages of event words that the guest has given.
    pages: fifo::Pages,
}

/// The event channels of one domain.
pub struct Events<H: Hw> {
    owner: DomId,
    limit: u32,
    /// Whether the guest uses the FIFO ABI.
    fifo: AtomicBool,
    /// Guards also that ports are taken and given back by one at a time. Taken before vCPUs' queues and the frame table.
    table: SpinMutex<Table>,
    /// Where the pages of event words lie; 0 while there is none. Good for as long as one holds the table's lock or one of
    /// a vCPU's queues: who takes a page away holds the one, and passes through the others before it lets go of the page.
    words: [AtomicU64; fifo::PAGES],
    /// Made when the first port of each is opened, from the first bucket on.
    buckets: [H::Place<Bucket>; BUCKETS],
}

impl<H: Hw> Events<H> {
    /// No ports yet; `limit` of them at most (0: all that the ABI has). Port 0 is never used.
    pub fn new(owner: DomId, limit: u32) -> Self {
        let limit = if limit == 0 || limit > NR_PORTS_2L { NR_PORTS_2L } else { limit };
        Events {
            owner,
            limit,
            fifo: AtomicBool::new(false),
            table: SpinMutex::new(Table { lowest: 1, pages: fifo::Pages::new() }),
            words: [const { AtomicU64::new(0) }; fifo::PAGES],
            buckets: Default::default(),
        }
    }

    /// The bucket of a port, and the port's index there; `EINVAL` if there never was one.
    #[inline(always)]
    fn bucket(&self, port: Port) -> Result<(&Bucket, usize), XenError> {
        let index = usize::try_from(port.0).map_err(|_| XenError::Inval)?;
        let bucket = self.buckets.get(index / BUCKET_PORTS).and_then(H::placed).ok_or(XenError::Inval)?;
        Ok((bucket, index % BUCKET_PORTS))
    }

    /// The entry of a port; `EINVAL` if there never was one.
    #[inline]
    pub fn port(&self, port: Port) -> Result<&PortEntry, XenError> {
        let (bucket, index) = self.bucket(port)?;
        bucket.ports.get(index).ok_or(XenError::Inval)
    }

    /// Opens the lowest free port.
    #[inline]
    pub fn open(&self, binding: Binding, vcpu: VcpuId) -> Result<Port, XenError> {
        if self.is_fifo() { self.open_renewed(binding, vcpu) } else { self.open_if(binding, vcpu, |_| true) }
    }

    /// Opens the lowest free port that is `good`, which is asked under the table's lock.
    #[inline(always)]
    fn open_if(&self, binding: Binding, vcpu: VcpuId, good: impl Fn(Port) -> bool) -> Result<Port, XenError> {
        let lowest = &mut self.table.lock().lowest;
        while *lowest < self.limit {
            let index = *lowest as usize;
            let place = self.buckets.get(index / BUCKET_PORTS).ok_or(XenError::NoSpc)?;
            if H::placed(place).is_none() {
                H::place(place, H::share(self.owner, Bucket::new())?);
            }
            let bucket = H::placed(place).ok_or(XenError::NoMem)?;
            let PortEntry(entry) = bucket.ports.get(index % BUCKET_PORTS).ok_or(XenError::NoSpc)?;
            if entry.load(Ordering::SeqCst) == PortState::FREE && good(Port(*lowest)) {
                entry.store(PortState { binding, vcpu }.encode(), Ordering::SeqCst);
                return Ok(Port(*lowest));
            }
            *lowest += 1;
        }
        Err(XenError::NoSpc)
    }

    /// The ports that there are, from the first one, in use or not.
    fn ports(&self) -> impl Iterator<Item = (Port, PortState)> {
        (1..self.limit).map(Port).map_while(|port| Some((port, self.port(port).ok()?.load())))
    }
}
