//! The virtual GICv3: distributor, redistributors and software-generated interrupts (Arm IHI 0069H).
//!
//! The guest takes and ends interrupts at the GIC's virtual CPU interface without an exit. EL2 keeps what that
//! interface does not know: which interrupts are enabled and pending ([`Bank`]), and which of them wait for a
//! list register ([`Queue`]). List registers are touched only when that set or the vCPU changes.
//!
//! Locks: a distributor's lock guards the shared interrupts of the domain; a [`VcpuGic`]'s lock guards the private
//! interrupts and the queue of one vCPU. The distributor's is taken first, and never two vCPUs' at once.

mod bank;
mod dist;
mod gicd;
mod gicr;
mod queue;
mod sgi;
#[cfg(test)]
mod tests;
mod vcpu;

use hypercall_abi::arm;
use hypercall_abi::ids::DomId;

use crate::addr::Ipa;
use crate::domain::{Domain, MAX_VCPUS};
use crate::hw::{Hw, IntId};
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::machine::Range;

pub use dist::Distributor;
pub(crate) use sgi::send_to_self;
pub use sgi::{Sgi, send};
pub use vcpu::VcpuGic;

/// Private interrupts of a vCPU: 16 software-generated ones and 16 of its devices.
const PRIVATE: u32 = 32;
/// Banks of 32 shared interrupts that a distributor has at most.
const SPI_BANKS: usize = 9;
/// `IIDR`: implementer Arm, nothing else said.
const IIDR: u64 = 0x43B;
/// `PIDR2`: GICv3.
const PIDR2: u64 = 0x3B;
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

/// The vCPUs that a GIC serves.
pub trait Vcpus {
    /// How many there are.
    fn count(&self) -> usize;
    /// The part of the GIC that belongs to one of them.
    fn gic(&self, index: usize) -> Option<&VcpuGic>;
}

impl<H: Hw> Vcpus for Domain<H> {
    fn count(&self) -> usize {
        self.vcpus().len()
    }

    fn gic(&self, index: usize) -> Option<&VcpuGic> {
        self.vcpus().get(index).map(|vcpu| &vcpu.gic)
    }
}

/// vCPUs whose pending set has changed, a bit each. The caller notifies them, or an interrupt may come late.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake(u64);

const _: () = assert!(MAX_VCPUS <= 64);

impl Wake {
    /// Nobody.
    pub const NONE: Wake = Wake(0);

    fn add(&mut self, index: usize) {
        self.0 |= 1u64.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
    }

    /// All but the vCPU that runs here, which looks by itself before it goes on.
    pub fn without(self, index: usize) -> Wake {
        let mut own = Wake::NONE;
        own.add(index);
        Wake(self.0 & !own.0)
    }

    /// Tells the kernel about each of them.
    #[inline]
    pub fn notify<H: Hw>(self, kernel: &Kernel<H>, domain: &Domain<H>) {
        let mut left = self.0;
        while left != 0 {
            if let Some(vcpu) = domain.vcpus().get(left.trailing_zeros() as usize) {
                kernel.notify(vcpu);
            }
            left &= left - 1;
        }
    }
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
            domain.dist.raise::<H>(&*domain, intid.0).notify(kernel, &domain);
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
        current.vcpu.gic.maintain::<H>(&current.domain.dist);
    }
}

/// The numbers of the bits set in `mask`.
fn bits(mut mask: u32) -> impl Iterator<Item = u32> {
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
