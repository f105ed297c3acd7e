//! The physical GICv3 (Arm IHI 0069): distributor, redistributors, CPU interface, list registers.
//!
//! Our own since a hypervisor needs what arm-gic 0.10 does not offer: priority drop apart from deactivation, the
//! active state of private interrupts, and list registers. Affinity routing is on; everything is group 1.
//!
//! A GICv2 has most of the same distributor; `gicv2.rs` has what is different. Its redistributors are the distributor, which
//! each pCPU sees with its own private interrupts.

use core::sync::atomic::Ordering;

use hypercall_abi::control::MAX_SPIS;
use kernel_core::exit::TRACE_SGI;
use kernel_core::hw::{IntId, Interrupts, PcpuId};
use kernel_core::machine::Range;

use crate::crash::{self, or_stop};
use crate::gicv2::{self, detour, gic_read, gic_write};
use crate::percpu::{self, Percpu};
use crate::sysreg::{barrier, msr};
use crate::{Arm, mmio};

/// Offsets in the distributor's frame, and in a redistributor's second frame (sections 12.9 and 12.11).
mod reg {
    pub const GICD_CTLR: usize = 0;
    pub const GICD_TYPER: usize = 4;
    pub const IGROUPR: usize = 0x80;
    pub const ISENABLER: usize = 0x100;
    pub const ICENABLER: usize = 0x180;
    pub const ICPENDR: usize = 0x280;
    pub const ISACTIVER: usize = 0x300;
    pub const ICACTIVER: usize = 0x380;
    pub const IPRIORITYR: usize = 0x400;
    pub const ICFGR: usize = 0xc00;
    pub const GICD_IROUTER: usize = 0x6000;
    pub const GICR_TYPER: usize = 8;
    pub const GICR_WAKER: usize = 0x14;
    /// The frame with the SGIs and PPIs.
    pub const SGI_FRAME: usize = 0x1_0000;
}

/// `GICD_CTLR`: register write pending, affinity routing, group 1 enabled (with one or two security states).
const RWP: u32 = 1 << 31;
const ARE_AND_GROUP1: u32 = 1 << 4 | 1 << 1 | 1;
/// A register write that is pending this long never ends; the state machine of the GIC is broken then.
const PATIENCE: u32 = 1 << 20;
/// One priority for all: which of two interrupts comes first is decided by software.
const PRIORITY: u32 = 0xa0a0_a0a0;
/// SGI 0 asks a pCPU to look at its work.
const KICK: IntId = IntId(0);
/// EL2's own private interrupts: maintenance, hypervisor timer, virtual timer (Arm BSA, section 3.8).
const OWN_PPIS: u32 = 1 << 25 | 1 << 26 | 1 << 27;
/// `ICH_HCR_EL2`: list registers work; a maintenance interrupt when at most one of them is in use.
const EN: u64 = 1 << 0;
const UIE: u64 = 1 << 1;

pub fn distributor() -> usize {
    percpu::KERNEL.machine.get().map_or(0, |machine| mmio::address(machine.gicd.start))
}

fn sgi_frame() -> usize {
    percpu::this().redistributor.load(Ordering::Relaxed) + reg::SGI_FRAME
}

/// Resets 32 interrupts: disabled, in group 1, with the one priority, level-sensitive. Most registers have a bit for each,
/// and the other two 8 and 2. Those of a GICv2 are in group 0, which is the only one where firmware keeps no secure one.
fn reset(base: usize, word: usize) {
    for register in [reg::ICENABLER, reg::ICPENDR, reg::ICACTIVER] {
        mmio::write32(base + register + word * 4, u32::MAX);
    }
    mmio::write32(base + reg::IGROUPR + word * 4, if gicv2::is_here() { 0 } else { u32::MAX });
    for n in 0..8 {
        mmio::write32(base + reg::IPRIORITYR + (word * 8 + n) * 4, PRIORITY);
    }
    for n in 0..2 {
        mmio::write32(base + reg::ICFGR + (word * 2 + n) * 4, 0);
    }
}

fn wait_for_write(base: usize, pending: u32) {
    for _ in 0..PATIENCE {
        if mmio::read32(base) & pending == 0 {
            return;
        }
    }
}

/// Sets the distributor up. Shared interrupts stay disabled.
pub fn init_distributor() {
    let base = distributor();
    mmio::write32(base + reg::GICD_CTLR, 0);
    wait_for_write(base + reg::GICD_CTLR, RWP);
    let words = (mmio::read32(base + reg::GICD_TYPER) as usize & 0x1f) + 1;
    (1..words.min(32)).for_each(|word| reset(base, word));
    if gicv2::is_here() {
        gicv2::route_all(words.min(32));
    }
    mmio::write32(base + reg::GICD_CTLR, if gicv2::is_here() { 1 } else { ARE_AND_GROUP1 });
    wait_for_write(base + reg::GICD_CTLR, RWP);
}

/// Finds the redistributor of the pCPU `mpidr` in `regions`.
pub fn find_redistributor(regions: &[Range], mpidr: u64) -> Option<usize> {
    if gicv2::is_here() {
        return distributor().checked_sub(reg::SGI_FRAME);
    }
    // GICR_TYPER holds Aff3 to Aff0 in its upper half.
    let affinity = mpidr >> 8 & 0xff00_0000 | mpidr & 0x00ff_ffff;
    regions.iter().find_map(|region| {
        let end = mmio::address(region.end());
        let typer = |at: &usize| mmio::read64(at + reg::GICR_TYPER);
        // With virtual LPIs (bit 1) there are two more frames; bit 4 marks the last one of a region.
        let next = |at: &usize| {
            let next = at + if typer(at) & 1 << 1 == 0 { 0x2_0000 } else { 0x4_0000 };
            (typer(at) & 1 << 4 == 0 && next < end).then_some(next)
        };
        let first = Some(mmio::address(region.start)).filter(|at| *at < end);
        core::iter::successors(first, next).find(|at| typer(at) >> 32 == affinity)
    })
}

/// Sets up the redistributor and the CPU interface of this pCPU.
pub fn init_pcpu() {
    if gicv2::is_here() {
        init_private();
        gicv2::open_cpu_interface();
    } else {
        let redistributor = percpu::this().redistributor.load(Ordering::Relaxed);
        // Wake: clear ProcessorSleep (bit 1), wait for ChildrenAsleep (bit 2) to follow.
        let waker = redistributor + reg::GICR_WAKER;
        mmio::write32(waker, mmio::read32(waker) & !2);
        wait_for_write(waker, 4);
        init_private();
        wait_for_write(redistributor, 1 << 3);
        open_cpu_interface();
    }
    // Registers of active priorities that a sixth bit brings would have to move with a vCPU too.
    let preemption_bits = gic_read!("ich_vtr_el2", "2 << 16 | 4") >> 26 & 7;
    or_stop(if preemption_bits <= 4 { Ok(()) } else { Err("the GIC has more than 5 preemption bits") });
    for n in 0..Arm::list_registers() {
        Arm::write_lr(n, 0);
    }
    Arm::notify_underflow(false);
}

fn init_private() {
    reset(sgi_frame(), 0);
    mmio::write32(sgi_frame() + reg::ISENABLER, OWN_PPIS | 1 << KICK.0 | 1 << TRACE_SGI.0);
}

fn open_cpu_interface() {
    // SAFETY: the CPU interface only decides which interrupts reach this pCPU; EL2 runs with all of them masked.
    unsafe {
        // System registers instead of memory, no bypass, EL1 may use its own (section 12.2.23).
        msr!("S3_4_C12_C9_5", 0xf);
        barrier!("isb");
        msr!("S3_0_C12_C12_5", 7);
        barrier!("isb");
        // Priority drop and deactivation apart.
        msr!("icc_ctlr_el1", 1 << 1);
        msr!("icc_pmr_el1", 0xff);
        msr!("icc_bpr1_el1", 0);
        msr!("icc_igrpen1_el1", 1);
    }
}

/// Makes all other pCPUs exit to EL2 (bit 40, IRM), if this one can do so yet.
pub fn kick_all_others() {
    if percpu::this().redistributor.load(Ordering::Relaxed) != 0 {
        send_sgi(KICK, 1 << 40);
    }
}

fn send_sgi(IntId(sgi): IntId, targets: u64) {
    // What the other one will look at must be visible before it is told.
    barrier!("dsb ishst");
    // SAFETY: an SGI runs code of ours on the other pCPU when it is ready for it.
    unsafe { gic_write!("icc_sgi1r_el1", "0", targets | u64::from(sgi) << 24) };
    barrier!("isb");
}

/// The value of `ICC_SGI1R_EL1` that sends SGI 0 to a pCPU: Aff3 at 48, range selector at 44, Aff2 at 32, INTID at 24, Aff1
/// at 16, a bit per Aff0 & 15.
pub fn affinity_of(block: &Percpu) -> u64 {
    let mpidr = block.mpidr.load(Ordering::Relaxed);
    let aff0 = mpidr & 0xff;
    let target =
        (mpidr >> 32 & 0xff) << 48 | (aff0 >> 4) << 44 | (mpidr >> 16 & 0xff) << 32 | (mpidr >> 8 & 0xff) << 16;
    target | 1 << (aff0 & 0xf)
}

/// Hands the numbers of all list registers to `$then`: a register's number is part of the instruction, so an index
/// becomes a match.
macro_rules! with_list_registers {
    ($then:ident) => {
        $then! { 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 }
    };
}

impl Interrupts for Arm {
    fn kick(pcpu: PcpuId) {
        Self::send(pcpu, KICK);
    }

    fn send(pcpu: PcpuId, sgi: IntId) {
        if let Some(block) = percpu::BLOCKS.get(usize::from(pcpu.0)) {
            send_sgi(sgi, affinity_of(block));
        }
    }

    fn acknowledge() -> Option<IntId> {
        // The upper part of the number of a GICv2's SGI is who sent it, which belongs to its end.
        let intid = gic_read!("icc_iar1_el1", "1 << 16 | 0xc") & 0xff_ffff;
        // The acknowledge is complete before anything of its handling is (section 4.1.1).
        barrier!("dsb sy");
        if crash::halted() {
            crash::park();
        }
        let intid = u32::try_from(intid).ok().filter(|id| !(1020..=1023).contains(id))?;
        // SAFETY: the interrupt stays active, so it does not come again before it is deactivated.
        unsafe { gic_write!("icc_eoir1_el1", "1 << 16 | 0x10", u64::from(intid)) };
        barrier!("isb");
        Some(IntId(intid))
    }

    fn deactivate(intid: IntId) {
        // SAFETY: lets the interrupt come again.
        unsafe { gic_write!("icc_dir_el1", "1 << 16 | 0x1000", u64::from(intid.0)) };
        barrier!("isb");
    }

    fn configure(intid: IntId, enabled: bool, edge: bool) {
        let IntId(id @ 32..=1019) = intid else { return };
        let (base, id) = (distributor(), id as usize);
        // The upper of its two bits says "edge".
        let (trigger, bit) = (base + reg::ICFGR + id / 16 * 4, 2 << (id % 16 * 2));
        mmio::write32(trigger, mmio::read32(trigger) & !bit | if edge { bit } else { 0 });
        if enabled && gicv2::is_here() {
            // It goes where all go. Where the guest has ended it on another pCPU it is active still to QEMU 7.2.
            mmio::write32(base + reg::ICACTIVER + id / 32 * 4, 1 << (id % 32));
        } else if enabled {
            mmio::write64(base + reg::GICD_IROUTER + id * 8, percpu::this().mpidr.load(Ordering::Relaxed));
        }
        let register = if enabled { reg::ISENABLER } else { reg::ICENABLER };
        mmio::write32(base + register + id / 32 * 4, 1 << (id % 32));
        wait_for_write(base + reg::GICD_CTLR, RWP);
    }

    fn set_active(intid: IntId, active: bool) {
        if let IntId(id @ 0..=31) = intid {
            let register = if active { reg::ISACTIVER } else { reg::ICACTIVER };
            mmio::write32(sgi_frame() + register, 1 << id);
        }
    }

    fn shared_interrupts() -> u32 {
        let words = mmio::read32(distributor() + reg::GICD_TYPER) & 0x1f;
        (words * 32).min(MAX_SPIS)
    }

    fn list_registers() -> usize {
        (gic_read!("ich_vtr_el2", "2 << 16 | 4") & 0x1f) as usize + 1
    }

    fn read_lr(n: usize) -> u64 {
        macro_rules! read {
            ($($n:literal)*) => { match n { $($n => gic_read!(concat!("ich_lr", $n, "_el2"), concat!("2 << 16 | 0x100 + 4 * ", $n)),)* _ => 0 } };
        }
        with_list_registers!(read)
    }

    fn write_lr(n: usize, value: u64) {
        macro_rules! write {
            ($($n:literal)*) => { match n { $($n => gic_write!(concat!("ich_lr", $n, "_el2"), concat!("2 << 16 | 0x100 + 4 * ", $n), value),)* _ => {} } };
        }
        // SAFETY: a list register presents an interrupt to the guest, never to EL2.
        unsafe { with_list_registers!(write) };
    }

    fn empty_lrs() -> u64 {
        gic_read!("ich_elrsr_el2", "2 << 16 | 0x30")
    }

    fn ends_nest() -> bool {
        gic_read!("ich_vmcr_el2", "2 << 16 | 8") & 1 << 9 == 0
    }

    fn notify_underflow(on: bool) {
        // SAFETY: as for list registers.
        unsafe { gic_write!("ich_hcr_el2", "2 << 16", if on { EN | UIE } else { EN }) };
    }
}
