//! Why a change to the pools is refused.

use alloc::string::String;
use core::fmt;

use hypercall_abi::ids::DomId;

use crate::config::CpuSet;

/// Why pools stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolError {
    /// There is no such pool.
    NoPool(String),
    /// The name is in use.
    NameTaken(String),
    /// The text cannot be a pool's name.
    BadName(String, &'static str),
    /// The pCPU does not exist, or belongs to a pool.
    NotFree(CpuSet),
    /// No pCPU is free.
    NoneFree,
    /// The pCPU is not one of the pool's.
    NotInPool(CpuSet, String),
    /// The pool would have no pCPU left.
    LastCpu(String),
    /// Domains are in the pool.
    InUse(String),
    /// The default pool, of this name, stays, and Dom0 in it.
    Default(String),
    /// A vCPU of this domain could run nowhere: its hard affinity has no pCPU of its pool.
    Nowhere(DomId, u32, String),
    /// The machine has none of the pCPUs of this affinity.
    Absent(CpuSet),
    /// A pool with the null scheduler has too few pCPUs for the domain's vCPUs.
    TooFew(String, usize),
    /// vCPUs of a null pool have their pCPUs already.
    Fixed(String),
    /// The domain has no such vCPU.
    NoVcpu(u32),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPool(name) => write!(f, "Pool '{name}' does not exist"),
            Self::NameTaken(name) => write!(f, "Pool '{name}' already exists"),
            Self::BadName(name, expected) => write!(f, "'{name}' is not {expected}"),
            Self::NotFree(cpus) => write!(f, "cpu {cpus} illegal or not free"),
            Self::NoneFree => f.write_str("no free cpu found"),
            Self::NotInPool(cpus, pool) => write!(f, "cpu {cpus} is not in pool '{pool}'"),
            Self::LastCpu(pool) => write!(f, "pool '{pool}' would have no cpu left"),
            Self::InUse(pool) => write!(f, "pool '{pool}' has domains; 'xl cpupool-migrate' moves them"),
            Self::Default(pool) => write!(f, "Domain-0 and pool '{pool}' belong together"),
            Self::Nowhere(domid, vcpu, pool) => {
                write!(f, "vCPU {vcpu} of domain {domid} could run on no cpu of pool '{pool}' (see 'xl vcpu-list')")
            }
            Self::Absent(cpus) => write!(f, "cpu {cpus} does not exist ('xl info' counts them as nr_cpus)"),
            Self::TooFew(pool, lacking) => {
                write!(f, "pool '{pool}' gives each vCPU a cpu of its own and has {lacking} too few")
            }
            Self::Fixed(pool) => write!(f, "pool '{pool}' gives each vCPU a cpu of its own; it cannot be pinned"),
            Self::NoVcpu(vcpu) => write!(f, "vCPU {vcpu} does not exist"),
        }
    }
}

impl core::error::Error for PoolError {}
