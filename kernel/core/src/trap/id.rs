//! ID registers as a guest reads them: what this pCPU has, less what is not virtualised.
//!
//! A field that a new revision of the architecture adds must read as zero until somebody has thought about it, so
//! each register lists the fields that pass. Fields are 4 bits wide and named by their lowest bit (Arm ARM
//! DDI 0487, section D24.2).

use spin::Once;

use super::syndrome::encoding;
use crate::hw::Hw;

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

/// Registers by their CRm and op2, and what passes of them.
const PASSES: [((u32, u32), u64); 15] = [
    // EL0 may run AArch32: ID_PFR0_EL1 to ID_DFR1_EL1 show its instruction sets and the shape of its FP pass; AMU,
    // RAS, virtualization, performance monitors and trace do not.
    ((1, 0), fields(&[0, 4, 8, 12, 16, 24])),
    ((1, 1), fields(&[0, 4, 8, 16])),
    ((1, 2), fields(&[0, 4])),
    ((1, 3), 0),
    ((3, 4), fields(&[0, 4])),
    ((3, 5), 0),
    // ID_AA64PFR0_EL1: EL0 in the states it has, FP, SIMD, DIT, CSV3.
    (PFR0, fields(&[0, 16, 20, 48, 60])),
    // ID_AA64PFR1_EL1: BTI, SSBS.
    ((4, 1), fields(&[0, 4])),
    // ID_AA64DFR0_EL1: debug version, numbers of breakpoints, watchpoints and context breakpoints, double lock.
    ((5, 0), fields(&[0, 12, 20, 28, 36])),
    // ID_AA64ISAR0_EL1: AES, SHA1, SHA2, CRC32, atomics, RDM, SHA3, SM3, SM4, dot product, FHM, flag manipulation,
    // TLB ranges, random.
    ((6, 0), fields(&[4, 8, 12, 16, 20, 28, 32, 36, 40, 44, 48, 52, 56, 60])),
    // ID_AA64ISAR1_EL1: DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, SPECRES, BF16, DGH, I8MM. Not the four of pointer
    // authentication.
    ((6, 1), fields(&[0, 12, 16, 20, 32, 36, 40, 44, 48, 52])),
    // ID_AA64ISAR2_EL1: RPRES, BC, CLRBHB.
    ((6, 2), fields(&[4, 20, 28])),
    // ID_AA64MMFR0_EL1: ASID bits, endianness at EL1 and EL0, granules at stage 1, ExS.
    (MMFR0, fields(&[4, 8, 16, 20, 24, 28, 44])),
    // ID_AA64MMFR1_EL1: access flag and dirty state, HPDS, PAN, SError of speculative reads, ETS, alternate FP,
    // intermediate caching.
    ((7, 1), fields(&[0, 12, 20, 24, 36, 44, 48])),
    // ID_AA64MMFR2_EL1: CnP, UAO, LSM, VA range, CCIDX, small tables, atomics, IDS, TTL, BBM, E0PD.
    ((7, 2), fields(&[0, 4, 8, 16, 20, 28, 32, 36, 48, 52, 60])),
];

const PFR0: (u32, u32) = (4, 0);
const MMFR0: (u32, u32) = (7, 0);
const PFR1_32: (u32, u32) = (1, 1);

/// `ID_AA64PFR0_EL1`: EL1 in AArch64 only, and the system registers of GICv3.
const EL1_64: u64 = 1 << 4;
const GIC_V3: u64 = 1 << 24;
/// `CSV2`: 1 at most, since 2 announces `SCXTNUM_EL1`, which is not switched.
const CSV2_SHIFT: u32 = 56;
/// `ID_AA64MMFR0_EL1.PARange` of 40 bits, the size of the IPA space.
const PA_40_BITS: u64 = 2;
/// `ID_PFR1_EL1.GIC`: the same for AArch32.
const GIC_V3_32: u64 = 1 << 28;

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
        let table = self.0.call_once(|| {
            let mut n = 0..;
            core::array::from_fn(|_| n.next().map_or(0, |n| visible::<H>(n / 8, n % 8)))
        });
        table.get((crm * 8 + op2) as usize).copied().unwrap_or(0)
    }
}

/// What is visible of the register with this CRm and op2.
fn visible<H: Hw>(crm: u32, op2: u32) -> u64 {
    let host = H::id_register(encoding(3, 0, 0, crm, op2));
    // What has no row announces what is not here, or describes instruction sets of AArch32 and the implementation.
    let others = if crm >= 4 { 0 } else { u64::MAX };
    let passes = PASSES.iter().find(|(register, _)| *register == (crm, op2)).map_or(others, |(_, fields)| *fields);
    let own = match (crm, op2) {
        PFR0 => (host >> CSV2_SHIFT & 0xF).min(1) << CSV2_SHIFT | EL1_64 | GIC_V3,
        MMFR0 => (host & 0xF).min(PA_40_BITS),
        PFR1_32 => GIC_V3_32,
        _ => 0,
    };
    host & passes | own
}
