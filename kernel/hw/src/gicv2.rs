//! The physical GICv2 (Arm IHI 0048B), whose CPU interface and list registers are in memory.
//!
//! What a GICv3 pays for it is nothing. Beside each instruction that names a system register of the GIC stands a detour
//! (`gic_read`, `gic_write`), which the image keeps out of the way: it calls [`access`] with the place of the register that a GICv2 has instead.
//! On pCPUs without the system registers [`install`] puts a branch to its detour over each of them, before any runs.

use core::sync::atomic::Ordering;

use kernel_core::machine::Gicv2;

use crate::sysreg::{barrier, mrs};
use crate::{gic, mmio, percpu};

/// The text of an instruction on a system register of the GIC with its detour. The instruction moves `$value`, an operand of
/// the assembly, to or from the register; `$place` is for [`access`]. The detour uses the stack even where the assembly is
/// said not to: there is no red zone that could suffer.
macro_rules! detour {
    ($instruction:expr, $value:literal, $place:expr) => {
        concat!(
            "2: ",
            $instruction,
            "\n3:\n.pushsection .text.gicv2, \"ax\"\n",
            "4: stp ",
            $value,
            ", x30, [sp, #-16]!\nbl gicv2_detour\n.word ",
            $place,
            "\n",
            "ldr x30, [sp, #8]\nldr ",
            $value,
            ", [sp], #16\nb 3b\n.popsection\n",
            ".pushsection .rodata.gicv2, \"a\"\n.balign 4\n.word 2b - .\n.word 4b - .\n.popsection\n",
        )
    };
}

/// Reads a system register of the GIC, or what a GICv2 has in its place.
macro_rules! gic_read {
    ($name:expr, $place:expr) => {{
        let value: u64;
        // SAFETY: as in `mrs`; a GIC changes no memory.
        unsafe {
            core::arch::asm!(detour!(concat!("mrs {v}, ", $name), "{v}", $place), v = out(reg) value,
                options(nomem, nostack, preserves_flags))
        };
        value
    }};
}

/// Writes a system register of the GIC, or what a GICv2 has in its place. Callers say why it keeps EL2 sound.
macro_rules! gic_write {
    ($name:expr, $place:expr, $value:expr) => {{
        let value: u64 = $value;
        core::arch::asm!(detour!(concat!("msr ", $name, ", {v}"), "{v}", concat!($place, " | 1 << 31")), v = in(reg) value,
            options(nostack, preserves_flags))
    }};
}

pub(crate) use {detour, gic_read, gic_write};

unsafe extern "C" {
    static image_detours_start: [i32; 2];
    static image_detours_end: [i32; 2];
}

/// Whether the GIC of this machine is a GICv2: the pCPUs have no system registers of a GIC (`ID_AA64PFR0_EL1.GIC`).
pub fn is_here() -> bool {
    mrs!("id_aa64pfr0_el1") >> 24 & 0xf == 0
}

/// Makes the image use a GICv2, if that is what there is.
///
/// # Safety
///
/// Called by the first Rust code alone, with the MMU off: afterwards instructions cannot be written.
pub unsafe fn install() {
    let (mut at, end) = (&raw const image_detours_start, &raw const image_detours_end);
    while is_here() && at < end {
        // SAFETY: the linker script gathers the entries between these two places. Each holds the distances from its words to an
        // instruction of ours and to its detour, which is less than 128 MiB away.
        unsafe {
            let [instruction, detour] = at.read();
            let distance = (detour + 4 - instruction).cast_unsigned() >> 2;
            let place = at.byte_offset(instruction as isize).cast_mut().cast::<u32>();
            place.write_volatile(0x1400_0000 | distance & 0x3ff_ffff);
            at = at.add(1);
        }
    }
    barrier!("dsb sy");
}

/// Offsets in the CPU interface, the distributor and the hypervisor's interface (chapters 4 and 5).
const GICC_CTLR: usize = 0;
const GICC_PMR: usize = 4;
const GICD_ITARGETSR: usize = 0x800;
const GICD_SGIR: usize = 0xf00;
/// Which of them a place is in, above the offset.
const GICC: u32 = 1;
const GICH: u32 = 2;
/// In `GICC_IAR`, `GICC_EOIR` and `GICC_DIR`: who has sent an SGI.
const SENDER: u32 = 7 << 10;
/// `GICC_CTLR`: enabled, and priority drop and deactivation apart.
const ENABLE_AND_EOI_MODE: u32 = 1 << 0 | 1 << 9;

fn parts() -> Option<&'static Gicv2> {
    percpu::KERNEL.machine.get()?.gicv2.as_ref()
}

/// The CPU interface of this pCPU, as a bit of a mask of targets: those of its own interrupts are itself. With a single pCPU
/// the registers read as zero.
fn own_mask() -> u8 {
    let mask = (0..8).fold(0, |mask, n| mask | mmio::read32(gic::distributor() + GICD_ITARGETSR + n * 4));
    mask.to_le_bytes().into_iter().fold(0, |mask, byte| mask | byte).max(1)
}

/// Routes all shared interrupts to this pCPU for good, 32 for each word: QEMU 7.2 loses an edge that came while the target was
/// another one, or none.
pub fn route_all(words: usize) {
    for n in 8..words * 8 {
        mmio::write32(gic::distributor() + GICD_ITARGETSR + n * 4, u32::from(own_mask()) * 0x0101_0101);
    }
}

/// Opens the CPU interface of this pCPU.
pub fn open_cpu_interface() {
    let Some(parts) = parts() else { return };
    percpu::this().interface.store(own_mask(), Ordering::Relaxed);
    mmio::write32(mmio::address(parts.cpu.start) + GICC_PMR, 0xff);
    mmio::write32(mmio::address(parts.cpu.start) + GICC_CTLR, ENABLE_AND_EOI_MODE);
}

/// What a detour does: reads the register at `place` (bits 15 to 0 its offset, above them [`GICC`], [`GICH`], or zero for
/// `ICC_SGI1R_EL1`) into `value`, or with bit 31 writes it from there.
pub extern "C" fn access(place: u32, value: &mut u64) {
    let Some(parts) = parts() else { return };
    let (base, offset) = match place >> 16 & 3 {
        GICC => (parts.cpu.start, place & 0xffff),
        GICH => (parts.hypervisor.start, place & 0xffff),
        _ => return send(*value),
    };
    let (part, at) = (place >> 16 & 3, mmio::address(base) + offset as usize);
    let (is_lr, sender) = (part == GICH && offset >= 0x100, &percpu::this().sender);
    if place >> 31 == 0 {
        let read = mmio::read32(at);
        *value = if is_lr { widen(read) } else { u64::from(read) };
        if part == GICC {
            // What has been taken. The end of an SGI, before which nothing else is taken, needs its sender again.
            sender.store(read & SENDER, Ordering::Relaxed);
            *value &= !u64::from(SENDER);
        }
    } else {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "registers of a GICv2 have 32 bits, and so has what they get"
        )]
        let word = if is_lr { narrow(*value) } else { *value as u32 };
        let is_end_of_sgi = part == GICC && word < 16;
        mmio::write32(at, word | if is_end_of_sgi { sender.load(Ordering::Relaxed) } else { 0 });
    }
}

/// `GICH_LR<n>` as `ICH_LR<n>_EL2` has it: bits 31 to 28 hold HW, the group and the state, 27 to 23 the upper part of the
/// priority, 19 to 10 the physical number and 9 to 0 the virtual one. That the end of an SGI is to be told of is left out.
fn widen(lr: u32) -> u64 {
    let lr = u64::from(if lr & 0x3ff < 16 { lr & !(1 << 19) } else { lr });
    (lr >> 28 & 3) << 62 | (lr >> 30 & 3) << 60 | (lr >> 23 & 0x1f) << 51 | (lr >> 10 & 0x3ff) << 32 | lr & 0x3ff
}

/// The reverse.
#[allow(clippy::cast_possible_truncation, reason = "each part is masked to its place in 32 bits")]
fn narrow(lr: u64) -> u32 {
    ((lr >> 60 & 3) << 30 | (lr >> 62) << 28 | (lr >> 51 & 0x1f) << 23 | (lr >> 32 & 0x3ff) << 10 | lr & 0x3ff) as u32
}

/// Sends the SGI that a value of `ICC_SGI1R_EL1` stands for, which is one of ours: to all others, or to one pCPU.
fn send(value: u64) {
    let (sgi, place) = ((value >> 24).to_le_bytes()[0] & 0xf, value & !(0xf << 24));
    let masks = percpu::BLOCKS.iter().filter(|block| place == gic::affinity_of(block)).map(|block| &block.interface);
    let targets = masks.fold(0, |targets, mask| targets | u32::from(mask.load(Ordering::Relaxed)));
    let others = if value >> 40 & 1 != 0 { 1 << 24 } else { 0 };
    mmio::write32(gic::distributor() + GICD_SGIR, others | targets << 16 | u32::from(sgi));
}
