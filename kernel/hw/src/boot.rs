//! From the entry to the first guest: EL2's own address space, the machine's frames, and all pCPUs.
//!
//! The steps are called by the image's `main` in the order in which they stand here.

use core::sync::atomic::{AtomicBool, Ordering};

use kernel_core::addr::{PAGE_SIZE, Pa};
use kernel_core::context::TrapFrame;
use kernel_core::domain::MAX_DOMAINS;
use kernel_core::exit;
use kernel_core::frame::{FrameEntry, FrameTable};
use kernel_core::hw::MAX_PCPUS;
use kernel_core::machine::{Machine, Range};
use kernel_core::quota::Quota;
use spin::Once;

use crate::crash::{boot_error, or_stop};
use crate::percpu::{self, KERNEL, Percpu};
use crate::stage1::{ADDRESS_BITS, Access, MapError, STAGE1};
use crate::sysreg::{barrier, mrs, msr};
use crate::{console, cpu, fdt, gic, layout, memory, psci, timer, vectors};

/// The machine's frames, once they are known.
static FRAMES: Once<FrameTable> = Once::new();
/// What `frames` says before.
static NO_FRAMES: FrameTable = FrameTable::new(&[], Pa::new(0), &[]);
/// What each domain may have of them.
static QUOTAS: [Quota; MAX_DOMAINS] = [const { Quota::new(0) }; MAX_DOMAINS];
/// Lets the other pCPUs look for guests.
static RELEASED: AtomicBool = AtomicBool::new(false);

unsafe extern "Rust" {
    /// The image's `main`.
    safe fn xenolith_main(fdt: Range) -> !;
}

/// The first Rust code: maps the image and the FDT, and turns the MMU on.
///
/// # Safety
///
/// Called by the entry code alone, on the first pCPU's stack, with the address that the boot loader gave.
pub unsafe extern "C" fn early(fdt: u64) -> ! {
    let Some(blob) = find_fdt(fdt) else { psci::park() };
    if map_image(blob).is_err() || !cpu::has_enough_address_bits() {
        psci::park();
    }
    // SAFETY: the tables map the image, this stack and the FDT at their own addresses.
    unsafe {
        msr!("mair_el2", cpu::MAIR);
        msr!("tcr_el2", cpu::tcr());
        msr!("ttbr0_el2", STAGE1.root());
        // Neither TLBs nor the instruction cache may hold what firmware put there.
        core::arch::asm!("tlbi alle2", "ic iallu", "dsb nsh", "isb", options(nostack, preserves_flags));
        msr!("sctlr_el2", cpu::SCTLR);
    }
    barrier!("isb");
    adopt(&percpu::all()[0]);
    if let Some(uart) = fdt::console(fdt_bytes(blob)) {
        let page = Range { start: uart.page(), size: PAGE_SIZE };
        if STAGE1.map(page, Access::Device).is_ok() {
            console::init(uart);
        }
    }
    xenolith_main(blob)
}

/// Maps what the first steps need.
fn map_image(fdt: Range) -> Result<(), MapError> {
    STAGE1.map(layout::text(), Access::Execute)?;
    STAGE1.map(layout::rodata(), Access::Read)?;
    STAGE1.map(layout::data(), Access::ReadWrite)?;
    layout::stacks().without(&percpu::guard_pages()).try_for_each(|part| STAGE1.map(part, Access::ReadWrite))?;
    STAGE1.map(fdt, Access::Read)
}

/// The FDT's range, by its header; aligned loads, for the MMU is off.
fn find_fdt(at: u64) -> Option<Range> {
    if at == 0 || !at.is_multiple_of(8) {
        return None;
    }
    let words = at as *const u32;
    // SAFETY: the boot protocol says that an FDT of at least a header is at this address.
    let (magic, size) = unsafe { (words.read_volatile(), words.add(1).read_volatile()) };
    Some(Range { start: Pa::new(at), size: fdt::total_size(magic, size)? })
}

fn fdt_bytes(fdt: Range) -> &'static [u8] {
    let length = usize::try_from(fdt.size).unwrap_or(0);
    // SAFETY: `early` mapped these pages read-only for ever, and they are reserved, so nobody gets their frames.
    unsafe { core::slice::from_raw_parts(fdt.start.raw() as *const u8, length) }
}

/// Makes `block` this pCPU's, and sets the registers that hold guests in.
fn adopt(block: &'static Percpu) {
    percpu::adopt(block);
    block.mpidr.store(mrs!("mpidr_el1") & percpu::AFFINITY, Ordering::Relaxed);
    // SAFETY: the table has all sixteen entries.
    unsafe { msr!("vbar_el2", vectors::table()) };
    barrier!("isb");
    cpu::init(block.id);
}

/// Reads the FDT, and maps the GIC, all RAM that is free, and Dom0's image.
pub fn discover(fdt: Range) -> Machine {
    let found = or_stop(fdt::discover(fdt_bytes(fdt), fdt, layout::image()));
    match map_machine(&found) {
        Ok(()) => found,
        Err(MapError::TooHigh) => boot_error(format_args!("FDT: RAM or GIC above {ADDRESS_BITS} bits")),
        Err(MapError::OutOfTables) => boot_error(format_args!("FDT: RAM in too many pieces")),
    }
}

fn map_machine(found: &Machine) -> Result<(), MapError> {
    found.gicr.iter().chain([&found.gicd]).try_for_each(|region| STAGE1.map(*region, Access::Device))?;
    STAGE1.map(found.dom0_image, Access::Read)?;
    found.free().try_for_each(|part| STAGE1.map(part, Access::ReadWrite))
}

/// Builds the frame table, and hands all RAM that is still free to it.
pub fn init_frames(machine: &mut Machine) {
    let (Some(first), Some(last)) = (machine.ram.first(), machine.ram.last()) else {
        boot_error(format_args!("no RAM"));
    };
    let base = first.start;
    let count = (last.end().raw() - base.raw()) / PAGE_SIZE;
    let Some(place) = machine.take(count * size_of::<FrameEntry>() as u64, PAGE_SIZE) else {
        boot_error(format_args!("no room for a table of {count} frames"));
    };
    let length = usize::try_from(count).unwrap_or(0);
    let entries = place.start.raw() as *mut FrameEntry;
    for n in 0..length {
        // SAFETY: the place was free RAM, which is mapped and page-aligned, and is nobody else's from now on.
        unsafe { entries.add(n).write(FrameEntry::default()) };
    }
    // SAFETY: all entries are initialised, and stay.
    let entries: &'static [FrameEntry] = unsafe { core::slice::from_raw_parts(entries, length) };
    let frames = FRAMES.call_once(|| FrameTable::new(entries, base, &QUOTAS));
    machine.free().for_each(|part| frames.release_range(part.start, part.pages()));
}

/// The machine's frames.
#[inline]
pub fn frames() -> &'static FrameTable {
    // A branch that is never taken costs less, in the many places that ask, than a choice between two tables.
    match FRAMES.get() {
        Some(frames) => frames,
        None => no_frames(),
    }
}

#[cold]
#[inline(never)]
fn no_frames() -> &'static FrameTable {
    &NO_FRAMES
}

/// Sets the GIC up, for this pCPU too, and starts the others; they wait for [`run`].
pub fn start_pcpus(found: &Machine) {
    gic::init_distributor(found.gicd);
    let own = percpu::this();
    let mpidr = own.mpidr.load(Ordering::Relaxed);
    if !has_redistributor(own, mpidr, found) {
        boot_error(format_args!("FDT: GICv3: reg: no redistributor of pCPU {mpidr:#x}"));
    }
    init_interrupts();
    let others = found.cpus.iter().filter(|other| **other != mpidr);
    let others = percpu::all().iter().skip(1).zip(others);
    let started = others.filter(|(block, mpidr)| start_pcpu(block, **mpidr, found)).count();
    await_online(1 + started);
    if found.unused_cpus > 0 {
        KERNEL.log(format_args!("{} pCPUs stay off: {MAX_PCPUS} are used at most", found.unused_cpus));
    }
}

/// Finds the redistributor of the pCPU that owns `block`.
fn has_redistributor(block: &Percpu, mpidr: u64, found: &Machine) -> bool {
    let registers = gic::find_redistributor(&found.gicr, mpidr);
    block.redistributor.store(registers.unwrap_or(0), Ordering::Relaxed);
    registers.is_some()
}

fn init_interrupts() {
    gic::init_pcpu();
    percpu::this().online.store(true, Ordering::Release);
}

unsafe extern "C" {
    /// Where PSCI starts a pCPU.
    static secondary_start: u8;
}

/// Starts a pCPU; whether firmware says that it did.
fn start_pcpu(block: &'static Percpu, mpidr: u64, found: &Machine) -> bool {
    if !has_redistributor(block, mpidr, found) {
        KERNEL.log(format_args!("pCPU {mpidr:#x} does not start: FDT: GICv3: reg: no redistributor"));
        return false;
    }
    for (place, value) in block.start.iter().zip([cpu::tcr(), mrs!("ttbr0_el2"), percpu::initial_sp(block.id)]) {
        place.store(value, Ordering::Relaxed);
    }
    let context = core::ptr::from_ref(block) as u64;
    // The other one reads it with its MMU off.
    memory::clean_to_poc(Pa::new(context), size_of::<Percpu>() as u64);
    match psci::cpu_on(mpidr, &raw const secondary_start as u64, context) {
        Ok(()) => true,
        Err(error) => {
            KERNEL.log(format_args!("pCPU {mpidr:#x} does not start: PSCI error {error}"));
            false
        }
    }
}

/// Waits for pCPUs that have been started.
fn await_online(started: usize) {
    // Two seconds are much more than firmware takes, and little for a person who waits for an answer.
    let patience = timer::now() + 2 * u64::from(timer::frequency());
    while gic::online() < started {
        if timer::now() > patience {
            KERNEL.log(format_args!("{} pCPUs do not come up", started - gic::online()));
            return;
        }
    }
}

/// The first Rust code of another pCPU.
///
/// # Safety
///
/// Called by `secondary_start` alone, with the MMU on, on the stack that belongs to `block`.
pub unsafe extern "C" fn secondary(block: &'static Percpu) -> ! {
    adopt(block);
    init_interrupts();
    while !RELEASED.load(Ordering::Acquire) {
        barrier!("wfe");
    }
    enter()
}

/// Lets all pCPUs run guests, this one too.
pub fn run() -> ! {
    RELEASED.store(true, Ordering::Release);
    // The store is visible before the event wakes anyone.
    barrier!("dsb ish");
    barrier!("sev");
    enter()
}

/// Enters this pCPU's first guest.
fn enter() -> ! {
    let frame = percpu::initial_sp(percpu::this().id) as *mut TrapFrame;
    // SAFETY: the stack starts below the frame (`initial_sp`), which nobody else uses; `with_local` names this
    // caller, and no guest has run here, so no entry of the vectors is active.
    unsafe {
        percpu::with_local(|kernel, local| exit::first(kernel, local, &mut *frame));
        vectors::enter_guest(frame)
    }
}
