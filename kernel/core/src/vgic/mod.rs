//! The virtual GICv3: distributor, redistributors and software-generated interrupts (Arm IHI 0069H).
//!
//! The guest takes and ends interrupts at the GIC's virtual CPU interface without an exit. EL2 keeps what that
//! interface does not know: which interrupts are enabled and pending ([`bank`]). Whoever changes that marks the vCPU
//! that is concerned, and kicks it if it runs. Before a vCPU goes on it looks at its marks, and if there are any it takes
//! back what its list registers hold and fills them anew with the most urgent interrupts ([`flush`]).
//!
//! Locks: a distributor's lock guards the shared interrupts of the domain; a [`VcpuGic`]'s lock guards the private
//! interrupts and the queue of one vCPU. The distributor's is taken first, and never two vCPUs' at once.

mod bank;
mod dist;
mod lists;
mod registers;
mod sgi;
#[cfg(test)]
mod tests;
mod vcpu;

use hypercall_abi::arm;
use hypercall_abi::ids::DomId;

use crate::addr::Ipa;
use crate::hw::{Hw, IntId};
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::machine::Range;

pub use dist::{Distributor, flush, raise, set_level};
pub use registers::{read, write};
pub use sgi::send as send_sgi;
pub use vcpu::VcpuGic;

/// Private interrupts of a vCPU: 16 software-generated ones and 16 of its devices.
const PRIVATE: u32 = 32;
/// Banks of 32 shared interrupts that a distributor has at most.
const SPI_BANKS: usize = 9;
/// Size of the distributor's register frame.
const GICD_SIZE: u64 = 0x1_0000;

/// Where the guest sees the GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicLayout {
    /// First byte of the distributor's 64 KiB.
    pub dist: Ipa,
    /// First byte of the redistributors, 128 KiB for each vCPU.
    pub redist: Ipa,
    /// Bytes that the redistributors may fill.
    pub redist_size: u64,
}

impl GicLayout {
    /// Where Xen puts it for its guests.
    pub const GUEST: GicLayout = GicLayout {
        dist: Ipa::new(arm::GUEST_GICV3_GICD_BASE),
        redist: Ipa::new(arm::GUEST_GICV3_GICR0_BASE),
        redist_size: arm::GUEST_GICV3_GICR0_SIZE,
    };

    /// Where the machine has its own, for the domain whose IPAs are PAs.
    pub fn of_host(gicd: Range, gicr: Range) -> GicLayout {
        GicLayout { dist: Ipa::new(gicd.start.raw()), redist: Ipa::new(gicr.start.raw()), redist_size: gicr.size }
    }

    /// What lies at `ipa`, with the offset in it.
    pub fn find(&self, ipa: Ipa) -> Option<Frame> {
        let offset = ipa.raw().wrapping_sub(self.dist.raw());
        if offset < GICD_SIZE {
            return Some(Frame::Distributor(offset));
        }
        let offset = ipa.raw().wrapping_sub(self.redist.raw());
        if offset < self.redist_size {
            let vcpu = usize::try_from(offset / arm::GICV3_GICR_STRIDE).ok()?;
            return Some(Frame::Redistributor(vcpu, offset % arm::GICV3_GICR_STRIDE));
        }
        None
    }
}

/// A register frame of the GIC and an offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The distributor.
    Distributor(u64),
    /// The redistributor of this vCPU, which need not exist.
    Redistributor(usize, u64),
}

/// Affinity of a vCPU as in `MPIDR_EL1`: 16 to a cluster, as Xen numbers them, so that one `ICC_SGI1R_EL1` write
/// can name each.
pub const fn affinity(index: usize) -> u64 {
    (index as u64 & 0xF) | (index as u64 >> 4) << 8
}

/// The vCPU with this affinity (`Aff3` to `Aff0`, as in `MPIDR_EL1`), whether it exists or not.
pub const fn index_of(mpidr: u64) -> Option<usize> {
    let (aff0, aff1, above) = (low(mpidr) & 0xFF, low(mpidr) >> 8 & 0xFF, mpidr & 0xFF_00FF_0000);
    if aff0 < 16 && above == 0 { Some((aff1 << 4 | aff0) as usize) } else { None }
}

/// A shared interrupt of the machine has come in and is active: it goes to Dom0, which has all of them, and the
/// guest's own deactivation ends it.
#[inline(never)]
pub fn on_physical_spi<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, intid: IntId) {
    let running = cpu.current.as_ref().filter(|current| current.domain.id == DomId::DOM0);
    let owner = match running {
        Some(current) => Some(current.domain.clone()),
        None => kernel.domains.get(DomId::DOM0),
    };
    match owner {
        Some(domain) if domain.dist.is_linked(intid.0) => {
            raise(kernel, &domain, intid.0);
        }
        Some(_) | None => {
            // Nobody's: it must not come again.
            H::disable_interrupt(intid);
            H::deactivate(intid);
        }
    }
}

/// The maintenance interrupt: the guest has ended a level interrupt whose line must be looked at again, or list
/// registers have become free.
#[inline(never)]
pub fn on_maintenance<H: Hw>(cpu: &LocalCpu<H>) {
    if let Some(current) = &cpu.current {
        current.vcpu.gic.mark(vcpu::ALL);
    }
}

/// The numbers of the bits set in `mask`.
fn bits(mask: impl Into<u64>) -> impl Iterator<Item = u32> {
    let mut mask = mask.into();
    core::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros());
        mask &= mask.wrapping_sub(1);
        bit
    })
}

/// The low half of a register value.
#[allow(clippy::cast_possible_truncation, reason = "the upper half is not wanted")]
const fn low(value: u64) -> u32 {
    value as u32
}

/// The lowest 16 bits of a mask of list registers.
#[allow(clippy::cast_possible_truncation, reason = "there are 16 list registers at most")]
const fn low16(mask: u32) -> u16 {
    mask as u16
}
