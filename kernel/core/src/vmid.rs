//! VMIDs by generation: there are 255, and there may be more domains.
//!
//! A domain keeps its VMID as long as the generation lasts. When none is left, a new generation begins: the TLBs
//! forget everything, VMIDs in use on a pCPU at that moment stay reserved for their domains, and every other domain
//! gets a new one when it next runs. A pCPU therefore needs no message: it goes on with the VMID it has, and asks
//! again at its next switch. The scheme is that of Linux's ASID allocator.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::mutex::SpinMutex;

use crate::hw::{Hw, MAX_PCPUS, PcpuId};

/// VMIDs of 8 bits, which every core has.
const VMID_BITS: u32 = 8;
const VMIDS: usize = 1 << VMID_BITS;
const VMID_MASK: u64 = VMIDS as u64 - 1;
const FIRST_GENERATION: u64 = 1 << VMID_BITS;

/// A domain's VMID (7:0) and the generation it is from; 0 before the domain first runs.
#[derive(Debug, Default)]
pub struct DomainVmid(AtomicU64);

impl DomainVmid {
    /// No VMID yet.
    pub const fn new() -> Self {
        DomainVmid(AtomicU64::new(0))
    }

    /// The VMID that TLB entries of this domain may carry; `None` if it never ran, so that there are none. A VMID of an
    /// old generation may be another domain's by now: invalidating with it is harmless, and right if a
    /// pCPU still runs with it.
    pub fn tag(&self) -> Option<u64> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            value => Some(value & VMID_MASK),
        }
    }
}

/// Who has which VMID.
pub struct VmidAllocator {
    /// Generations that began after the first, in the bits above the VMID: an unused allocator is all zeros, which
    /// costs nothing in the image. Changed under the lock.
    later: AtomicU64,
    /// What each pCPU runs with; 0 right after a new generation began.
    active: [AtomicU64; MAX_PCPUS],
    /// Guards the map of VMIDs of this generation. Innermost.
    state: SpinMutex<State>,
}

struct State {
    /// VMIDs that are taken; the bit of VMID 0 does not count.
    used: [u64; VMIDS / 64],
    /// What each pCPU ran with when the generation began.
    reserved: [u64; MAX_PCPUS],
}

impl VmidAllocator {
    /// All VMIDs free. VMID 0 is nobody's: a pCPU without a domain has it.
    pub const fn new() -> Self {
        VmidAllocator {
            later: AtomicU64::new(0),
            active: [const { AtomicU64::new(0) }; MAX_PCPUS],
            state: SpinMutex::new(State { used: [0; VMIDS / 64], reserved: [0; MAX_PCPUS] }),
        }
    }

    /// The VMID that `domain` is to run with on `pcpu`, from now on.
    pub fn enter<H: Hw>(&self, domain: &DomainVmid, pcpu: PcpuId) -> u64 {
        let Some(active) = self.active.get(usize::from(pcpu.0)) else { return 0 };
        let value = domain.0.load(Ordering::Relaxed);
        let before = active.load(Ordering::Relaxed);
        // The exchange fails if a new generation took our mark away meanwhile; then the lock decides.
        if before != 0
            && self.is_current(value)
            && active.compare_exchange(before, value, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            return value & VMID_MASK;
        }
        let mut state = self.state.lock();
        let mut value = domain.0.load(Ordering::Relaxed);
        if !self.is_current(value) {
            value = self.assign::<H>(&mut state, value);
            domain.0.store(value, Ordering::SeqCst);
            // Whoever changes this domain's tables from now on must see the new VMID before we walk with it.
            H::publish_tables();
        }
        active.store(value, Ordering::Release);
        value & VMID_MASK
    }

    fn generation(&self) -> u64 {
        FIRST_GENERATION + self.later.load(Ordering::Acquire)
    }

    fn is_current(&self, value: u64) -> bool {
        (value ^ self.generation()) >> VMID_BITS == 0
    }

    fn assign<H: Hw>(&self, state: &mut State, old: u64) -> u64 {
        let generation = self.generation();
        if old != 0 {
            let renewed = generation | old & VMID_MASK;
            // A pCPU ran with it when the generation began: it stays the domain's, on all pCPUs.
            let mut kept = false;
            for reserved in state.reserved.iter_mut().filter(|reserved| **reserved == old) {
                *reserved = renewed;
                kept = true;
            }
            if kept {
                return renewed;
            }
            if state.take(old & VMID_MASK) {
                return renewed;
            }
        }
        if let Some(vmid) = state.take_any() {
            return generation | vmid;
        }
        let generation = generation + FIRST_GENERATION;
        self.later.store(generation - FIRST_GENERATION, Ordering::Release);
        self.begin_generation(state);
        H::invalidate_all_vmids();
        // There are more VMIDs than pCPUs, so one is free.
        generation | state.take_any().unwrap_or(0)
    }

    fn begin_generation(&self, state: &mut State) {
        state.used = [0; VMIDS / 64];
        for (active, reserved) in self.active.iter().zip(state.reserved.iter_mut()) {
            // Zero sends the pCPU to the lock at its next switch. If it was zero already, the pCPU has not switched
            // since the last time and still runs with what was reserved then.
            let value = active.swap(0, Ordering::AcqRel);
            if value != 0 {
                *reserved = value;
            }
        }
        for value in state.reserved {
            state.take(value & VMID_MASK);
        }
    }
}

impl Default for VmidAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// Marks a VMID as used; false if it was.
    fn take(&mut self, vmid: u64) -> bool {
        let Some(word) = usize::try_from(vmid / 64).ok().and_then(|n| self.used.get_mut(n)) else { return false };
        let bit = 1 << (vmid % 64);
        let free = *word & bit == 0;
        *word |= bit;
        free
    }

    fn take_any(&mut self) -> Option<u64> {
        let nobodys = |n: usize| u64::from(n == 0);
        let (n, word) = self.used.iter_mut().enumerate().find(|(n, word)| **word | nobodys(*n) != u64::MAX)?;
        let bit = (*word | nobodys(n)).trailing_ones();
        *word |= 1 << bit;
        Some(n as u64 * 64 + u64::from(bit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{self, Fake};

    const P0: PcpuId = PcpuId(0);
    const P1: PcpuId = PcpuId(1);

    fn domains(n: usize) -> Vec<DomainVmid> {
        (0..n).map(|_| DomainVmid::new()).collect()
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
        let keeper = DomainVmid::new();
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
        assert_eq!(DomainVmid::new().tag(), None);
    }
}
