//! `cpus`: which physical CPUs a domain's vCPUs may run on.

use alloc::vec::Vec;
use core::fmt;

/// A set of physical CPUs, numbered 0 to 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuSet(u64);

impl CpuSet {
    /// The highest CPU number a set can hold.
    pub const MAX_CPU: u32 = 63;

    /// The set as a mask, bit n for CPU n.
    pub const fn mask(self) -> u64 {
        self.0
    }

    /// The set with that mask, as the microkernel gives it.
    pub const fn from_mask(mask: u64) -> Self {
        Self(mask)
    }

    /// The set of all CPUs.
    pub const fn all() -> Self {
        Self(u64::MAX)
    }

    /// Parses Xen's comma list of `all`, `n`, `a-b`, `^n` and `^a-b`, taken from left to right.
    pub fn parse(text: &str) -> Option<Self> {
        let mut mask = 0u64;
        for part in text.split(',') {
            let part = part.trim();
            match part.strip_prefix('^') {
                Some(removed) => mask &= !range(removed)?,
                None if part == "all" => mask = u64::MAX,
                None => mask |= range(part)?,
            }
        }
        (mask != 0).then_some(Self(mask))
    }
}

fn range(text: &str) -> Option<u64> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
    if first > last || last > CpuSet::MAX_CPU {
        return None;
    }
    Some((u64::MAX << first) & (u64::MAX >> (CpuSet::MAX_CPU - last)))
}

impl fmt::Display for CpuSet {
    /// `all`, or ranges as `xl vcpu-list` shows them: `0-2,5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == u64::MAX {
            return f.write_str("all");
        }
        let mut rest = self.0;
        while rest != 0 {
            let first = rest.trailing_zeros();
            let length = (!(rest >> first)).trailing_zeros();
            let last = first + length - 1;
            if rest != self.0 {
                f.write_str(",")?;
            }
            match length {
                1 => write!(f, "{first}")?,
                _ => write!(f, "{first}-{last}")?,
            }
            rest &= !((u64::MAX << first) & (u64::MAX >> (Self::MAX_CPU - last)));
        }
        Ok(())
    }
}

/// Where the vCPUs of a domain may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Affinity {
    /// `cpus="0-3"`: the same set for every vCPU.
    Same(CpuSet),
    /// `cpus=["0","1"]`: one set for each vCPU in order; vCPUs beyond the list run anywhere.
    PerVcpu(Vec<CpuSet>),
}

impl Affinity {
    /// The set of vCPU number `vcpu`.
    pub fn of(&self, vcpu: usize) -> CpuSet {
        match self {
            Self::Same(set) => *set,
            Self::PerVcpu(sets) => sets.get(vcpu).copied().unwrap_or(CpuSet::all()),
        }
    }
}
