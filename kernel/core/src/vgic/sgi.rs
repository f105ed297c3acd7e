//! Software-generated interrupts: a write to `ICC_SGI1R_EL1` or `ICC_SGI0R_EL1`, which traps (Arm IHI 0069H,
//! section 12.2.23).

use super::{Vcpus, Wake};
use crate::hw::Hw;

/// A request to interrupt vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sgi {
    irq: u32,
    group1: bool,
    targets: Targets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Targets {
    /// Every vCPU but the sender.
    Others,
    /// Up to 16 vCPUs from `first`, a bit each.
    Some { first: usize, mask: u16 },
}

impl Sgi {
    /// Reads the register's value. A cluster that no vCPU can be in gives an empty list.
    pub const fn decode(value: u64, group1: bool) -> Sgi {
        let irq = super::low(value >> 24 & 0xF);
        if value >> 40 & 1 != 0 {
            return Sgi { irq, group1, targets: Targets::Others };
        }
        let (aff3, aff2, range) = (value >> 48 & 0xFF, value >> 32 & 0xFF, value >> 44 & 0xF);
        // Affinity 0 ends at 15, so that every other range of it is empty.
        let mask = if aff3 | aff2 | range == 0 { super::low16(super::low(value)) } else { 0 };
        let first = (super::low(value) >> 16 & 0xFF) as usize * 16;
        Sgi { irq, group1, targets: Targets::Some { first, mask } }
    }
}

impl Sgi {
    /// Whether `sender` alone is to be interrupted.
    #[inline]
    fn is_to_self(self, sender: usize) -> bool {
        match self.targets {
            Targets::Others => false,
            Targets::Some { first, mask } => sender & !15 == first && mask == 1 << (sender & 15),
        }
    }
}

/// Sends an interrupt from vCPU `sender`, which runs here, to itself; false if others are meant.
#[inline]
pub(crate) fn send_to_self<H: Hw>(sgi: Sgi, sender: usize, gic: &super::VcpuGic) -> bool {
    let own = sgi.is_to_self(sender);
    if own {
        gic.raise_own_sgi::<H>(sgi.irq, sgi.group1);
    }
    own
}

/// Sends an interrupt from vCPU `sender`.
pub fn send(sgi: Sgi, sender: usize, vcpus: &(impl Vcpus + ?Sized)) -> Wake {
    let mut wake = Wake::NONE;
    let mut to = |index: usize| {
        if vcpus.gic(index).is_some_and(|gic| gic.raise_sgi(sgi.irq, sgi.group1)) {
            wake.add(index);
        }
    };
    match sgi.targets {
        Targets::Others => (0..vcpus.count()).filter(|index| *index != sender).for_each(to),
        Targets::Some { first, mask } => super::bits(u32::from(mask)).for_each(|bit| to(first + bit as usize)),
    }
    wake
}
