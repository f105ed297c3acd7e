//! Where things lie in a guest's physical address space: Xen's Arm guest layout, so that existing guests fit.
//!
//! The fixed addresses are those of Xen public/arch-arm.h. Kernel, initrd and device tree are placed by the rules of
//! Xen's domain builder: the two modules 128 MiB into RAM when they fit there, else at the top of the first bank, else
//! below the kernel. Where Xen would give up, they may share the kernel's last 2 MiB, for guests smaller than that.

use alloc::vec::Vec;
use core::fmt;

use hypercall_abi::arm;
use hypercall_abi::ids::Gfn;

use crate::addr::{Ipa, Region, align_up};

/// First RAM bank (`GUEST_RAM0_BASE`).
pub const RAM0_BASE: Ipa = Ipa::new(arm::GUEST_RAM0_BASE);
/// Room for the first bank: 3 GiB.
pub const RAM0_SIZE: u64 = arm::GUEST_RAM0_SIZE;
/// Second RAM bank (`GUEST_RAM1_BASE`).
pub const RAM1_BASE: Ipa = Ipa::new(arm::GUEST_RAM1_BASE);
/// Room for the second bank: 1016 GiB.
pub const RAM1_SIZE: u64 = arm::GUEST_RAM1_SIZE;
/// Where the guest may map its grant table.
pub const GRANT_TABLE: Region = Region::clamped(Ipa::new(arm::GUEST_GNTTAB_BASE), arm::GUEST_GNTTAB_SIZE);
/// Base of the magic pages.
pub const MAGIC_BASE: Ipa = Ipa::new(arm::GUEST_MAGIC_BASE);
/// GICv3 distributor.
pub const GICD: Region = Region::clamped(Ipa::new(arm::GUEST_GICV3_GICD_BASE), arm::GUEST_GICV3_GICD_SIZE);
/// GICv3 redistributors.
pub const GICR: Region = Region::clamped(Ipa::new(arm::GUEST_GICV3_GICR0_BASE), arm::GUEST_GICV3_GICR0_SIZE);
/// GICv2 distributor.
pub const GICV2_GICD: Region = Region::clamped(Ipa::new(arm::GUEST_GICV3_GICD_BASE), arm::GUEST_GICD_SIZE);
/// GICv2 CPU interface.
pub const GICV2_GICC: Region = Region::clamped(Ipa::new(arm::GUEST_GICC_BASE), arm::GUEST_GICC_SIZE);
/// The emulated PL011.
pub const VPL011: Region = Region::clamped(Ipa::new(arm::GUEST_PL011_BASE), arm::GUEST_PL011_SIZE);
/// Bits of a guest-physical address: what stage 2 translates.
pub const GUEST_PHYS_BITS: u32 = 40;

/// Page size of the guest ABI.
pub const PAGE: u64 = 4096;
/// An arm64 `Image` is placed `text_offset` above a multiple of this (Linux Documentation/arm64/booting).
pub const KERNEL_ALIGN: u64 = 2 << 20;
/// Modules go here when RAM reaches that far.
const MODULES_OFFSET: u64 = 128 << 20;

/// The interrupt controller that a guest sees, which is that of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GicVersion {
    /// GICv2.
    V2,
    /// GICv3.
    V3,
}

impl GicVersion {
    /// The version that the hypervisor gives as a number.
    pub const fn from_number(number: u32) -> Self {
        if number == 2 { Self::V2 } else { Self::V3 }
    }

    /// libxl's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V3 => "v3",
        }
    }
}

/// One of the pages that the toolstack shares with the guest, by its place behind [`MAGIC_BASE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MagicPage {
    /// PV console ring.
    Console = 0,
    /// XenStore ring.
    Store = 1,
    /// Memory access ring, unused but populated as Xen does.
    MemAccess = 2,
    /// Where Xen has the ring behind the emulated PL011; unused but populated.
    Vuart = 3,
}

impl MagicPage {
    /// How many there are; all are populated.
    pub const COUNT: u64 = 4;

    /// The page's address.
    pub const fn ipa(self) -> Ipa {
        Ipa::new(MAGIC_BASE.get() + self as u64 * PAGE)
    }

    /// The page's frame number, as HVM parameters and XenStore give it.
    pub const fn gfn(self) -> Gfn {
        Gfn::of_ipa(self.ipa().get())
    }
}

/// Why a guest cannot be laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutError {
    /// Kernel, initrd and device tree do not fit in RAM together.
    TooLittleMemory {
        /// MiB that the domain has.
        memory_mib: u64,
        /// MiB that it needs at least.
        needed_mib: u64,
    },
    /// More memory than the two banks can hold.
    TooMuchMemory {
        /// MiB asked for.
        memory_mib: u64,
    },
    /// The kernel wants to lie where a guest has no RAM.
    KernelOutsideRam(Region),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLittleMemory { memory_mib, needed_mib } => write!(
                f,
                "key 'memory': {memory_mib} MiB is too little for kernel, ramdisk and device tree, which need {needed_mib} MiB"
            ),
            Self::TooMuchMemory { memory_mib } => {
                write!(f, "key 'memory': {memory_mib} MiB is more than a guest can address")
            }
            Self::KernelOutsideRam(region) => {
                write!(f, "key 'kernel': segment at {region} lies outside guest RAM, which starts at {RAM0_BASE}")
            }
        }
    }
}

impl core::error::Error for LayoutError {}

/// RAM banks of a guest with `memory_mib` MiB: one, or two when the first is full.
///
/// # Errors
/// More than both banks hold.
pub fn ram_banks(memory_mib: u64) -> Result<Vec<Region>, LayoutError> {
    let too_much = LayoutError::TooMuchMemory { memory_mib };
    let size = memory_mib.checked_mul(1 << 20).filter(|&size| size <= RAM0_SIZE + RAM1_SIZE).ok_or(too_much)?;
    let mut banks = Vec::with_capacity(2);
    banks.push(Region::clamped(RAM0_BASE, size.min(RAM0_SIZE)));
    if size > RAM0_SIZE {
        banks.push(Region::clamped(RAM1_BASE, size - RAM0_SIZE));
    }
    Ok(banks)
}

/// Unused stretches of the bank areas, 2 MiB aligned and at least 64 MiB long, that a guest may map foreign pages
/// into (the "extended regions" of Linux's xen binding).
pub fn extended_regions(banks: &[Region]) -> Vec<Region> {
    const LEAST: u64 = 64 << 20;
    let areas = [(RAM0_BASE, RAM0_SIZE), (RAM1_BASE, RAM1_SIZE)];
    let mut regions = Vec::new();
    for (index, (base, room)) in areas.into_iter().enumerate() {
        let used = banks.get(index).map_or(0, |bank| bank.size());
        let Some(start) = align_up(base.get().saturating_add(used), KERNEL_ALIGN) else {
            continue;
        };
        let end = base.get().saturating_add(room).min(1 << GUEST_PHYS_BITS);
        let size = end.saturating_sub(start);
        if size >= LEAST {
            regions.push(Region::clamped(Ipa::new(start), size));
        }
    }
    regions
}

/// Where everything of one guest lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// RAM, one or two banks.
    pub banks: Vec<Region>,
    /// The kernel with its uninitialised data.
    pub kernel: Region,
    /// The initrd.
    pub initrd: Option<Region>,
    /// The device tree.
    pub dtb: Region,
}

/// Lays out a guest of `memory_mib` MiB whose kernel occupies `kernel`. Sizes are in bytes.
///
/// # Errors
/// Too little or too much memory, or a kernel outside RAM.
pub fn place(memory_mib: u64, kernel: Region, initrd_size: Option<u64>, dtb_size: u64) -> Result<Layout, LayoutError> {
    let banks = ram_banks(memory_mib)?;
    let bank0 = banks.first().copied().unwrap_or_default();
    let room = Region::clamped(RAM0_BASE, RAM0_SIZE);
    if !room.contains(kernel) {
        return Err(LayoutError::KernelOutsideRam(kernel));
    }
    let initrd = initrd_size.filter(|&size| size != 0);
    let modules = module_sizes(initrd, dtb_size);
    let base = modules.and_then(|(initrd, dtb)| Some((module_base(bank0, kernel, initrd.checked_add(dtb)?)?, initrd)));
    let Some((base, initrd_room)) = base else {
        return Err(LayoutError::TooLittleMemory { memory_mib, needed_mib: needed_mib(kernel, initrd, dtb_size) });
    };
    Ok(Layout {
        banks,
        kernel,
        initrd: initrd.map(|size| Region::clamped(Ipa::new(base), size)),
        dtb: Region::clamped(Ipa::new(base.saturating_add(initrd_room)), dtb_size),
    })
}

/// Sizes of initrd and device tree in whole pages.
fn module_sizes(initrd: Option<u64>, dtb: u64) -> Option<(u64, u64)> {
    Some((align_up(initrd.unwrap_or(0), PAGE)?, align_up(dtb, PAGE)?))
}

/// Where the modules start, or `None` when they fit nowhere.
fn module_base(bank: Region, kernel: Region, size: u64) -> Option<u64> {
    if !bank.contains(kernel) {
        return None;
    }
    let kernel_end = align_up(kernel.end().get(), KERNEL_ALIGN)?;
    let preferred = bank.start().get() + MODULES_OFFSET;
    let top = bank.end().get().checked_sub(size).map(|base| base & !(PAGE - 1));
    let below = kernel.start().get().checked_sub(size).map(|base| base & !(PAGE - 1));
    match (top, below) {
        (Some(top), _) if top >= preferred && kernel_end <= preferred => Some(preferred),
        (Some(top), _) if top >= kernel_end => Some(top),
        (_, Some(below)) if below >= bank.start().get() => Some(below),
        (Some(top), _) if top >= kernel.end().get() => Some(top),
        _ => None,
    }
}

/// The least `memory` that would do: kernel from the start of RAM, modules behind it.
fn needed_mib(kernel: Region, initrd: Option<u64>, dtb: u64) -> u64 {
    let kernel_end = align_up(kernel.end().get(), PAGE).unwrap_or(u64::MAX);
    let (initrd, dtb) = module_sizes(initrd, dtb).unwrap_or((u64::MAX, 0));
    let bytes = kernel_end.saturating_sub(RAM0_BASE.get()).saturating_add(initrd).saturating_add(dtb);
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests;
