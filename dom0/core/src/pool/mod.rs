//! CPU pools and where vCPUs may run: the policy behind `xl cpupool-*`, `vcpu-pin` and the keys `pool` and `cpus`.
//!
//! The microkernel knows two masks for each vCPU. A pool is a set of pCPUs that its domains' masks stay within; a pCPU
//! in no pool runs nobody, which is how one is taken out of use. In a pool with the `null` scheduler each vCPU has a
//! pCPU of its own, where the microkernel has nobody to share it with and so sets no timer. Every change is checked
//! first and made as a whole; [`Pools::masks`] then says what to tell the microkernel.

mod error;

#[cfg(test)]
mod tests;

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use hypercall_abi::ids::DomId;

use crate::config::{CpuSet, check_name};
pub use error::PoolError;

/// The pool of Dom0, and of domains that name none; as Xen calls it.
pub const DEFAULT_POOL: &str = "Pool-0";

/// Who runs next in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheduler {
    /// Shares by weight. Xen's name for its own scheduler of this kind, which scripts know.
    #[default]
    Credit2,
    /// A pCPU for each vCPU.
    Null,
}

impl Scheduler {
    /// Its name in `xl cpupool-list` and in a pool's configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Credit2 => "credit2",
            Self::Null => "null",
        }
    }
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its pCPUs, a bit each.
    pub cpus: u64,
    /// Its scheduler.
    pub scheduler: Scheduler,
}

/// Where a vCPU may run, as it was asked for: masks of all ones are `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Where it must run, within its pool.
    pub hard: CpuSet,
    /// Where it runs rather than elsewhere.
    pub soft: CpuSet,
}

impl Wish {
    /// Anywhere.
    pub const ANYWHERE: Self = Self { hard: CpuSet::all(), soft: CpuSet::all() };
}

/// A domain's place.
#[derive(Debug, Clone)]
struct Member {
    pool: String,
    wishes: Vec<Wish>,
    /// In a null pool, the pCPU of each vCPU.
    own: Vec<u32>,
}

/// The pools and their domains.
#[derive(Debug, Clone, Default)]
pub struct Pools {
    machine: u64,
    pools: Vec<Pool>,
    members: BTreeMap<DomId, Member>,
}

impl Pools {
    /// One pool of all `pcpus` pCPUs, with Dom0 and its `vcpus`.
    pub fn new(pcpus: u32, vcpus: usize) -> Self {
        let machine = u64::MAX.checked_shr(64u32.saturating_sub(pcpus)).unwrap_or(0);
        let first = Pool { name: DEFAULT_POOL.to_owned(), cpus: machine, scheduler: Scheduler::Credit2 };
        let wishes = alloc::vec![Wish::ANYWHERE; vcpus];
        let dom0 = Member { pool: DEFAULT_POOL.to_owned(), wishes, own: Vec::new() };
        Self { machine, pools: Vec::from([first]), members: BTreeMap::from([(DomId::DOM0, dom0)]) }
    }

    /// The pools, the default one first.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.iter()
    }

    /// The pool of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<&Pool, PoolError> {
        self.pools.iter().find(|pool| pool.name == name).ok_or_else(|| PoolError::NoPool(name.to_owned()))
    }

    /// The domains of a pool.
    pub fn domains(&self, name: &str) -> Vec<DomId> {
        self.members.iter().filter(|(_, member)| member.pool == name).map(|(domid, _)| *domid).collect()
    }

    /// The hard and soft masks of a domain's vCPUs, in order, for the microkernel.
    pub fn masks(&self, domid: DomId) -> Vec<(u64, u64)> {
        let Some(member) = self.members.get(&domid) else { return Vec::new() };
        let cpus = self.find(&member.pool).map_or(0, |pool| pool.cpus);
        let mask = |(n, wish): (usize, &Wish)| {
            let hard = member.own.get(n).map_or(wish.hard.mask() & cpus, |cpu| 1 << cpu);
            (hard, wish.soft.mask())
        };
        member.wishes.iter().enumerate().map(mask).collect()
    }

    /// Makes a pool of free pCPUs; of the first free one if none are named.
    ///
    /// # Errors
    /// The name is taken or none, or a pCPU is not free.
    pub fn create(&mut self, name: &str, cpus: Option<CpuSet>, scheduler: Scheduler) -> Result<(), PoolError> {
        self.check_free_name(name)?;
        let free = self.free();
        let cpus = match cpus {
            Some(cpus) => self.all_free(cpus)?,
            None if free == 0 => return Err(PoolError::NoneFree),
            None => free & free.wrapping_neg(),
        };
        self.pools.push(Pool { name: name.to_owned(), cpus, scheduler });
        Ok(())
    }

    /// Ends a pool; its pCPUs are free then.
    ///
    /// # Errors
    /// It has domains, or is the default one.
    pub fn destroy(&mut self, name: &str) -> Result<(), PoolError> {
        self.find(name)?;
        if name == self.default_name() {
            return Err(PoolError::Default(name.to_owned()));
        }
        if !self.domains(name).is_empty() {
            return Err(PoolError::InUse(name.to_owned()));
        }
        self.pools.retain(|pool| pool.name != name);
        Ok(())
    }

    /// Gives a pool free pCPUs.
    ///
    /// # Errors
    /// One is not free.
    pub fn add_cpus(&mut self, name: &str, cpus: CpuSet) -> Result<(), PoolError> {
        self.find(name)?;
        let cpus = self.all_free(cpus)?;
        self.change(|next| {
            next.pool_mut(name)?.cpus |= cpus;
            Ok(())
        })
    }

    /// Takes pCPUs out of a pool: they are free, and run nobody.
    ///
    /// # Errors
    /// The pool does not have them, it would have none left, or a vCPU would.
    pub fn remove_cpus(&mut self, name: &str, cpus: CpuSet) -> Result<(), PoolError> {
        let pool = self.find(name)?;
        if cpus.mask() & !pool.cpus != 0 {
            return Err(PoolError::NotInPool(cpus, name.to_owned()));
        }
        if cpus.mask() == pool.cpus {
            return Err(PoolError::LastCpu(name.to_owned()));
        }
        self.change(|next| {
            next.pool_mut(name)?.cpus &= !cpus.mask();
            Ok(())
        })
    }

    /// Renames a pool.
    ///
    /// # Errors
    /// The name is taken or none.
    pub fn rename(&mut self, name: &str, to: &str) -> Result<(), PoolError> {
        self.find(name)?;
        self.check_free_name(to)?;
        self.pool_mut(name)?.name = to.to_owned();
        self.members.values_mut().filter(|member| member.pool == name).for_each(|member| member.pool = to.to_owned());
        Ok(())
    }

    /// Takes in a new domain with a wish for each vCPU.
    ///
    /// # Errors
    /// There is no such pool, or a vCPU could run nowhere.
    pub fn admit(&mut self, domid: DomId, pool: Option<&str>, wishes: Vec<Wish>) -> Result<(), PoolError> {
        let pool = pool.unwrap_or_else(|| self.default_name()).to_owned();
        wishes.iter().try_for_each(|wish| self.present(*wish))?;
        self.members.insert(domid, Member { pool, wishes, own: Vec::new() });
        // It takes nothing from the others, so that only its own place is to be found, however many they are.
        let settled = self.settle(domid);
        if settled.is_err() {
            self.forget(domid);
        }
        settled
    }

    /// Forgets a domain that is gone.
    pub fn forget(&mut self, domid: DomId) {
        self.members.remove(&domid);
    }

    /// Moves a domain to another pool, where its vCPUs may run on any pCPU, as on Xen.
    ///
    /// # Errors
    /// There is no such pool, it has too few pCPUs, or the domain is Dom0.
    pub fn migrate(&mut self, domid: DomId, name: &str) -> Result<(), PoolError> {
        self.find(name)?;
        if domid == DomId::DOM0 {
            return Err(PoolError::Default(self.default_name().to_owned()));
        }
        self.change(|next| {
            if let Some(member) = next.members.get_mut(&domid) {
                member.own.clear();
                member.pool = name.to_owned();
                member.wishes.iter_mut().for_each(|wish| wish.hard = CpuSet::all());
            }
            Ok(())
        })
    }

    /// Changes the wishes of a vCPU, or of all; `None` keeps one.
    ///
    /// # Errors
    /// There is no such vCPU, it could run nowhere, or its pool has the null scheduler.
    pub fn pin(
        &mut self,
        domid: DomId,
        vcpu: Option<u32>,
        hard: Option<CpuSet>,
        soft: Option<CpuSet>,
    ) -> Result<(), PoolError> {
        let all = CpuSet::all();
        self.present(Wish { hard: hard.unwrap_or(all), soft: soft.unwrap_or(all) })?;
        self.change(|next| {
            let Some(member) = next.members.get_mut(&domid) else { return Ok(()) };
            if !member.own.is_empty() && hard.is_some() {
                return Err(PoolError::Fixed(member.pool.clone()));
            }
            let mut found = false;
            for (_, wish) in (0..).zip(&mut member.wishes).filter(|(n, _)| vcpu.is_none_or(|vcpu| vcpu == *n)) {
                *wish = Wish { hard: hard.unwrap_or(wish.hard), soft: soft.unwrap_or(wish.soft) };
                found = true;
            }
            if found { Ok(()) } else { Err(PoolError::NoVcpu(vcpu.unwrap_or(0))) }
        })
    }

    /// Makes a change if everybody can run after it.
    fn change(&mut self, change: impl FnOnce(&mut Self) -> Result<(), PoolError>) -> Result<(), PoolError> {
        let mut next = self.clone();
        change(&mut next)?;
        let domids: Vec<DomId> = next.members.keys().copied().collect();
        for domid in domids {
            next.settle(domid)?;
        }
        *self = next;
        Ok(())
    }

    /// Gives the vCPUs of a null pool their pCPUs, and sees that each vCPU has one.
    fn settle(&mut self, domid: DomId) -> Result<(), PoolError> {
        let Some(member) = self.members.get(&domid).cloned() else { return Ok(()) };
        let pool = self.find(&member.pool)?.clone();
        if pool.scheduler == Scheduler::Null {
            let others = self.members.iter().filter(|(other, _)| **other != domid);
            let taken = others.flat_map(|(_, other)| &other.own).fold(0u64, |taken, cpu| taken | 1 << cpu);
            let stays = member.own.iter().all(|cpu| pool.cpus & 1 << cpu != 0) && !member.own.is_empty();
            if !stays {
                let free = pool.cpus & !taken;
                let own: Vec<u32> = (0..64).filter(|cpu| free & 1 << cpu != 0).take(member.wishes.len()).collect();
                if own.len() < member.wishes.len() {
                    return Err(PoolError::TooFew(pool.name, member.wishes.len() - own.len()));
                }
                if let Some(member) = self.members.get_mut(&domid) {
                    member.own = own;
                }
            }
            return Ok(());
        }
        let lost = (0..).zip(&member.wishes).find(|(_, wish)| wish.hard.mask() & pool.cpus == 0);
        lost.map_or(Ok(()), |(vcpu, _)| Err(PoolError::Nowhere(domid, vcpu, pool.name)))
    }

    /// Whether the machine has pCPUs of both masks.
    fn present(&self, wish: Wish) -> Result<(), PoolError> {
        let absent = [wish.hard, wish.soft].into_iter().find(|set| set.mask() & self.machine == 0);
        absent.map_or(Ok(()), |set| Err(PoolError::Absent(set)))
    }

    fn free(&self) -> u64 {
        self.pools.iter().fold(self.machine, |free, pool| free & !pool.cpus)
    }

    fn all_free(&self, cpus: CpuSet) -> Result<u64, PoolError> {
        match cpus.mask() & !self.free() {
            0 => Ok(cpus.mask()),
            taken => Err(PoolError::NotFree(CpuSet::from_mask(taken))),
        }
    }

    /// The name of the default pool now: it may have been renamed.
    fn default_name(&self) -> &str {
        self.pools.first().map_or(DEFAULT_POOL, |pool| pool.name.as_str())
    }

    fn pool_mut(&mut self, name: &str) -> Result<&mut Pool, PoolError> {
        self.pools.iter_mut().find(|pool| pool.name == name).ok_or_else(|| PoolError::NoPool(name.to_owned()))
    }

    fn check_free_name(&self, name: &str) -> Result<(), PoolError> {
        check_name(name).map_err(|expected| PoolError::BadName(name.to_owned(), expected))?;
        if self.find(name).is_ok() { Err(PoolError::NameTaken(name.to_owned())) } else { Ok(()) }
    }
}
