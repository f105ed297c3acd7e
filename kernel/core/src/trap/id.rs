//! ID registers as a guest reads them: what this pCPU has, less what is not virtualised.
//!
//! A field that a new revision of the architecture adds must read as zero until somebody has thought about it, so
//! each register lists the fields that pass. Fields are 4 bits wide (Arm ARM DDI 0487, section D24.2), so that each
//! digit of a mask is one of them.

use spin::Once;

use super::encoding;
use crate::hw::Hw;

/// What a guest sees of the register with this CRm and op2.
struct View {
    crm: u32,
    op2: u32,
    /// Fields that pass.
    passes: u64,
    /// What it says in any case.
    fixed: u64,
    /// A field by its lowest bit, and the most that it says.
    capped: (u32, u64),
}

const fn passes(crm: u32, op2: u32, passes: u64) -> View {
    View { crm, op2, passes, fixed: 0, capped: (0, 0) }
}

/// Of the registers without a row, those of AArch64 (CRm from 4) announce what is not here, and the others describe
/// instruction sets of AArch32 and the implementation.
const VIEWS: [View; 15] = [
    // EL0 may run AArch32: ID_PFR0_EL1 to ID_DFR1_EL1 show its instruction sets and the shape of its FP; AMU, RAS,
    // virtualization, performance monitors and trace do not pass.
    passes(1, 0, 0x0F0F_FFFF),
    // ID_PFR1_EL1, with the system registers of GICv3.
    View { fixed: 1 << 28, ..passes(1, 1, 0xF_0FFF) },
    passes(1, 2, 0xFF),
    passes(1, 3, 0),
    passes(3, 4, 0xFF),
    passes(3, 5, 0),
    // ID_AA64PFR0_EL1: EL0 in the states it has, FP, SIMD, DIT, CSV3; EL1 in AArch64 only, and the system registers of
    // GICv3. CSV2 is 1 at most, since 2 announces SCXTNUM_EL1, which is not switched.
    View { fixed: 1 << 4 | 1 << 24, capped: (56, 1), ..passes(4, 0, 0xF00F_0000_00FF_000F) },
    // ID_AA64PFR1_EL1: BTI, SSBS.
    passes(4, 1, 0xFF),
    // ID_AA64DFR0_EL1: debug version, numbers of breakpoints, watchpoints and context breakpoints, double lock.
    passes(5, 0, 0xF0_F0F0_F00F),
    // ID_AA64ISAR0_EL1: AES, SHA1, SHA2, CRC32, atomics, RDM, SHA3, SM3, SM4, dot product, FHM, flag manipulation,
    // TLB ranges, random.
    passes(6, 0, 0xFFFF_FFFF_F0FF_FFF0),
    // ID_AA64ISAR1_EL1: DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, SPECRES, BF16, DGH, I8MM. Not the four of pointer
    // authentication.
    passes(6, 1, 0xFF_FFFF_00FF_F00F),
    // ID_AA64ISAR2_EL1: RPRES, BC, CLRBHB.
    passes(6, 2, 0xF0F0_00F0),
    // ID_AA64MMFR0_EL1: ASID bits, endianness at EL1 and EL0, granules at stage 1, ExS. PARange is that of the IPA
    // space at most, 40 bits.
    View { capped: (0, 2), ..passes(7, 0, 0xF000_FFFF_0FF0) },
    // ID_AA64MMFR1_EL1: access flag and dirty state, HPDS, PAN, SError of speculative reads, ETS, alternate FP,
    // intermediate caching.
    passes(7, 1, 0xF_F0F0_0FF0_F00F),
    // ID_AA64MMFR2_EL1: CnP, UAO, LSM, VA range, CCIDX, small tables, atomics, IDS, TTL, BBM, E0PD.
    passes(7, 2, 0xF0FF_00FF_F0FF_0FFF),
];

/// The identification registers, which say the same on all pCPUs: worked out once, on the pCPU where a guest first
/// reads one, so that a vCPU that moves finds no other machine.
#[derive(Debug, Default)]
pub struct IdRegisters(Once<[u64; 64]>);

impl IdRegisters {
    /// Registers that nobody has read yet.
    pub const fn new() -> Self {
        IdRegisters(Once::new())
    }

    /// The register with these CRm and op2 for a guest (op0 = 3, op1 = 0, CRn = 0).
    #[inline]
    pub(super) fn read<H: Hw>(&self, crm: u32, op2: u32) -> u64 {
        let table = self.0.call_once(|| {
            let mut n = 0..;
            core::array::from_fn(|_| n.next().map_or(0, |n| visible::<H>(n / 8, n % 8)))
        });
        table.get((crm * 8 + op2) as usize).copied().unwrap_or(0)
    }
}

fn visible<H: Hw>(crm: u32, op2: u32) -> u64 {
    let host = H::id_register(encoding(3, 0, 0, crm, op2));
    match VIEWS.iter().find(|view| (view.crm, view.op2) == (crm, op2)) {
        Some(View { passes, fixed, capped: (shift, most), .. }) => {
            host & passes | fixed | (host >> shift & 0xF).min(*most) << shift
        }
        None if crm >= 4 => 0,
        None => host,
    }
}
