//! VMIDs by generation: there are 255, and there may be more domains.
//!
//! A domain keeps its VMID until it is given to another. When all have been given in this generation, a new one begins:
//! the TLBs forget everything, and VMIDs in use on a pCPU at that moment are not given again before the next. A pCPU
//! therefore needs no message: it goes on with the VMID it has, and asks again at its next switch.

use crate::hw::{Hw, MAX_PCPUS, PcpuId};
use crate::sync::{AtomicU64, Ordering, SpinMutex, fence};

/// VMIDs, of 8 bits, which every core has; the difference of two generations, too.
const VMIDS: usize = 1 << 8;

/// A domain's VMID (7:0) and the generation in which it last ran; 0 before the domain first runs. Relaxed: it changes under
/// the allocator's lock with the generation, so an old one is of an old generation and is looked at again there.
#[derive(Debug, Default)]
pub struct DomainVmid(AtomicU64);

impl DomainVmid {
    /// The VMID that TLB entries of this domain may carry, for a caller that has changed its tables; `None` if it never
    /// ran, so that there are none. A VMID of an old generation may be another domain's by now: invalidating with it is
    /// harmless, and right if a pCPU still runs with it.
    pub fn tag(&self) -> Option<u64> {
        // Either we see the VMID of a pCPU that enters now, or it sees what we changed.
        fence(Ordering::SeqCst);
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            value => Some(vmid(value).into()),
        }
    }
}

/// Who has which VMID.
pub struct VmidAllocator {
    /// This generation, in the bits above the VMID. Changed under the lock.
    generation: AtomicU64,
    /// What each pCPU runs with.
    active: [AtomicU64; MAX_PCPUS],
    /// Innermost.
    state: SpinMutex<State>,
}

struct State {
    /// To whom each VMID was last given: the value that this domain has.
    given: [u64; VMIDS],
    /// What each pCPU ran with when the generation began. VMID 0 is nobody's: a pCPU without a domain has it.
    kept: [u8; MAX_PCPUS],
    /// Up to it, none is free in this generation.
    taken: u8,
}

impl VmidAllocator {
    /// All VMIDs free.
    pub(crate) const fn new() -> Self {
        VmidAllocator {
            generation: AtomicU64::new(0),
            active: [const { AtomicU64::new(0) }; MAX_PCPUS],
            state: SpinMutex::new(State { given: [0; VMIDS], kept: [0; MAX_PCPUS], taken: 0 }),
        }
    }

    /// The VMID that `domain` is to run with on `pcpu`, from now on.
    #[inline(always)]
    pub fn enter<H: Hw>(&self, domain: &DomainVmid, pcpu: PcpuId) -> u64 {
        let active = &self.active[usize::from(pcpu.0) % MAX_PCPUS];
        let value = domain.0.load(Ordering::Relaxed);
        active.store(value, Ordering::SeqCst);
        // Either whoever begins a generation sees that we run with it, or we see the generation.
        if !self.is_current(value) {
            return self.renew::<H>(domain, active);
        }
        vmid(value).into()
    }

    #[cold]
    fn renew<H: Hw>(&self, domain: &DomainVmid, active: &AtomicU64) -> u64 {
        let mut state = self.state.lock();
        let mut value = domain.0.load(Ordering::Relaxed);
        if !self.is_current(value) {
            let new = self.assign::<H>(&mut state, value);
            value = self.generation.load(Ordering::SeqCst) | u64::from(new);
            state.given[usize::from(new)] = value;
            domain.0.store(value, Ordering::Relaxed);
            // Whoever changes this domain's tables from now on must see the new VMID before we walk with it.
            fence(Ordering::SeqCst);
            H::publish_tables();
        }
        active.store(value, Ordering::SeqCst);
        vmid(value).into()
    }

    /// Whether a value is of this generation; that of a domain that never ran is of none.
    fn is_current(&self, value: u64) -> bool {
        value != 0 && value - u64::from(vmid(value)) == self.generation.load(Ordering::SeqCst)
    }

    /// A VMID of this generation for the domain that has `old`: the same, if nobody was given it since.
    fn assign<H: Hw>(&self, state: &mut State, old: u64) -> u8 {
        if old != 0 && state.given[usize::from(vmid(old))] == old {
            return vmid(old);
        }
        self.find_free(state).unwrap_or_else(|| {
            self.generation.fetch_add(VMIDS as u64, Ordering::SeqCst);
            state.kept = self.active.each_ref().map(|active| vmid(active.load(Ordering::SeqCst)));
            state.taken = 0;
            H::invalidate_all_vmids();
            // There are more VMIDs than pCPUs, so one is free.
            self.find_free(state).unwrap_or(0)
        })
    }

    /// A VMID that no domain has had in this generation.
    fn find_free(&self, state: &mut State) -> Option<u8> {
        let free = |vmid: &u8| !self.is_current(state.given[usize::from(*vmid)]) && !state.kept.contains(vmid);
        state.taken = (state.taken.saturating_add(1)..=u8::MAX).find(free)?;
        Some(state.taken)
    }
}

const fn vmid(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, Fake};

    const P0: PcpuId = PcpuId(0);
    const P1: PcpuId = PcpuId(1);

    fn domains(n: usize) -> Vec<DomainVmid> {
        (0..n).map(|_| DomainVmid::default()).collect()
    }

    #[test]
    fn a_domain_keeps_its_vmid_while_there_are_enough() {
        let (vmids, domains) = (VmidAllocator::new(), domains(255));
        let first: Vec<u64> = domains.iter().map(|d| vmids.enter::<Fake>(d, P0)).collect();
        let second: Vec<u64> = domains.iter().map(|d| vmids.enter::<Fake>(d, P1)).collect();
        assert_eq!(first, second);
        assert!(!first.contains(&0));
        assert_eq!(fake::with(|s| s.counts.full_invalidations), 0);
    }

    #[test]
    fn no_two_domains_that_run_share_a_vmid_across_generations() {
        fake::reset();
        let (vmids, domains) = (VmidAllocator::new(), domains(700));
        let keeper = DomainVmid::default();
        let kept = vmids.enter::<Fake>(&keeper, P1);
        for round in 0..3 {
            for domain in &domains {
                assert_ne!(vmids.enter::<Fake>(domain, P0), kept, "round {round}: it runs on the other pCPU");
                assert_eq!(keeper.tag(), Some(kept));
            }
        }
        assert_eq!(vmids.enter::<Fake>(&keeper, P1), kept);
        assert_eq!(vmids.enter::<Fake>(&keeper, P0), kept, "one VMID on all pCPUs");
        assert!(fake::with(|s| s.counts.full_invalidations) >= 8);
    }

    #[test]
    fn a_domain_that_slept_through_a_generation_gets_a_fresh_vmid() {
        fake::reset();
        let (vmids, domains) = (VmidAllocator::new(), domains(256));
        for domain in &domains {
            vmids.enter::<Fake>(domain, P0);
        }
        assert_eq!(fake::with(|s| s.counts.full_invalidations), 1);
        let last = vmids.enter::<Fake>(&domains[255], P0);
        assert_ne!(vmids.enter::<Fake>(&domains[0], P1), last);
    }

    #[test]
    fn a_domain_that_never_ran_has_no_translations_to_forget() {
        assert_eq!(DomainVmid::default().tag(), None);
    }
}
