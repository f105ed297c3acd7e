//! Who runs where and how much: what the pools say is told to the microkernel, and vCPUs are switched on and off.

use alloc::vec::Vec;

use dom0_core::config::DomainConfig;
use dom0_core::devices::paths;
use dom0_core::pool::{PoolError, Pools, Wish};
use hypercall_abi::control::MAX_WEIGHT;
use hypercall_abi::ids::{DomId, VcpuId};
use pv_guest_lib::control::{self, Cap};

use super::{Error, Toolstack};

impl Toolstack {
    /// Gives a new domain its place and its share.
    pub(super) fn place(&self, cap: Cap, domid: DomId, config: &DomainConfig) -> Result<(), Error> {
        let wish = |vcpu: u32| {
            let vcpu = vcpu as usize;
            Wish { hard: config.cpus.of(vcpu), soft: config.cpus_soft.of(vcpu) }
        };
        let wishes: Vec<Wish> = (0..config.max_vcpus).map(wish).collect();
        self.pools.borrow_mut().admit(domid, config.pool.as_deref(), wishes)?;
        self.give_masks(cap, domid)?;
        give_share(cap, config.max_vcpus, config.cpu_weight, config.cap)
    }

    /// Changes the pools, and tells the microkernel what follows for each domain.
    pub fn change_pools(&self, change: impl FnOnce(&mut Pools) -> Result<(), PoolError>) -> Result<(), Error> {
        change(&mut self.pools.borrow_mut())?;
        let pools = self.pools.borrow();
        let domids: Vec<DomId> = pools.iter().flat_map(|pool| pools.domains(&pool.name)).collect();
        drop(pools);
        domids.into_iter().try_for_each(|domid| match self.tell_masks(domid) {
            // One that is being taken down runs nowhere any more.
            Err(Error::Gone(_)) => Ok(()),
            told => told,
        })
    }

    fn tell_masks(&self, domid: DomId) -> Result<(), Error> {
        self.with_cap(domid, |cap| self.give_masks(cap, domid))?
    }

    fn give_masks(&self, cap: Cap, domid: DomId) -> Result<(), Error> {
        let mut masks = (0..).zip(self.pools.borrow().masks(domid));
        let told = masks.try_for_each(|(vcpu, (hard, soft))| control::set_affinity(cap, VcpuId(vcpu), hard, soft));
        told.map_err(|error| Error::Hypervisor("setting the affinity", error))
    }

    /// Sets a domain's weight and cap.
    pub fn set_share(&self, domid: DomId, weight: u32, cap: u32) -> Result<(), Error> {
        let vcpus = self.info(domid).map_or(0, |info| info.vcpus);
        self.with_cap(domid, |domain| give_share(domain, vcpus, weight, cap))?
    }

    /// Asks a guest to have its first `count` vCPUs online, of `all`.
    pub fn set_vcpus(&self, domid: DomId, count: u32, all: u32) -> Result<(), Error> {
        for vcpu in 0..all {
            let path = alloc::format!("{}/cpu/{vcpu}/availability", paths::domain(domid));
            let state = if vcpu < count { "online" } else { "offline" };
            self.store.write(&path, state).map_err(|error| Error::Store("asking for vCPUs", error))?;
        }
        Ok(())
    }
}

/// Sets weight and cap of a domain of so many vCPUs.
fn give_share(domain: Cap, vcpus: u32, weight: u32, cap: u32) -> Result<(), Error> {
    let most = 100 * vcpus;
    if !(1..=MAX_WEIGHT).contains(&weight) {
        return Err(Error::Weight(weight));
    }
    if cap > most {
        return Err(Error::Cap(cap, most));
    }
    control::set_share(domain, weight, cap).map_err(|error| Error::Hypervisor("setting weight and cap", error))
}
