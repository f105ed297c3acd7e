//! System registers that trap: what each reads as, and what a write to it does.
//!
//! A register that the guest's ID registers do not announce is undefined, so that what software finds and what it
//! can use agree. That goes for the PMU, SVE, SME, pointer authentication, RAS error records, trace and LORegions.

use super::inject::undefined;
use super::{debug, id};
use crate::context::TrapFrame;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::{vgic, vtimer};

/// The encoding of a system register, laid out as in a syndrome with the general register and the direction cleared.
pub(super) const fn encoding(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1
}

/// Carries out the access of the vCPU that runs here (Arm ARM, section D24.2.40, "ISS encoding for an exception from
/// MSR, MRS").
#[inline(never)]
pub(crate) fn access<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, esr: u64) {
    #[allow(clippy::cast_possible_truncation, reason = "the ISS has 25 bits, and the general register 5 of them")]
    let (iss, general) = (esr as u32, (esr >> 5 & 31) as u8);
    // The most frequent ones need no more than this: reads of identification registers, and writes of ICC_SGI1R_EL1.
    if iss & (encoding(3, 7, 15, 0, 0) | 1) == encoding(3, 0, 0, 0, 0) | 1 {
        frame.set_register(general, id::read::<H>(&kernel.ids, iss as usize >> 1 & 7, iss as usize >> 17 & 7));
        return frame.skip_instruction();
    }
    if let Some(current) = &cpu.current
        && iss & (encoding(3, 7, 15, 15, 7) | 1) == encoding(3, 0, 12, 11, 5)
    {
        frame.skip_instruction();
        return vgic::send_sgi(kernel, current, frame.register(general), true);
    }
    other(kernel, cpu, frame, iss, general);
}

/// Reads or writes another register. What comes of a write does not matter.
#[inline(never)]
fn other<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, iss: u32, general: u8) {
    let Some(current) = &cpu.current else { return };
    let write = (iss & 1 == 0).then(|| frame.register(general));
    let (op0, op1, crn, crm, op2) = (iss >> 20 & 3, iss >> 14 & 7, iss >> 10 & 15, iss >> 1 & 15, iss >> 17 & 7);
    let value = match ((op0, op1, crn, crm, op2), write) {
        // ICC_SGI0R_EL1. There is one security state, so nobody to send ICC_ASGI1R_EL1 to.
        ((3, 0, 12, 11, 7), Some(value)) => {
            vgic::send_sgi(kernel, current, value, false);
            value
        }
        ((3, 0, 12, 11, 6), _) => 0,
        // CNTPCT_EL0, CNTP_TVAL_EL0, CNTP_CTL_EL0, CNTP_CVAL_EL0.
        ((3, 3, 14, 0, 1), None) => H::now(),
        ((3, 3, 14, 2, 0..=2), _) => vtimer::access(kernel, cpu, &current.vcpu, op2, write),
        // ICC_SRE_EL1: system registers, and no bypass of the GIC.
        ((3, 0, 12, 12, 5), _) => 7,
        // ACTLR_EL1.
        ((3, 0, 1, 0, 1), _) => 0,
        // DC ISW, DC CSW, DC CISW: a set/way operation names a line of a physical cache, which says nothing about the
        // guest's memory. Stage 2 maps that cacheable and all pCPUs are coherent, so there is nothing that the guest
        // could see of it.
        ((1, 0, 7, 6 | 10 | 14, 2), _) => 0,
        // MDSCR_EL1; breakpoints and watchpoints.
        ((2, 0, 0, 2, 2), _) => debug::control(current, write),
        ((2, 0, 0, _, 4..=7), _) => debug::register(current, op2, crm, write),
        // OSLSR_EL1: the OS lock exists and is open. DBGCLAIMSET_EL1: all eight claim tags exist.
        ((2, 0, 1, 1, 4), _) => 1 << 3,
        ((2, 0, 7, 8, 6), _) => 0xFF,
        // The other debug registers, but for those of the trace unit (op1 = 1): locks and the debug channel have nobody at
        // the other end.
        ((2, 0 | 3, ..), _) => 0,
        _ => return undefined::<H>(frame),
    };
    if write.is_none() {
        frame.set_register(general, value);
    }
    // AArch32 code at EL0 reaches no register here, and A64 instructions have 32 bits.
    frame.skip_instruction();
}
