//! One port: what it is bound to and which vCPU it notifies.

use hypercall_abi::evtchn::NR_PORTS_2L;
use hypercall_abi::ids::{DomId, Port, VcpuId};
use spin::mutex::SpinMutex;

/// Ports in one bucket, which fills no more than a frame.
pub const BUCKET_PORTS: usize = 128;
const WORDS: usize = NR_PORTS_2L as usize / 64;

/// What a port is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Not in use, or being set up.
    Closed,
    /// Waits for this domain to connect.
    Unbound(DomId),
    /// Connected to a port of another domain (or of the same one).
    Interdomain(DomId, Port),
    /// Announces this virtual interrupt.
    Virq(u32),
    /// For notifications among the domain's vCPUs.
    Ipi,
}

/// A port's state.
#[derive(Clone, Copy, Debug)]
pub struct PortState {
    /// The other end.
    pub binding: Binding,
    /// The vCPU that is notified.
    pub vcpu: VcpuId,
}

/// A port and the lock that guards it.
pub struct PortEntry(pub SpinMutex<PortState>);

impl PortEntry {
    const fn closed() -> Self {
        PortEntry(SpinMutex::new(PortState { binding: Binding::Closed, vcpu: VcpuId(0) }))
    }
}

/// A frame of ports.
pub struct Bucket {
    /// The ports.
    pub entries: [PortEntry; BUCKET_PORTS],
}

const _: () = assert!(size_of::<Bucket>() <= 4096);

impl Bucket {
    /// All closed.
    pub const fn new() -> Self {
        Bucket { entries: [const { PortEntry::closed() }; BUCKET_PORTS] }
    }
}

/// Which ports are taken, a bit each.
pub struct PortMap {
    words: [u64; WORDS],
    /// No word before this one has a free port.
    hint: usize,
}

impl PortMap {
    /// Only port 0 is taken, which the ABI keeps free.
    pub const fn new() -> Self {
        let mut words = [0; WORDS];
        words[0] = 1;
        PortMap { words, hint: 0 }
    }

    /// Takes the lowest free port below `limit`.
    pub fn take(&mut self, limit: u32) -> Option<Port> {
        let start = self.hint;
        let (at, word) = self.words.iter_mut().enumerate().skip(start).find(|(_, word)| **word != u64::MAX)?;
        let bit = word.trailing_ones();
        let port = u32::try_from(at * 64).ok()? + bit;
        if port >= limit {
            return None;
        }
        *word |= 1 << bit;
        self.hint = at;
        Some(Port(port))
    }

    /// The lowest taken port at or after `from`; port 0 is none.
    pub fn next(&self, from: Port) -> Option<Port> {
        let first = from.0.max(1) as usize;
        let below = (1u64 << (first % 64)) - 1;
        let rest = self.words.iter().enumerate().skip(first / 64);
        let mut seen = rest.map(|(at, word)| (at, if at == first / 64 { word & !below } else { *word }));
        let (at, word) = seen.find(|(_, word)| *word != 0)?;
        u32::try_from(at * 64).ok().map(|base| Port(base + word.trailing_zeros()))
    }

    /// Gives a port back.
    pub fn free(&mut self, port: Port) {
        let at = port.0 as usize / 64;
        if let Some(word) = self.words.get_mut(at)
            && port.0 != 0
        {
            *word &= !(1 << (port.0 % 64));
            self.hint = self.hint.min(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_port_is_taken_and_port_zero_never() {
        let mut map = PortMap::new();
        assert_eq!(map.take(4096), Some(Port(1)));
        assert_eq!(map.take(4096), Some(Port(2)));
        map.free(Port(1));
        map.free(Port(0));
        assert_eq!(map.take(4096), Some(Port(1)));
        assert_eq!(map.take(4096), Some(Port(3)));
    }

    #[test]
    fn taken_ports_are_found_in_order() {
        let mut map = PortMap::new();
        assert_eq!(map.next(Port(0)), None);
        for _ in 0..130 {
            map.take(4096);
        }
        map.free(Port(64));
        assert_eq!(map.next(Port(0)), Some(Port(1)));
        assert_eq!(map.next(Port(63)), Some(Port(63)));
        assert_eq!(map.next(Port(64)), Some(Port(65)));
        assert_eq!(map.next(Port(130)), Some(Port(130)));
        assert_eq!(map.next(Port(131)), None);
    }

    #[test]
    fn no_port_at_or_above_the_limit_is_taken() {
        let mut map = PortMap::new();
        let taken = core::iter::from_fn(|| map.take(70)).count();
        assert_eq!(taken, 69);
        map.free(Port(42));
        assert_eq!(map.take(70), Some(Port(42)));
    }
}
