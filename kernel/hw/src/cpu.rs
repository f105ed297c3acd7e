//! The control registers that hold a guest in: set once on each pCPU, in the order of the Arm ARM's sections.

use crate::stage1::ADDRESS_BITS;
use crate::sysreg::{barrier, mrs, msr};

/// `MAIR_EL2`: attribute 0 is normal write-back memory, attribute 1 is Device-nGnRE.
pub const MAIR: u64 = 0x04ff;

/// `SCTLR_EL2`: RES1 bits, MMU, caches, stack alignment check, and WXN, which makes W^X the hardware's rule.
pub const SCTLR: u64 = 0x30c5_0830 | 1 << 19 | 1 << 12 | 1 << 3 | 1 << 2 | 1;

/// `HCR_EL2` while a guest runs (D24.2.49). Pointer authentication (API, APK), memory tags (ATA), SCXTNUM
/// (ENSCXT) and nested virtualisation keep their zeros: hidden features trap and come back as undefined.
const HCR: u64 = 1 // VM: stage 2 translates.
    | 1 << 1 // SWIO: a data cache invalidate by set/way also cleans.
    | 1 << 2 // PTW: a stage-1 walk that hits device memory faults.
    | 7 << 3 // FMO, IMO, AMO: physical FIQs, IRQs and SErrors come to EL2.
    | 1 << 9 // FB: cache and TLB maintenance reaches all pCPUs, wherever the vCPU ran before.
    | 1 << 10 // BSU: barriers reach at least the inner shareable domain, for the same reason.
    | 3 << 13 // TWI, TWE: WFI and WFE give the pCPU to somebody else.
    | 1 << 18 // TID3: identification registers show what is virtualised.
    | 1 << 19 // TSC: SMC.
    | 1 << 20 // TIDCP: implementation-defined registers.
    | 1 << 21 // TACR: auxiliary control registers.
    | 1 << 22 // TSW: cache maintenance by set/way, which would not respect the p2m.
    | 1 << 31; // RW: EL1 is AArch64.

/// `HCR_EL2.TLOR`: limited-ordering regions trap; RES0 on a pCPU that has none.
const HCR_TLOR: u64 = 1 << 35;

/// `CPTR_EL2`: RES1 bits (SVE and SME trap among them), trace and activity monitors trap.
const CPTR: u64 = 0x33ff | 1 << 20 | 1 << 30;
/// `CPTR_EL2.TFP`: FP and SIMD trap.
const CPTR_TFP: u64 = 1 << 10;

/// What `TCR_EL2` and `VTCR_EL2` (D24.2.178, D24.2.184) have in common: a RES1 bit, 40 bits of address on both sides,
/// write-back inner shareable walks, 4 KiB granule.
const WALKS: u64 = 1 << 31 | 2 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | (64 - ADDRESS_BITS);
/// `TCR_EL2`, with another RES1 bit.
pub const TCR: u64 = WALKS | 1 << 23;
/// `VTCR_EL2`: walks start at level 1 with two roots side by side, as the p2m builds them.
const VTCR: u64 = WALKS | 1 << 6;

/// `MDCR_EL2` (D24.2.91): debug registers, OS lock, debug ROM and the PMU trap; the counters stay EL2's.
fn mdcr() -> u64 {
    const TPMCR_TPM: u64 = 1 << 5 | 1 << 6;
    const TDA_TDOSA_TDRA: u64 = 1 << 9 | 1 << 10 | 1 << 11;
    const TPMS_TTRF: u64 = 1 << 14 | 1 << 19;
    // HPMN = PMCR_EL0.N, where there is a PMU (version 1 to 14).
    let version = mrs!("id_aa64dfr0_el1") >> 8 & 0xf;
    let counters = if version == 0 || version == 0xf { 0 } else { mrs!("pmcr_el0") >> 11 & 0x1f };
    TPMCR_TPM | TDA_TDOSA_TDRA | TPMS_TTRF | counters
}

/// Sets everything that does not belong to a vCPU. Stage 2 and the list registers follow with the first vCPU.
pub fn init() {
    let lor = if mrs!("id_aa64mmfr1_el1") >> 16 & 0xf == 0 { 0 } else { HCR_TLOR };
    // SAFETY: these registers shape what EL1 and EL0 can do; none touches EL2's own translation.
    unsafe {
        msr!("hcr_el2", HCR | lor);
        msr!("cptr_el2", CPTR | CPTR_TFP);
        msr!("hstr_el2", 1 << 15);
        msr!("mdcr_el2", mdcr());
        // The OS lock is closed at reset, and keeps guests' breakpoints from stopping them.
        msr!("oslar_el1", 0);
        // CNTPCT may be read, the physical timer traps.
        msr!("cnthctl_el2", 1);
        msr!("cntv_ctl_el0", 0);
        msr!("cnthp_ctl_el2", 0);
        msr!("vtcr_el2", VTCR);
        msr!("vttbr_el2", 0);
        msr!("vpidr_el2", mrs!("midr_el1"));
    }
    init_newer_traps();
    barrier!("isb");
    // Entries of the EL1&0 regime that firmware left would be taken for VMID 0's.
    // SAFETY: invalidating TLBs forgets nothing that the tables do not hold.
    unsafe { core::arch::asm!("tlbi alle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
}

/// Traps of later extensions, whose registers are unknown after reset. Zero adds no trap, and keeps those whose sense
/// is reversed: what the ID registers hide stays out of reach.
fn init_newer_traps() {
    // SAFETY: as in `init`; each register exists where its identification field says so.
    unsafe {
        // FEAT_FGT: HFGRTR, HFGWTR, HFGITR, HDFGRTR and HDFGWTR_EL2.
        if mrs!("id_aa64mmfr0_el1") >> 56 & 0xf != 0 {
            msr!("S3_4_C1_C1_4", 0);
            msr!("S3_4_C1_C1_5", 0);
            msr!("S3_4_C1_C1_6", 0);
            msr!("S3_4_C3_C1_4", 0);
            msr!("S3_4_C3_C1_5", 0);
        }
        // FEAT_HCX: HCRX_EL2.
        if mrs!("id_aa64mmfr1_el1") >> 40 & 0xf != 0 {
            msr!("S3_4_C1_C2_2", 0);
        }
        // FEAT_MPAM: MPAM2_EL2 with both traps.
        if mrs!("id_aa64pfr0_el1") >> 40 & 0xf != 0 {
            msr!("S3_4_C10_C5_0", 3 << 48);
        }
    }
}

/// Makes the guest's next use of FP or SIMD trap, or not.
pub fn trap_fp(on: bool) {
    // SAFETY: EL2 itself uses FP registers in `context.rs` and `memory.rs` alone, which see to this bit.
    unsafe { msr!("cptr_el2", if on { CPTR | CPTR_TFP } else { CPTR }) };
}
