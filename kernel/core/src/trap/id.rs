//! ID registers as a guest reads them: what this pCPU has, less what is not virtualised.
//!
//! A field that a new revision of the architecture adds must read as zero until somebody has thought about it, so
//! each register lists the fields that pass. Fields are 4 bits wide and named by their lowest bit (Arm ARM
//! DDI 0487, section D24.2).

use spin::Once;

use super::syndrome::encoding;
use crate::hw::Hw;

mod name {
    use super::encoding;
    pub(super) const PFR0_32: u32 = encoding(3, 0, 0, 1, 0);
    pub(super) const PFR1_32: u32 = encoding(3, 0, 0, 1, 1);
    pub(super) const DFR0_32: u32 = encoding(3, 0, 0, 1, 2);
    pub(super) const AFR0_32: u32 = encoding(3, 0, 0, 1, 3);
    pub(super) const PFR2_32: u32 = encoding(3, 0, 0, 3, 4);
    pub(super) const DFR1_32: u32 = encoding(3, 0, 0, 3, 5);
    pub(super) const PFR0: u32 = encoding(3, 0, 0, 4, 0);
    pub(super) const PFR1: u32 = encoding(3, 0, 0, 4, 1);
    pub(super) const DFR0: u32 = encoding(3, 0, 0, 5, 0);
    pub(super) const ISAR0: u32 = encoding(3, 0, 0, 6, 0);
    pub(super) const ISAR1: u32 = encoding(3, 0, 0, 6, 1);
    pub(super) const ISAR2: u32 = encoding(3, 0, 0, 6, 2);
    pub(super) const MMFR0: u32 = encoding(3, 0, 0, 7, 0);
    pub(super) const MMFR1: u32 = encoding(3, 0, 0, 7, 1);
    pub(super) const MMFR2: u32 = encoding(3, 0, 0, 7, 2);
}

/// The fields that start at these bits.
const fn fields(starts: &[u32]) -> u64 {
    let mut mask = 0;
    let mut i = 0;
    while i < starts.len() {
        mask |= 0xF << starts[i];
        i += 1;
    }
    mask
}

/// EL0 in the states it has, FP, SIMD, DIT, CSV3.
const PFR0: u64 = fields(&[0, 16, 20, 48, 60]);
/// `EL1`: AArch64 only.
const EL1_64: u64 = 1 << 4;
/// `CSV2`: 1 at most, since 2 announces `SCXTNUM_EL1`, which is not switched.
const CSV2_SHIFT: u32 = 56;
/// `GIC`: the system registers of GICv3.
const GIC_V3: u64 = 1 << 24;
/// BTI, SSBS.
const PFR1: u64 = fields(&[0, 4]);
/// Debug version, numbers of breakpoints, watchpoints and context breakpoints, double lock.
const DFR0: u64 = fields(&[0, 12, 20, 28, 36]);
/// AES, SHA1, SHA2, CRC32, atomics, RDM, SHA3, SM3, SM4, dot product, FHM, flag manipulation, TLB ranges, random.
const ISAR0: u64 = fields(&[4, 8, 12, 16, 20, 28, 32, 36, 40, 44, 48, 52, 56, 60]);
/// DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, SPECRES, BF16, DGH, I8MM. Not the four of pointer authentication.
const ISAR1: u64 = fields(&[0, 12, 16, 20, 32, 36, 40, 44, 48, 52]);
/// RPRES, BC, CLRBHB.
const ISAR2: u64 = fields(&[4, 20, 28]);
/// ASID bits, endianness at EL1 and EL0, granules at stage 1, ExS. The PA range is limited apart.
const MMFR0: u64 = fields(&[4, 8, 16, 20, 24, 28, 44]);
/// `PARange` of 40 bits, the size of the IPA space.
const PA_40_BITS: u64 = 2;
/// Access flag and dirty state, HPDS, PAN, SError of speculative reads, ETS, alternate FP, intermediate caching.
const MMFR1: u64 = fields(&[0, 12, 20, 24, 36, 44, 48]);
/// CnP, UAO, LSM, VA range, CCIDX, small tables, atomics, IDS, TTL, BBM, E0PD.
const MMFR2: u64 = fields(&[0, 4, 8, 16, 20, 28, 32, 36, 48, 52, 60]);

/// The identification registers with op1 = 0, which say the same on all pCPUs: worked out once, on the pCPU where a
/// guest first reads one, so that a vCPU that moves finds no other machine.
#[derive(Debug, Default)]
pub struct IdRegisters(Once<[u64; 64]>);

impl IdRegisters {
    /// Registers that nobody has read yet.
    pub const fn new() -> Self {
        IdRegisters(Once::new())
    }

    /// The value of an identification register (op0 = 3, CRn = 0) for a guest.
    #[inline]
    pub(super) fn read<H: Hw>(&self, register: u32) -> u64 {
        let (crm, op2) = (register >> 1 & 0xF, register >> 17 & 7);
        if register >> 14 & 7 != 0 || crm > 7 {
            // The shape of the caches.
            return H::id_register(register);
        }
        let table = self.0.call_once(|| core::array::from_fn(|n| visible::<H>(n / 8, n % 8)));
        table.get((crm * 8 + op2) as usize).copied().unwrap_or(0)
    }
}

/// What is visible of the register with this CRm and op2.
#[allow(clippy::cast_possible_truncation, reason = "both are below 8")]
fn visible<H: Hw>(crm: usize, op2: usize) -> u64 {
    let register = encoding(3, 0, 0, crm as u32, op2 as u32);
    let host = H::id_register(register);
    match register {
        name::PFR0 => host & PFR0 | (host >> CSV2_SHIFT & 0xF).min(1) << CSV2_SHIFT | EL1_64 | GIC_V3,
        name::PFR1 => host & PFR1,
        name::DFR0 => host & DFR0,
        name::ISAR0 => host & ISAR0,
        name::ISAR1 => host & ISAR1,
        name::ISAR2 => host & ISAR2,
        name::MMFR0 => host & MMFR0 | (host & 0xF).min(PA_40_BITS),
        name::MMFR1 => host & MMFR1,
        name::MMFR2 => host & MMFR2,
        // EL0 may run AArch32: its instruction sets and the shape of its FP pass; AMU, RAS, virtualization,
        // performance monitors and trace do not.
        name::PFR0_32 => host & fields(&[0, 4, 8, 12, 16, 24]),
        name::PFR1_32 => host & fields(&[0, 4, 8, 16]) | 1 << 28,
        name::PFR2_32 => host & fields(&[0, 4]),
        name::DFR0_32 => host & fields(&[0, 4]),
        name::DFR1_32 | name::AFR0_32 => 0,
        // The rest announces what is not here, or describes instruction sets of AArch32 and the implementation.
        _ if crm >= 4 => 0,
        _ => host,
    }
}
