//! PSCI 1.1 for guests: switching vCPUs on and off, and the end of the domain (Arm DEN0022).

use hypercall_abi::errno::XenError;
use hypercall_abi::psci::{AFFINITY_OFF, AFFINITY_ON, MIGRATE_NOT_REQUIRED, PSCI_VERSION_1_1, PsciFn, PsciResult};
use hypercall_abi::sched::ShutdownReason;

use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::lifecycle;
use crate::local::Current;
use crate::runstate::OFFLINE;
use crate::vgic::index_of;

/// Affinity fields of `MPIDR_EL1`.
const AFFINITY: u64 = 0xFF_00FF_FFFF;
/// Bit 30 of a function's number: its arguments are 64 bits wide.
const WIDE: u32 = 1 << 30;

/// A result as x0 holds it.
pub(crate) const fn answer(result: PsciResult) -> u64 {
    (result as i32 as i64).cast_unsigned()
}

/// Carries out a call of the vCPU that runs here; the value for x0, or `None` if the caller does not get one.
pub(crate) fn call<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, function: PsciFn, x: &[u64; 31]) -> Option<u64> {
    let width = if function as u32 & WIDE != 0 { u64::MAX } else { 0xFFFF_FFFF };
    let [a, b, c] = [x[1] & width, x[2] & width, x[3] & width];
    let domain = &*current.domain;
    Some(match function {
        PsciFn::Version => u64::from(PSCI_VERSION_1_1),
        PsciFn::Features => features(x[1]),
        PsciFn::MigrateInfoType => u64::from(MIGRATE_NOT_REQUIRED),
        PsciFn::CpuOn32 | PsciFn::CpuOn64 => cpu_on(kernel, domain, a, b, c),
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
        PsciFn::SystemOff => return shutdown(kernel, domain, ShutdownReason::Poweroff),
        PsciFn::SystemReset => return shutdown(kernel, domain, ShutdownReason::Reboot),
        // Of the types of a reset there is the warm one; bit 31 says that a vendor has defined it.
        PsciFn::SystemReset2_32 | PsciFn::SystemReset2_64 if a & 0xFFFF_FFFF != 0 => {
            answer(PsciResult::InvalidParameters)
        }
        PsciFn::SystemReset2_32 | PsciFn::SystemReset2_64 => return shutdown(kernel, domain, ShutdownReason::Reboot),
        PsciFn::SystemSuspend32 | PsciFn::SystemSuspend64 => answer(PsciResult::NotSupported),
        // These belong to SMCCC, which has answered them.
        PsciFn::SmcccVersion | PsciFn::SmcccArchFeatures => answer(PsciResult::NotSupported),
    })
}

fn shutdown<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, reason: ShutdownReason) -> Option<u64> {
    lifecycle::shutdown(kernel, domain, reason as u32);
    None
}

fn features(asked: u64) -> u64 {
    #[allow(clippy::cast_possible_truncation, reason = "the function is in w1")]
    answer(match PsciFn::from_raw(asked as u32) {
        Some(PsciFn::SystemSuspend32 | PsciFn::SystemSuspend64 | PsciFn::SmcccArchFeatures) | None => {
            PsciResult::NotSupported
        }
        Some(_) => PsciResult::Success,
    })
}

fn cpu_on<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, target: u64, entry: u64, context: u64) -> u64 {
    let named = (target & !AFFINITY == 0).then(|| index_of(target)).flatten();
    let Some(vcpu) = named.and_then(|index| domain.vcpus().get(index)) else {
        return answer(PsciResult::InvalidParameters);
    };
    if entry & 3 != 0 {
        return answer(PsciResult::InvalidAddress);
    }
    answer(match kernel.start_vcpu(domain, vcpu, entry, context) {
        Ok(()) => PsciResult::Success,
        Err(XenError::Exist) => PsciResult::AlreadyOn,
        // It has switched itself off, but has not left its pCPU yet.
        Err(XenError::Again) => PsciResult::OnPending,
        Err(_) => PsciResult::InternalFailure,
    })
}

fn affinity_info<H: Hw>(domain: &Domain<H>, target: u64, level: u64) -> u64 {
    // Levels above the vCPU name a cluster: on if any vCPU of it is.
    let ignored = match level {
        0 => 0,
        1 => 0xFF,
        2 => 0xFFFF,
        3 => 0xFF_FFFF,
        _ => return answer(PsciResult::InvalidParameters),
    };
    let wanted = target & AFFINITY & !ignored;
    let mut members =
        (0..).zip(domain.vcpus()).filter(|(n, _)| crate::vgic::affinity(*n) & !ignored == wanted).peekable();
    if members.peek().is_none() {
        return answer(PsciResult::InvalidParameters);
    }
    // One that has switched itself off counts once it has left its pCPU, so that it can be switched on again.
    let on = members.any(|(_, vcpu)| vcpu.is_online() || vcpu.running_on().is_some());
    u64::from(if on { AFFINITY_ON } else { AFFINITY_OFF })
}
