//! What a guest may ask by `HVC #0` or `SMC #0`: SMCCC 1.1 (Arm DEN0028) and PSCI 1.1 (Arm DEN0022), which switches
//! vCPUs on and off and ends the domain.
//!
//! A function that is not here answers "not supported"; that is what TRNG and the services of vendors get, and it
//! is what guests expect of a platform without them.

use hypercall_abi::errno::XenError;
use hypercall_abi::psci::{
    AFFINITY_OFF, AFFINITY_ON, MIGRATE_NOT_REQUIRED, PSCI_VERSION_1_1, PsciFn, PsciResult, SMCCC_VERSION_1_1,
};
use hypercall_abi::sched::ShutdownReason;

use crate::context::TrapFrame;
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::lifecycle;
use crate::local::{Current, LocalCpu};
use crate::runstate::OFFLINE;
use crate::vgic::{affinity, index_of};

/// Affinity fields of `MPIDR_EL1`.
const AFFINITY: u64 = 0xFF_00FF_FFFF;
/// Bit 30 of a function's number: its arguments are 64 bits wide.
const WIDE: u32 = 1 << 30;

/// What a service answers when asked about itself: the number of its functions, and its UUID, of which a register
/// holds four bytes, the first in the low bits. Both have revision 0.1.
struct Service {
    functions: u64,
    uuid: [u32; 4],
}

/// The hypervisor's own (Xen public/arch-arm/smccc.h, `XEN_SMCCC_UID` a71812dc-c698-4369-9acf-79d18ddee667).
const HYPERVISOR: Service = Service { functions: 3, uuid: [0xDC12_18A7, 0x6943_98C6, 0xD179_CF9A, 0x67E6_DE8D] };
/// The standard services: PSCI and these three (`SSSC_SMCCC_UID` f863386f-4b39-4cbd-9220-ce1641e59f6f).
const STANDARD: Service = Service { functions: 17, uuid: [0x6F38_63F8, 0xBD4C_394B, 0x16CE_2092, 0x6F9F_E541] };

/// A result as x0 holds it.
const fn answer(result: PsciResult) -> u64 {
    (result as i32 as i64).cast_unsigned()
}

#[allow(clippy::cast_possible_truncation, reason = "the number of a function is in a w register")]
const fn number(x: u64) -> u32 {
    x as u32
}

/// Carries out the call of the vCPU that runs here. `frame` stands behind the instruction.
#[inline(never)]
pub fn call<H: Hw>(kernel: &Kernel<H>, cpu: &LocalCpu<H>, frame: &mut TrapFrame) {
    let Some(current) = &cpu.current else { return };
    let function = number(frame.x[0]);
    let Some(known) = PsciFn::from_raw(function) else { return about(function, frame) };
    if let Some(answer) = carry_out(kernel, current, known, &frame.x) {
        frame.x[0] = answer;
    }
}

/// Functions that each service has, by the low 16 bits (DEN0028, section 6.2); fast calls with 32-bit arguments.
fn about(function: u32, frame: &mut TrapFrame) {
    let service = match function >> 16 {
        0x8400 => &STANDARD,
        0x8600 => &HYPERVISOR,
        _ => return frame.x[0] = answer(PsciResult::NotSupported),
    };
    match function & 0xFFFF {
        0xFF00 => frame.x[0] = service.functions,
        0xFF01 => {
            for (x, word) in frame.x.iter_mut().zip(service.uuid) {
                *x = u64::from(word);
            }
        }
        0xFF03 => (frame.x[0], frame.x[1]) = (0, 1),
        _ => frame.x[0] = answer(PsciResult::NotSupported),
    }
}

/// The value for x0, or `None` if the caller does not get one.
fn carry_out<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, function: PsciFn, x: &[u64; 31]) -> Option<u64> {
    let width = if function as u32 & WIDE != 0 { u64::MAX } else { 0xFFFF_FFFF };
    let [a, b, c] = [x[1] & width, x[2] & width, x[3] & width];
    let domain = &*current.domain;
    let shutdown = |reason| {
        lifecycle::shutdown(kernel, domain, reason);
        None
    };
    Some(match function {
        PsciFn::SmcccVersion => u64::from(SMCCC_VERSION_1_1),
        PsciFn::Version => u64::from(PSCI_VERSION_1_1),
        PsciFn::SmcccArchFeatures => answer(match PsciFn::from_raw(number(x[1])) {
            // Of the architecture's own functions there are these two. Mitigations that need firmware are not there.
            Some(PsciFn::SmcccVersion | PsciFn::SmcccArchFeatures) => PsciResult::Success,
            Some(_) | None => PsciResult::NotSupported,
        }),
        PsciFn::Features => answer(match PsciFn::from_raw(number(x[1])) {
            Some(PsciFn::SystemSuspend32 | PsciFn::SystemSuspend64 | PsciFn::SmcccArchFeatures) | None => {
                PsciResult::NotSupported
            }
            Some(_) => PsciResult::Success,
        }),
        PsciFn::MigrateInfoType => u64::from(MIGRATE_NOT_REQUIRED),
        PsciFn::CpuOn32 | PsciFn::CpuOn64 => answer(cpu_on(kernel, domain, a, b, c)),
        PsciFn::AffinityInfo32 | PsciFn::AffinityInfo64 => affinity_info(domain, a, b),
        PsciFn::CpuSuspend32 | PsciFn::CpuSuspend64 => {
            // Every state is a standby: the call returns when an interrupt is pending.
            kernel.block(&current.vcpu);
            answer(PsciResult::Success)
        }
        PsciFn::CpuOff => {
            kernel.hold(&current.vcpu, OFFLINE);
            return None;
        }
        PsciFn::SystemOff => return shutdown(ShutdownReason::Poweroff),
        PsciFn::SystemReset => return shutdown(ShutdownReason::Reboot),
        // Of the types of a reset there is the warm one; bit 31 says that a vendor has defined it.
        PsciFn::SystemReset2_32 | PsciFn::SystemReset2_64 if number(a) != 0 => answer(PsciResult::InvalidParameters),
        PsciFn::SystemReset2_32 | PsciFn::SystemReset2_64 => return shutdown(ShutdownReason::Reboot),
        PsciFn::SystemSuspend32 | PsciFn::SystemSuspend64 => answer(PsciResult::NotSupported),
    })
}

fn cpu_on<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, target: u64, entry: u64, context: u64) -> PsciResult {
    let named = (target & !AFFINITY == 0).then(|| index_of(target)).flatten();
    let Some(vcpu) = named.and_then(|index| domain.vcpus().get(index)) else { return PsciResult::InvalidParameters };
    if entry & 3 != 0 {
        return PsciResult::InvalidAddress;
    }
    match kernel.start_vcpu(domain, vcpu, entry, context) {
        Ok(()) => PsciResult::Success,
        Err(XenError::Exist) => PsciResult::AlreadyOn,
        // It has switched itself off, but has not left its pCPU yet.
        Err(XenError::Again) => PsciResult::OnPending,
        Err(_) => PsciResult::InternalFailure,
    }
}

fn affinity_info<H: Hw>(domain: &Domain<H>, target: u64, level: u64) -> u64 {
    if level > 3 {
        return answer(PsciResult::InvalidParameters);
    }
    // Levels above the vCPU name a cluster, by fields of 8 bits: on if any vCPU of it is.
    let ignored = (1u64 << (8 * level)) - 1;
    let wanted = target & AFFINITY & !ignored;
    let mut members = (0..).zip(domain.vcpus()).filter(|(n, _)| affinity(*n) & !ignored == wanted).peekable();
    if members.peek().is_none() {
        return answer(PsciResult::InvalidParameters);
    }
    // One that has switched itself off counts once it has left its pCPU, so that it can be switched on again.
    let on = members.any(|(_, vcpu)| vcpu.is_online() || vcpu.running_on().is_some());
    u64::from(if on { AFFINITY_ON } else { AFFINITY_OFF })
}
