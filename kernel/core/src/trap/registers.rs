//! System registers that trap: what each reads as, and what a write to it does.
//!
//! A register that the guest's ID registers do not announce is undefined, so that what software finds and what it
//! can use agree. That goes for the PMU, SVE, SME, pointer authentication, RAS error records, trace and LORegions.

use super::inject::{undefined, with_el1};
use crate::context::TrapFrame;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::{Current, LocalCpu};
use crate::vgic;
use crate::vtimer;

/// What a guest may set in `MDSCR_EL1`: software step, kernel debugging, monitor debugging and the trap of EL0's
/// access to the debug channel.
const MDSCR_GUEST: u64 = 1 << 0 | 1 << 12 | 1 << 13 | 1 << 15;

/// A register by what it is to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    /// Says what the machine is, by CRm and op2.
    Identification(u32, u32),
    /// Always has this value, and a write changes nothing.
    Fixed(u64),
    /// Sends an interrupt to vCPUs; cannot be read.
    Sgi { group1: bool },
    /// The physical counter; cannot be written.
    Counter,
    /// The physical timer.
    Timer(vtimer::Register),
    /// `MDSCR_EL1`.
    DebugControl,
}

impl Register {
    /// The register of a trapped access (Arm ARM, section D24.2.40, "ISS encoding for an exception from MSR, MRS").
    /// `None` is one that does not exist here.
    #[inline]
    pub(super) fn of(iss: u32) -> Option<Register> {
        let (op0, op1, crn, crm, op2) = (iss >> 20 & 3, iss >> 14 & 7, iss >> 10 & 15, iss >> 1 & 15, iss >> 17 & 7);
        if (op0, op1, crn) == (3, 0, 0) {
            return Some(Register::Identification(crm & 7, op2));
        }
        Some(match (op0, op1, crn, crm, op2) {
            // ICC_SGI1R_EL1, ICC_SGI0R_EL1. There is one security state, so nobody to send ICC_ASGI1R_EL1 to.
            (3, 0, 12, 11, 5) => Register::Sgi { group1: true },
            (3, 0, 12, 11, 7) => Register::Sgi { group1: false },
            (3, 0, 12, 11, 6) => Register::Fixed(0),
            // CNTPCT_EL0, CNTP_TVAL_EL0, CNTP_CTL_EL0, CNTP_CVAL_EL0.
            (3, 3, 14, 0, 1) => Register::Counter,
            (3, 3, 14, 2, 0) => Register::Timer(vtimer::Register::Value),
            (3, 3, 14, 2, 1) => Register::Timer(vtimer::Register::Control),
            (3, 3, 14, 2, 2) => Register::Timer(vtimer::Register::Compare),
            // ICC_SRE_EL1: system registers, and no bypass of the GIC.
            (3, 0, 12, 12, 5) => Register::Fixed(7),
            // ACTLR_EL1.
            (3, 0, 1, 0, 1) => Register::Fixed(0),
            // DC ISW, DC CSW, DC CISW: a set/way operation names a line of a physical cache, which says nothing about
            // the guest's memory. Stage 2 maps that cacheable and all pCPUs are coherent, so there is nothing that the
            // guest could see of it.
            (1, 0, 7, 6 | 10 | 14, 2) => Register::Fixed(0),
            (2, 0, 0, 2, 2) => Register::DebugControl,
            // OSLSR_EL1: the OS lock exists and is open. DBGCLAIMSET_EL1: all eight claim tags exist.
            (2, 0, 1, 1, 4) => Register::Fixed(1 << 3),
            (2, 0, 7, 8, 6) => Register::Fixed(0xFF),
            // The other debug registers, but for those of the trace unit (op1 = 1). Breakpoints and watchpoints are not
            // switched between vCPUs, so that they never hit; locks and the debug channel have nobody at the other end.
            (2, 0 | 3, ..) => Register::Fixed(0),
            _ => return None,
        })
    }

    fn read<H: Hw>(self, kernel: &Kernel<H>, current: &Current<H>) -> Option<u64> {
        match self {
            Register::Identification(crm, op2) => Some(kernel.ids.read::<H>(crm, op2)),
            Register::Fixed(value) => Some(value),
            Register::Sgi { .. } => None,
            Register::Counter => Some(H::now()),
            Register::Timer(register) => Some(current.vcpu.ptimer.read::<H>(register)),
            Register::DebugControl => Some(with_el1::<H, _>(|el1| el1.mdscr_el1)),
        }
    }

    fn write<H: Hw>(self, kernel: &Kernel<H>, cpu: &LocalCpu<H>, current: &Current<H>, value: u64) -> Option<()> {
        match self {
            Register::Fixed(_) => {}
            Register::Sgi { group1 } => vgic::send_sgi(kernel, current, value, group1),
            Register::Identification(..) | Register::Counter => return None,
            Register::Timer(register) => vtimer::write(kernel, cpu, &current.vcpu, register, value),
            Register::DebugControl => with_el1::<H, _>(|el1| el1.mdscr_el1 = value & MDSCR_GUEST),
        }
        Some(())
    }
}

/// Carries out the access of the vCPU that runs here.
#[inline(never)]
pub(crate) fn access<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame, esr: u64) {
    let Some(current) = &cpu.current else { return };
    #[allow(clippy::cast_possible_truncation, reason = "the ISS has 25 bits, and the general register 5 of them")]
    let (register, general) = (Register::of(esr as u32), (esr >> 5 & 31) as u8);
    let done = if esr & 1 != 0 {
        let value = register.and_then(|register| register.read(kernel, current));
        value.map(|value| frame.set_register(general, value))
    } else {
        register.and_then(|register| register.write(kernel, cpu, current, frame.register(general)))
    };
    match done {
        // AArch32 code at EL0 reaches no register here, and A64 instructions have 32 bits.
        Some(()) => frame.skip_instruction(),
        None => undefined::<H>(frame),
    }
}
