//! Stage 1 of the domain: every address maps to itself, and only what is known is mapped at all.
//!
//! 4 KiB granule, 39 bits, one root at level 1. Our own instead of a paging library's, because it also runs
//! before the MMU is on, where the atomic updates that a library makes are not allowed on real processors.
//! Mapping only ever turns an invalid entry into a valid one, so no TLB invalidation is needed after start.

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::slice;
use critical_section::Mutex;

use crate::addr::IpaRange;
use crate::mmu::{MapError, Memory};

const ENTRIES: usize = 512;
/// Highest address of a 39-bit map, excluded.
const LIMIT: u64 = 1 << 39;
/// Tables that need no page pool: the image, the FDT and the first devices.
const STATIC_TABLES: usize = 14;

#[repr(C, align(4096))]
pub struct Table([UnsafeCell<u64>; ENTRIES]);

// SAFETY: entries are only touched by `map_range`, inside a critical section or before interrupts exist.
unsafe impl Sync for Table {}

impl Table {
    #[expect(clippy::declare_interior_mutable_const, reason = "a template to fill arrays with")]
    const EMPTY: Self = Self([const { UnsafeCell::new(0) }; ENTRIES]);
}

/// Attribute 0: device nGnRE; attribute 1: normal, write-back, allocating.
pub const MAIR: u64 = 0xFF04;
/// T0SZ = 25; walks cacheable (IRGN0, ORGN0) and inner shareable (SH0); EPD1: nothing in the upper half. The size of
/// physical addresses is the processor's to say.
pub const TCR: u64 = 25 | (1 << 8) | (1 << 10) | (3 << 12) | (1 << 23);
/// M, SA, C, I and WXN on top of the bits that read as one.
pub const SCTLR: u64 = 0x30D0_0800 | 1 | (1 << 2) | (1 << 3) | (1 << 12) | (1 << 19);

pub static ROOT: Table = Table::EMPTY;
static POOL: [Table; STATIC_TABLES] = [Table::EMPTY; STATIC_TABLES];
static POOL_USED: Mutex<Cell<usize>> = Mutex::new(Cell::new(0));

unsafe extern "C" {
    static __image_start: u8;
    static __rodata_start: u8;
    static __data_start: u8;
    static __guard_start: u8;
    static __stack_start: u8;
    static __image_end: u8;
}

/// Why the device tree that the loader passed cannot be used.
#[derive(Clone, Copy, Debug)]
pub enum FdtProblem {
    /// Not a multiple of 8, or null.
    Address,
    /// The magic number is missing.
    Magic,
    /// Larger than the boot protocol's 2 MiB.
    Size,
}

impl core::fmt::Display for FdtProblem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Address => "bad address",
            Self::Magic => "bad magic number",
            Self::Size => "bad size",
        })
    }
}

/// First address of the image.
pub fn image_base() -> u64 {
    (&raw const __image_start) as u64
}

/// The memory of the image, stacks and what is not in the file included.
pub fn image_range() -> IpaRange {
    range(&raw const __image_start, &raw const __image_end)
}

/// Whether `length` bytes at `address` are on the stack, or on that of faults.
pub fn on_stack(address: u64, length: u64) -> bool {
    let stack = range(&raw const __stack_start, &raw const __image_end);
    #[cfg(feature = "smp")]
    if super::smp::on_stack(address, length) {
        return true;
    }
    stack.start().raw() <= address && address.checked_add(length).is_some_and(|end| end <= stack.end().raw())
}

fn range(start: *const u8, end: *const u8) -> IpaRange {
    let start_at = start as u64;
    IpaRange::new(crate::addr::Ipa::new(start_at), end as u64 - start_at).unwrap_or_else(|| unreachable!())
}

/// Maps the image and the FDT, turns the MMU and the caches on, and returns the FDT's bytes.
///
/// # Errors
/// What is wrong with the FDT; the MMU is on even then, so that it can be reported.
///
/// # Safety
/// To be called once, first, with the MMU off and interrupts masked; `fdt` is what the loader passed in x0.
pub unsafe fn turn_on(fdt: u64) -> Result<&'static [u8], FdtProblem> {
    // SAFETY: with the MMU off every address can be read, and the boot protocol promises a FDT at this one.
    let size = unsafe { fdt_size(fdt) };
    let maps = [
        (range(&raw const __image_start, &raw const __rodata_start), Memory::Code),
        (range(&raw const __rodata_start, &raw const __data_start), Memory::Constant),
        (range(&raw const __data_start, &raw const __guard_start), Memory::Normal),
        (range(&raw const __stack_start, &raw const __image_end), Memory::Normal),
    ];
    for (region, kind) in maps {
        map_range(region, kind).unwrap_or_else(|_| super::cpu::halt());
    }
    if let Ok(size) = size {
        let region = IpaRange::new(crate::addr::Ipa::new(fdt), size as u64).map(IpaRange::page_cover);
        region
            .map_or(Err(MapError::OutOfRange), |r| map_range(r, Memory::Constant))
            .unwrap_or_else(|_| super::cpu::halt());
    }
    // SAFETY: the tables map the image with the code that runs now and the stack, all to themselves.
    unsafe { enable() };
    let size = size?;
    // SAFETY: mapped read-only above, never unmapped or handed out again (`boot` keeps it out of free RAM).
    Ok(unsafe { slice::from_raw_parts(fdt as *const u8, size) })
}

/// # Safety
/// The address must be readable if it is aligned and not null.
unsafe fn fdt_size(fdt: u64) -> Result<usize, FdtProblem> {
    if fdt == 0 || !fdt.is_multiple_of(8) {
        return Err(FdtProblem::Address);
    }
    // SAFETY: readable, says the caller; aligned as just checked.
    let [magic, size] = unsafe { (fdt as *const [u32; 2]).read_volatile() };
    if u32::from_be(magic) != 0xD00D_FEED {
        return Err(FdtProblem::Magic);
    }
    let size = u32::from_be(size) as usize;
    if !(40..=0x20_0000).contains(&size) {
        return Err(FdtProblem::Size);
    }
    Ok(size)
}

/// # Safety
/// The tables must map the running code, its data and its stack to themselves.
unsafe fn enable() {
    let image = image_range();
    let mut line = image.start().raw() & !63;
    while line < image.end().raw() {
        // SAFETY: with the MMU off, everything was written past the caches; what they hold of the image is
        // stale. Under a hypervisor the instruction cleans as well, so nothing can be lost.
        unsafe { asm!("dc ivac, {}", in(reg) line, options(nostack, preserves_flags)) };
        line += 64;
    }
    let pa_range: u64;
    // SAFETY: reading an ID register has no effect.
    unsafe { asm!("mrs {}, id_aa64mmfr0_el1", out(reg) pa_range, options(nostack, nomem, preserves_flags)) };
    // SAFETY: the caller answers for the tables; the order is the architecture's: tables visible, registers
    // set, stale translations and instructions gone, then the MMU.
    unsafe {
        asm!(
            "dsb sy",
            "msr mair_el1, {mair}",
            "msr tcr_el1, {tcr}",
            "msr ttbr0_el1, {root}",
            "isb",
            "tlbi vmalle1",
            "ic iallu",
            "dsb nsh",
            "isb",
            "msr sctlr_el1, {sctlr}",
            "isb",
            mair = in(reg) MAIR,
            tcr = in(reg) TCR | ((pa_range & 7).min(5) << 32),
            root = in(reg) (&raw const ROOT) as u64,
            sctlr = in(reg) SCTLR,
            options(nostack, preserves_flags),
        );
    }
}

/// Maps a page-aligned range to itself.
///
/// # Errors
/// See [`MapError`]; entries written before the error stay.
pub fn map_range(range: IpaRange, kind: Memory) -> Result<(), MapError> {
    let (start, end) = (range.start().raw(), range.end().raw());
    if start % 4096 != 0 || end % 4096 != 0 || end > LIMIT {
        return Err(MapError::OutOfRange);
    }
    let result = critical_section::with(|_| map_level(&ROOT, 1, start, end, leaf(kind)));
    // SAFETY: makes the new entries visible to the table walker before what follows uses them.
    unsafe { asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
    result
}

/// Attribute bits of a leaf entry, without its type: access flag, shareability, rights.
fn leaf(kind: Memory) -> u64 {
    const ACCESSED: u64 = 1 << 10;
    const INNER: u64 = 3 << 8;
    const NORMAL: u64 = 1 << 2;
    const READ_ONLY: u64 = 1 << 7;
    const NO_EXEC: u64 = 3 << 53;
    const NO_EXEC_EL0: u64 = 1 << 54;
    match kind {
        Memory::Code => ACCESSED | INNER | NORMAL | READ_ONLY | NO_EXEC_EL0,
        Memory::Constant => ACCESSED | INNER | NORMAL | READ_ONLY | NO_EXEC,
        Memory::Normal => ACCESSED | INNER | NORMAL | NO_EXEC,
        Memory::Device => ACCESSED | NO_EXEC,
    }
}

fn map_level(table: &Table, level: u32, start: u64, end: u64, attributes: u64) -> Result<(), MapError> {
    const VALID: u64 = 1;
    const TABLE_OR_PAGE: u64 = 2;
    const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;
    let size = 1u64 << (12 + 9 * (3 - level));
    let page = if level == 3 { TABLE_OR_PAGE } else { 0 };
    let mut at = start;
    while at < end {
        let next = ((at / size + 1) * size).min(end);
        let entry = &table.0[crate::addr::index(at / size) % ENTRIES];
        // SAFETY: `map_range` is the only accessor and excludes itself.
        let old = unsafe { entry.get().read_volatile() };
        let new = at | attributes | page | VALID;
        if old & VALID == 0 && next - at == size {
            // SAFETY: as above.
            unsafe { entry.get().write_volatile(new) };
        } else if old & VALID == 0 {
            let below = new_table()?;
            map_level(below, level + 1, at, next, attributes)?;
            // SAFETY: as above; the table below is filled before it is linked, and the barrier keeps that order.
            unsafe {
                asm!("dmb ishst", options(nostack, preserves_flags));
                entry.get().write_volatile(core::ptr::from_ref(below) as u64 | TABLE_OR_PAGE | VALID);
            }
        } else if level < 3 && old & TABLE_OR_PAGE != 0 {
            // SAFETY: a valid table entry holds the address of a `Table` that lives for ever and is mapped.
            let below = unsafe { &*((old & ADDRESS) as *const Table) };
            map_level(below, level + 1, at, next, attributes)?;
        } else if (old ^ attributes) & !ADDRESS & !3 != 0 {
            return Err(MapError::Conflict);
        }
        at = next;
    }
    Ok(())
}

fn new_table() -> Result<&'static Table, MapError> {
    let used = critical_section::with(|cs| {
        let used = POOL_USED.borrow(cs);
        used.replace(used.get() + 1)
    });
    if let Some(table) = POOL.get(used) {
        return Ok(table);
    }
    let page = crate::pages::Page::new().ok_or(MapError::OutOfTables)?;
    // SAFETY: the page is zeroed, mapped, aligned, and given up for ever by the leak.
    Ok(unsafe { &*(page.leak().raw() as *const Table) })
}
