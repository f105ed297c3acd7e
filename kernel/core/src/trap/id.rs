//! ID registers as a guest reads them: what this pCPU has, less what is not virtualised.
//!
//! A field that a new revision of the architecture adds must read as zero until somebody has thought about it, so
//! each register lists the fields that pass. Fields are 4 bits wide (Arm ARM DDI 0487, section D24.2), so that each
//! digit of a mask is one of them.

use spin::Once;

use crate::hw::Hw;

/// The identification registers by CRm and op2, which say the same on all pCPUs: worked out once, on the pCPU where a
/// guest first reads one, so that a vCPU that moves finds no other machine.
pub type IdRegisters = Once<[u64; 64]>;

/// The register with these CRm and op2 for a guest (op0 = 3, op1 = 0, CRn = 0).
#[inline]
pub(super) fn read<H: Hw>(ids: &IdRegisters, crm: usize, op2: usize) -> u64 {
    let table = ids.call_once(|| core::array::from_fn(|n| visible::<H>(n / 8, n % 8)));
    table.get(crm * 8 + op2).copied().unwrap_or(0)
}

fn visible<H: Hw>(crm: usize, op2: usize) -> u64 {
    let host = H::id_register(crm, op2);
    let at_most = |most: u64, bit: u32| (host >> bit & 0xF).min(most) << bit;
    match (crm, op2) {
        // EL0 may run AArch32: ID_PFR0_EL1 to ID_DFR1_EL1 show its instruction sets and the shape of its FP; AMU, RAS,
        // virtualization, performance monitors and trace do not pass.
        (1, 0) => host & 0x0F0F_FFFF,
        // ID_PFR1_EL1, with the system registers of GICv3 where the host has them.
        (1, 1) => host & 0xF_0FFF | at_most(1, 28),
        (1, 2) | (3, 4) => host & 0xFF,
        (1, 3) | (3, 5) => 0,
        // ID_AA64PFR0_EL1: EL0 in the states it has, FP, SIMD, DIT, CSV3; EL1 in AArch64 only, and the system registers
        // of GICv3 where the host has them. CSV2 is 1 at most, since 2 announces SCXTNUM_EL1, which is not switched.
        (4, 0) => host & 0xF00F_0000_00FF_000F | 1 << 4 | at_most(1, 24) | at_most(1, 56),
        // ID_AA64PFR1_EL1: BTI, SSBS.
        (4, 1) => host & 0xFF,
        // ID_AA64DFR0_EL1: debug version, numbers of breakpoints, watchpoints and context breakpoints, double lock.
        (5, 0) => host & 0xF0_F0F0_F00F,
        // ID_AA64ISAR0_EL1: AES, SHA1, SHA2, CRC32, atomics, RDM, SHA3, SM3, SM4, dot product, FHM, flag manipulation,
        // TLB ranges, random.
        (6, 0) => host & 0xFFFF_FFFF_F0FF_FFF0,
        // ID_AA64ISAR1_EL1: DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, SPECRES, BF16, DGH, I8MM. Not the four of pointer
        // authentication.
        (6, 1) => host & 0xFF_FFFF_00FF_F00F,
        // ID_AA64ISAR2_EL1: RPRES, BC, CLRBHB.
        (6, 2) => host & 0xF0F0_00F0,
        // ID_AA64MMFR0_EL1: ASID bits, endianness at EL1 and EL0, granules at stage 1, ExS. PARange is that of the IPA
        // space at most, 40 bits.
        (7, 0) => host & 0xF000_FFFF_0FF0 | at_most(2, 0),
        // ID_AA64MMFR1_EL1: access flag and dirty state, HPDS, PAN, SError of speculative reads, ETS, alternate FP,
        // intermediate caching.
        (7, 1) => host & 0xF_F0F0_0FF0_F00F,
        // ID_AA64MMFR2_EL1: CnP, UAO, LSM, VA range, CCIDX, small tables, atomics, IDS, TTL, BBM, E0PD.
        (7, 2) => host & 0xF0FF_00FF_F0FF_0FFF,
        // The other ones of AArch64 announce what is not here.
        (4.., _) => 0,
        // They describe instruction sets of AArch32 and the implementation.
        _ => host,
    }
}
