//! From the entry to the first guest: EL2's own address space, the machine's frames, and all pCPUs.
//!
//! The steps are called by the image's `main` in the order in which they stand here.

use core::sync::atomic::Ordering;

use kernel_core::addr::{PAGE_SIZE, Pa};
use kernel_core::domain::MAX_DOMAINS;
use kernel_core::frame::{FrameEntry, FrameTable};
use kernel_core::hw::{Hw, MAX_PCPUS, Registers};
use kernel_core::machine::{Machine, Range};
use kernel_core::quota::Quota;
use smccc::Smc;
use spin::Once;

use crate::crash::{self, or_stop};
use crate::percpu::{self, KERNEL, Percpu};
use crate::stage1::{Access, STAGE1};
use crate::sysreg::mrs;
use crate::{Arm, console, cpu, gic, gicv2};

/// The machine's frames, once they are known.
static FRAMES: Once<FrameTable> = Once::new();
/// What each domain may have of them.
static QUOTAS: [Quota; MAX_DOMAINS] = [const { Quota::new(0) }; MAX_DOMAINS];

unsafe extern "Rust" {
    /// The image's `main`.
    safe fn xenolith_main(fdt: &'static [u8]);
}

// Places in the image, which the linker script marks, and where PSCI starts a pCPU.
unsafe extern "C" {
    static image_start: u8;
    static image_text_end: u8;
    static image_rodata_end: u8;
    static image_stacks_start: u8;
    static image_end: u8;
    static secondary_start: u8;
}

fn range(start: *const u8, end: *const u8) -> Range {
    Range { start: Pa::new(start as u64), size: end as u64 - start as u64 }
}

/// The whole image, with BSS and stacks.
pub fn image() -> Range {
    range(&raw const image_start, &raw const image_end)
}

/// The first Rust code, with the MMU off: maps the image and the FDT.
///
/// # Safety
///
/// Called by the entry code alone, on the first pCPU's stack, with the address that the boot loader gave.
pub unsafe extern "C" fn early(fdt: u64) {
    // SAFETY: this is the first Rust code.
    unsafe { gicv2::install() };
    if find_fdt(fdt).is_none_or(|blob| map_image(place(blob)).is_err()) {
        crash::park();
    }
}

/// A pCPU's first code with the MMU on. The one that comes with the FDT boots the machine.
///
/// # Safety
///
/// Called by the entry code alone, on the stack that belongs to the block in `TPIDR_EL2`.
pub unsafe extern "C" fn enter(fdt: u64) {
    percpu::this().mpidr.store(mrs!("mpidr_el1") & percpu::AFFINITY, Ordering::Relaxed);
    cpu::init();
    Arm::trace_exits(false);
    match find_fdt(fdt) {
        Some(blob) => xenolith_main(blob),
        None => init_interrupts(),
    }
}

/// Maps what the first steps need: instructions, constants, variables, stacks, and the FDT.
fn map_image(fdt: Range) -> Result<(), &'static str> {
    STAGE1.map(range(&raw const image_start, &raw const image_text_end), Access::Execute)?;
    STAGE1.map(range(&raw const image_text_end, &raw const image_rodata_end), Access::Read)?;
    STAGE1.map(range(&raw const image_rodata_end, &raw const image_stacks_start), Access::ReadWrite)?;
    percpu::stacks().try_for_each(|stack| STAGE1.map(stack, Access::ReadWrite))?;
    STAGE1.map(fdt, Access::Read)
}

/// The FDT, by its header (Devicetree 0.4, section 5.2), and no larger than the boot protocol allows.
fn find_fdt(at: u64) -> Option<&'static [u8]> {
    if at == 0 || !at.is_multiple_of(8) {
        return None;
    }
    // SAFETY: the boot protocol says that an FDT of at least a header is at this address; aligned, for the MMU is off.
    let [magic, size] = unsafe { (at as *const [u32; 2]).read_volatile() }.map(u32::from_be);
    if magic != 0xd00d_feed || !(48..=2 << 20).contains(&size) {
        return None;
    }
    // SAFETY: `early` maps these bytes read-only before anybody reads them, and they are reserved for ever.
    Some(unsafe { core::slice::from_raw_parts(at as *const u8, size as usize) })
}

/// Where the FDT lies.
fn place(fdt: &[u8]) -> Range {
    Range { start: Pa::new(fdt.as_ptr() as u64), size: fdt.len() as u64 }
}

/// Finds the console, if the FDT names one.
pub fn find_console(fdt: &[u8]) {
    if let Some(uart) = kernel_fdt::console(fdt)
        && STAGE1.map(Range { start: uart.page(), size: PAGE_SIZE }, Access::Device).is_ok()
    {
        console::init(uart);
    }
}

/// Reads the FDT, and maps the GIC, all RAM that is free, and Dom0's image.
pub fn discover(fdt: &'static [u8]) -> Machine {
    let found = or_stop(kernel_fdt::discover(fdt, place(fdt), image()));
    if found.gicv2.is_some() != gicv2::is_here() {
        crash::boot_error(format_args!("FDT: the GIC is not of the version that the CPUs are made for"));
    }
    let devices = found.gic().map(|region| (region, Access::Device));
    let parts =
        devices.chain([(found.dom0_image, Access::Read)]).chain(found.free().map(|ram| (ram, Access::ReadWrite)));
    parts.for_each(|(part, access)| or_stop(STAGE1.map(part, access)));
    found
}

/// Builds the frame table, and hands all RAM that is still free to it.
pub fn init_frames(machine: &mut Machine) {
    let base = machine.ram.first().map_or(Pa::default(), |bank| bank.start);
    let end = machine.ram.last().map_or(base, |bank| bank.end());
    let count = (end.raw() - base.raw()) / PAGE_SIZE;
    let place = machine.take(count * size_of::<FrameEntry>() as u64, PAGE_SIZE);
    let entries = or_stop(place.ok_or("no RAM for the frame table")).start.raw() as *mut FrameEntry;
    let length = usize::try_from(count).unwrap_or(0);
    for n in 0..length {
        // SAFETY: the place was free RAM, which is mapped and page-aligned, and is nobody else's from now on.
        unsafe { entries.add(n).write(FrameEntry::default()) };
    }
    // SAFETY: all entries are initialised, and stay.
    let entries: &'static [FrameEntry] = unsafe { core::slice::from_raw_parts(entries, length) };
    let frames = FRAMES.call_once(|| FrameTable::new(entries, base, &QUOTAS));
    machine.free().for_each(|part| frames.release_range(part.start, part.size / PAGE_SIZE));
}

/// The machine's frames, which nobody asks for before [`init_frames`].
#[inline]
pub fn frames() -> &'static FrameTable {
    // SAFETY: the boot code calls `init_frames` before it makes Dom0 or starts another pCPU, and asks for no frame before.
    unsafe { FRAMES.get_unchecked() }
}

/// Sets the GIC up, for this pCPU too, and starts the others, one after the other.
pub fn start_pcpus(machine: &Machine) {
    gic::init_distributor();
    init_interrupts();
    let own = percpu::this().mpidr.load(Ordering::Relaxed);
    let others = machine.cpus.iter().filter(|mpidr| **mpidr != own);
    for (block, mpidr) in percpu::BLOCKS.iter().skip(1).zip(others) {
        start_pcpu(block, *mpidr);
    }
    if machine.unused_cpus > 0 {
        KERNEL.log(format_args!("{} pCPUs stay off: {MAX_PCPUS} are used at most", machine.unused_cpus));
    }
}

fn start_pcpu(block: &'static Percpu, mpidr: u64) {
    let (entry, context) = (&raw const secondary_start as u64, core::ptr::from_ref(block) as u64);
    if let Err(error) = smccc::psci::cpu_on::<Smc>(mpidr, entry, context) {
        return KERNEL.log(format_args!("pCPU {mpidr:#x} does not start: {error}"));
    }
    // Two seconds are much more than firmware takes, and little for a person who waits for an answer.
    let patience = Arm::now() + 2 * u64::from(Arm::frequency());
    while !block.online.load(Ordering::Acquire) {
        if Arm::now() > patience {
            return KERNEL.log(format_args!("pCPU {mpidr:#x} does not come up"));
        }
    }
}

/// Sets up this pCPU's part of the GIC; without one it stops.
fn init_interrupts() {
    let own = percpu::this();
    let mpidr = own.mpidr.load(Ordering::Relaxed);
    let regions = KERNEL.machine.get().map_or(&[][..], |machine| &machine.gicr);
    let Some(redistributor) = gic::find_redistributor(regions, mpidr) else {
        KERNEL.log(format_args!("FDT: GIC: reg: no redistributor of pCPU {mpidr:#x}"));
        crash::park()
    };
    own.redistributor.store(redistributor, Ordering::Relaxed);
    gic::init_pcpu();
    own.online.store(true, Ordering::Release);
}
