//! EL2's own translation: virtual is physical, nothing is both writable and executable.
//!
//! The tables come from a pool in the image, since they must exist before any frame can be handed out, and they
//! only grow. Four levels with 40 bits of address: the first one has two entries.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use kernel_core::addr::PAGE_SIZE;
use kernel_core::machine::Range;

use crate::sysreg::barrier;

/// Enough for the image, the FDT, the devices, and sixteen banks whose ends are not aligned to anything.
const TABLES: usize = 40;
/// Bits of physical address that are mapped; the same as the guests' IPAs.
pub const ADDRESS_BITS: u64 = 40;

/// How a range is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Instructions.
    Execute,
    /// Constants.
    Read,
    /// Variables and RAM.
    ReadWrite,
    /// Device registers.
    Device,
}

impl Access {
    /// Lower and upper attributes of a stage-1 descriptor (Arm ARM, D8.3.2): AF, inner shareable, AttrIndx
    /// 0 = normal or 1 = device (see [`crate::cpu::MAIR`]), AP[2] read-only, AP[1] RES1, XN.
    const fn bits(self) -> u64 {
        const AF_SH_AP1: u64 = 1 << 10 | 3 << 8 | 1 << 6;
        const READ_ONLY: u64 = 1 << 7;
        const XN: u64 = 1 << 54;
        match self {
            Access::Execute => AF_SH_AP1 | READ_ONLY,
            Access::Read => AF_SH_AP1 | READ_ONLY | XN,
            Access::ReadWrite => AF_SH_AP1 | XN,
            Access::Device => AF_SH_AP1 | XN | 1 << 2,
        }
    }
}

/// Why a range cannot be mapped, for the person who boots.
const TOO_HIGH: &str = "FDT: RAM or registers above 40 bits";
const OUT_OF_TABLES: &str = "FDT: RAM in too many pieces";

const VALID: u64 = 1;
/// At levels 0 to 2 a table, at level 3 a page.
const TABLE_OR_PAGE: u64 = 1 << 1;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// EL2's tables.
pub static STAGE1: Stage1 =
    Stage1 { tables: [const { [const { AtomicU64::new(0) }; 512] }; TABLES], children: AtomicUsize::new(0) };

/// The tables: index 0 is the root, to which the entry code sets `TTBR0_EL2`. Only the first pCPU adds to them, and atomics make every store whole for walkers;
/// loads and stores of atomics work without an MMU, and a lock would not. Relaxed, since `map` ends with a DSB.
#[repr(C, align(4096))]
pub struct Stage1 {
    tables: [[AtomicU64; 512]; TABLES],
    /// Tables in use besides the root. All zero at the start, so that the pool lies in BSS.
    children: AtomicUsize,
}

impl Stage1 {
    fn root(&self) -> u64 {
        &raw const self.tables as u64
    }

    /// Maps the pages of `range` where nothing is mapped yet; what is mapped stays as it is.
    pub fn map(&self, range: Range, access: Access) -> Result<(), &'static str> {
        let pages = range.to_pages();
        if pages.end().raw() > 1 << ADDRESS_BITS || pages.end() < pages.start {
            return Err(TOO_HIGH);
        }
        self.fill(0, 0, pages.start.raw(), pages.end().raw(), access)?;
        // New entries replace invalid ones, so nothing has to be forgotten; the walkers must see them.
        barrier!("dsb ishst");
        barrier!("isb");
        Ok(())
    }

    /// Fills the entries of a table of `level` that translate `from..to`.
    fn fill(&self, table: usize, level: u32, from: u64, to: u64, access: Access) -> Result<(), &'static str> {
        let size = PAGE_SIZE << (9 * (3 - level));
        let mut at = from;
        while at < to {
            let end = ((at & !(size - 1)) + size).min(to);
            let slot = usize::try_from(at / size % 512).unwrap_or(0);
            let entry = self.tables.get(table).and_then(|table| table.get(slot)).ok_or(OUT_OF_TABLES)?;
            let value = entry.load(Ordering::Relaxed);
            if value & VALID == 0 && level > 0 && end - at == size {
                let leaf = if level == 3 { VALID | TABLE_OR_PAGE } else { VALID };
                entry.store(at | access.bits() | leaf, Ordering::Relaxed);
            } else if value & VALID == 0 {
                let next = self.children.load(Ordering::Relaxed) + 1;
                if next >= TABLES {
                    return Err(OUT_OF_TABLES);
                }
                self.children.store(next, Ordering::Relaxed);
                let address = self.root() + next as u64 * PAGE_SIZE;
                entry.store(address | VALID | TABLE_OR_PAGE, Ordering::Relaxed);
                self.fill(next, level + 1, at, end, access)?;
            } else if value & TABLE_OR_PAGE != 0 && level < 3 {
                let index = (value & ADDRESS).wrapping_sub(self.root()) / PAGE_SIZE;
                self.fill(usize::try_from(index).unwrap_or(TABLES), level + 1, at, end, access)?;
            }
            at = end;
        }
        Ok(())
    }
}
