//! The machine that a guest sees: addresses, interrupts and the calling convention (Xen public/arch-arm.h).
//!
//! A guest reads these from its device tree; the constants are for those who build it.

/// `XEN_HYPERCALL_TAG`: immediate of the `HVC` instruction of a hypercall. The number is in x16, arguments in
/// x0 to x4, the result in x0. Immediate 0 is SMCCC.
pub const HYPERCALL_TAG: u16 = 0xEA1;

/// `GUEST_VIRTIO_MMIO_BASE`.
pub const GUEST_VIRTIO_MMIO_BASE: u64 = 0x0200_0000;
/// `GUEST_VIRTIO_MMIO_SIZE`.
pub const GUEST_VIRTIO_MMIO_SIZE: u64 = 0x0010_0000;
/// `GUEST_GICV3_GICD_BASE`: the distributor.
pub const GUEST_GICV3_GICD_BASE: u64 = 0x0300_1000;
/// `GUEST_GICV3_GICD_SIZE`.
pub const GUEST_GICV3_GICD_SIZE: u64 = 0x0001_0000;
/// `GUEST_GICC_BASE`: the CPU interface of a GICv2, whose distributor is where a GICv3 has it.
pub const GUEST_GICC_BASE: u64 = 0x0300_2000;
/// `GUEST_GICC_SIZE`.
pub const GUEST_GICC_SIZE: u64 = 0x0000_2000;
/// `GUEST_GICD_SIZE`: bytes of a GICv2's distributor.
pub const GUEST_GICD_SIZE: u64 = 0x0000_1000;
/// `GUEST_GICV3_GICR0_BASE`: the redistributors, one after the other.
pub const GUEST_GICV3_GICR0_BASE: u64 = 0x0302_0000;
/// `GUEST_GICV3_GICR0_SIZE`: room for 128 of them.
pub const GUEST_GICV3_GICR0_SIZE: u64 = 0x0100_0000;
/// Bytes of one redistributor: its RD and SGI frames.
pub const GICV3_GICR_STRIDE: u64 = 0x0002_0000;
/// `GUEST_ACPI_BASE`.
pub const GUEST_ACPI_BASE: u64 = 0x2000_0000;
/// `GUEST_ACPI_SIZE`.
pub const GUEST_ACPI_SIZE: u64 = 0x0200_0000;
/// `GUEST_PL011_BASE`: the emulated UART, when the domain has one.
pub const GUEST_PL011_BASE: u64 = 0x2200_0000;
/// `GUEST_PL011_SIZE`.
pub const GUEST_PL011_SIZE: u64 = 0x0000_1000;
/// `GUEST_GNTTAB_BASE`: free space to map the grant table at.
pub const GUEST_GNTTAB_BASE: u64 = 0x3800_0000;
/// `GUEST_GNTTAB_SIZE`.
pub const GUEST_GNTTAB_SIZE: u64 = 0x0100_0000;
/// `GUEST_MAGIC_BASE`: the pages of console and store.
pub const GUEST_MAGIC_BASE: u64 = 0x3900_0000;
/// `GUEST_MAGIC_SIZE`.
pub const GUEST_MAGIC_SIZE: u64 = 0x0100_0000;
/// Offset in pages of the console ring in the magic region (Xen tools/libs/guest/xg_dom_arm.c).
pub const MAGIC_CONSOLE_PAGE: u64 = 0;
/// Offset in pages of the XenStore ring in the magic region (Xen tools/libs/guest/xg_dom_arm.c).
pub const MAGIC_XENSTORE_PAGE: u64 = 1;
/// `GUEST_RAM0_BASE`: the first bank of RAM.
pub const GUEST_RAM0_BASE: u64 = 0x4000_0000;
/// `GUEST_RAM0_SIZE`: most RAM in the first bank, 3 GiB.
pub const GUEST_RAM0_SIZE: u64 = 0xC000_0000;
/// `GUEST_RAM1_BASE`: the second bank of RAM.
pub const GUEST_RAM1_BASE: u64 = 0x02_0000_0000;
/// `GUEST_RAM1_SIZE`: most RAM in the second bank, 1016 GiB.
pub const GUEST_RAM1_SIZE: u64 = 0xFE_0000_0000;
/// `GUEST_MAX_VCPUS`.
pub const GUEST_MAX_VCPUS: u32 = 128;

/// Affinity of a vCPU as in `MPIDR_EL1`: 16 to a cluster, as Xen numbers them (`vcpuid_to_vaffinity`), so that one write
/// of `ICC_SGI1R_EL1` can name each.
pub const fn vcpu_affinity(index: u32) -> u32 {
    (index & 0xF) | (index >> 4 & 0xFF) << 8
}

/// The vCPU with this affinity, whether it exists or not; `None` if there cannot be one.
pub const fn vcpu_of_affinity(affinity: u64) -> Option<u32> {
    let [aff0, aff1, ..] = affinity.to_le_bytes();
    let index = (aff1 as u32) << 4 | aff0 as u32;
    if vcpu_affinity(index) as u64 == affinity { Some(index) } else { None }
}

/// `GUEST_TIMER_VIRT_PPI`: interrupt of the virtual timer.
pub const GUEST_TIMER_VIRT_PPI: u32 = 27;
/// `GUEST_TIMER_PHYS_S_PPI`: interrupt of the secure physical timer; named in the device tree only.
pub const GUEST_TIMER_PHYS_S_PPI: u32 = 29;
/// `GUEST_TIMER_PHYS_NS_PPI`: interrupt of the physical timer.
pub const GUEST_TIMER_PHYS_NS_PPI: u32 = 30;
/// `GUEST_EVTCHN_PPI`: interrupt that announces events; level, active low.
pub const GUEST_EVTCHN_PPI: u32 = 31;
/// `GUEST_VPL011_SPI`: interrupt of the emulated UART.
pub const GUEST_VPL011_SPI: u32 = 32;

/// `PSR_GUEST64_INIT`: processor state of a new 64-bit vCPU: EL1h, all interrupts masked.
pub const PSR_GUEST64_INIT: u64 = 0x1C5;
/// `SCTLR_GUEST_INIT`: SCTLR_EL1 of a new vCPU: MMU and caches off.
pub const SCTLR_GUEST_INIT: u64 = 0x00C5_0078;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vcpu_has_an_affinity_of_its_own_and_others_are_nobodys() {
        for n in 0..GUEST_MAX_VCPUS {
            assert_eq!(vcpu_of_affinity(vcpu_affinity(n).into()), Some(n));
        }
        assert_eq!(vcpu_affinity(18), 0x102);
        for nobody in [0x10, 0xFF, 1 << 16, 1 << 31, 1 << 32, 1 << 40, u64::MAX] {
            assert_eq!(vcpu_of_affinity(nobody), None, "{nobody:#x}");
        }
    }
}
