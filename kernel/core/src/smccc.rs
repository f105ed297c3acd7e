//! What a guest may ask by `HVC #0` or `SMC #0`: SMCCC 1.1 (Arm DEN0028) and PSCI 1.1 (Arm DEN0022), which switches
//! vCPUs on and off and ends the domain.
//!
//! A function that is not here answers "not supported"; that is what TRNG and the services of vendors get, and it
//! is what guests expect of a platform without them.

use hypercall_abi::arm::{vcpu_affinity, vcpu_of_affinity};
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::VcpuId;
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
use crate::vcpu::Vcpu;

/// Affinity fields of `MPIDR_EL1`.
const AFFINITY: u64 = 0xFF_00FF_FFFF;
/// Bit 30 of a function's number: its arguments are 64 bits wide.
const WIDE: u32 = 1 << 30;

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
    match PsciFn::from_raw(function) {
        Some(known) => frame.x[0] = carry_out(kernel, current, known, &frame.x),
        None => about(function, &mut frame.x),
    }
}

/// What the standard services (PSCI and three of SMCCC) and the hypervisor's own answer when asked about themselves
/// (DEN0028, section 6.2): the number of their functions, their UUID, and their revision, which is 0.1.
#[cold]
#[inline(never)]
fn about(function: u32, x: &mut [u64; 31]) {
    let uuid: u128 = match function {
        0x8400_FF00 => return x[0] = 17,
        0x8600_FF00 => return x[0] = 3,
        // `SSSC_SMCCC_UID` and `XEN_SMCCC_UID` (Xen public/arch-arm/smccc.h).
        0x8400_FF01 => 0xF863_386F_4B39_4CBD_9220_CE16_41E5_9F6F,
        0x8600_FF01 => 0xA718_12DC_C698_4369_9ACF_79D1_8DDE_E667,
        0x8400_FF03 | 0x8600_FF03 => return (x[0], x[1]) = (0, 1),
        _ => return x[0] = answer(PsciResult::NotSupported),
    };
    // A register holds four bytes, the first in the low bits.
    for (x, bytes) in x.iter_mut().zip(uuid.to_be_bytes().as_chunks().0) {
        *x = u64::from(u32::from_le_bytes(*bytes));
    }
}

/// The value for x0, which a call keeps that does not return.
fn carry_out<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, function: PsciFn, x: &[u64; 31]) -> u64 {
    let width = if function as u32 & WIDE != 0 { u64::MAX } else { 0xFFFF_FFFF };
    let [a, b, c] = [x[1] & width, x[2] & width, x[3] & width];
    let domain = &*current.domain;
    let asked = || PsciFn::from_raw(number(x[1]));
    let supported = |is: bool| answer(if is { PsciResult::Success } else { PsciResult::NotSupported });
    let shutdown = |reason| {
        lifecycle::shutdown(kernel, domain, reason);
        x[0]
    };
    match function {
        PsciFn::SmcccVersion => u64::from(SMCCC_VERSION_1_1),
        PsciFn::Version => u64::from(PSCI_VERSION_1_1),
        // Of the architecture's own functions there are these two. Mitigations that need firmware are not there.
        PsciFn::SmcccArchFeatures => {
            supported(matches!(asked(), Some(PsciFn::SmcccVersion | PsciFn::SmcccArchFeatures)))
        }
        PsciFn::Features => supported(!matches!(asked(), Some(PsciFn::SmcccArchFeatures) | None)),
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
            x[0]
        }
        PsciFn::SystemOff => shutdown(ShutdownReason::Poweroff),
        // Of the types of a reset there is the warm one; bit 31 says that a vendor has defined it.
        PsciFn::SystemReset2_32 | PsciFn::SystemReset2_64 if number(a) != 0 => answer(PsciResult::InvalidParameters),
        PsciFn::SystemReset | PsciFn::SystemReset2_32 | PsciFn::SystemReset2_64 => shutdown(ShutdownReason::Reboot),
    }
}

fn cpu_on<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, target: u64, entry: u64, context: u64) -> PsciResult {
    let Some(vcpu) = vcpu_of_affinity(target).and_then(|index| domain.vcpu(VcpuId(index))) else {
        return PsciResult::InvalidParameters;
    };
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
    // Levels above the vCPU, up to 3, name a cluster, by fields of 8 bits: on if any vCPU of it is.
    let cluster = |mpidr: u64| (mpidr & AFFINITY) >> (8 * level.min(3));
    let is_member =
        |vcpu: &&H::Shared<Vcpu<H>>| level <= 3 && cluster(vcpu_affinity(vcpu.id.0).into()) == cluster(target);
    let mut members = domain.vcpus().iter().filter(is_member).peekable();
    if members.peek().is_none() {
        return answer(PsciResult::InvalidParameters);
    }
    // One that has switched itself off counts once it has left its pCPU, so that it can be switched on again.
    let on = members.any(|vcpu| vcpu.is_online() || vcpu.running_on().is_some());
    u64::from(if on { AFFINITY_ON } else { AFFINITY_OFF })
}
