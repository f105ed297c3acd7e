//! The records that control calls answer with: the machine, a pCPU, a domain, a vCPU.

use core::sync::atomic::Ordering;

use hypercall_abi::control::{
    DomainInfo, PcpuInfo, PlatformInfo, STATE_BLOCKED, STATE_DYING, STATE_PAUSED, STATE_RUNNING, STATE_SHUTDOWN,
    VcpuInfo,
};
use hypercall_abi::errno::XenError;
use hypercall_abi::vcpu::Runstate;

use crate::domain::{Domain, Life, MAX_DOMAINS};
use crate::hw::{Hw, PcpuId};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::runstate::{BLOCKED, OFFLINE, nanoseconds};
use crate::vcpu::Vcpu;

/// `MIDR_EL1` as an `MRS` syndrome names it: op0 3, op1 0, CRn 0, CRm 0, op2 0.
const MIDR: u32 = 3 << 20;
/// `MPIDR_EL1`: op2 5.
const MPIDR: u32 = 3 << 20 | 5 << 17;

pub(super) fn platform<H: Hw>(kernel: &Kernel<H>) -> Result<PlatformInfo, XenError> {
    let machine = kernel.machine().ok_or(XenError::NoDev)?;
    #[allow(clippy::cast_possible_truncation, reason = "MIDR_EL1 has 32 bits")]
    let midr = H::id_register(MIDR) as u32;
    Ok(PlatformInfo {
        total_pages: H::frames().total_pages(),
        free_pages: H::frames().free_pages(),
        dom0_base: machine.dom0_ram.start.raw(),
        dom0_size: machine.dom0_ram.size,
        window_base: machine.window().raw(),
        window_size: Machine::WINDOW_SIZE,
        uptime_ns: nanoseconds::<H>(kernel.uptime()),
        image_base: machine.image.start.raw(),
        image_size: machine.image.size,
        counter_hz: H::frequency(),
        pcpus: u32::try_from(H::online()).unwrap_or(0),
        max_domains: u32::try_from(MAX_DOMAINS).unwrap_or(0),
        midr,
    })
}

pub(super) fn pcpu<H: Hw>(kernel: &Kernel<H>, id: u64) -> Result<PcpuInfo, XenError> {
    let id = u8::try_from(id).ok().filter(|id| usize::from(*id) < H::online()).ok_or(XenError::NoEnt)?;
    let (idle, load) = kernel.sched.load(PcpuId(id));
    Ok(PcpuInfo {
        mpidr: H::id_register(MPIDR),
        idle_ns: nanoseconds::<H>(idle),
        load: u32::try_from(load).unwrap_or(u32::MAX),
        reserved: 0,
    })
}

pub(super) fn domain<H: Hw>(target: &Domain<H>) -> DomainInfo {
    let (vcpus, now) = (target.vcpus(), H::now());
    let (life, shutdown_reason) = match target.life() {
        Life::Alive => (0, 0),
        Life::ShutDown(reason) => (STATE_SHUTDOWN, reason),
        Life::Dying => (STATE_DYING, 0),
    };
    let paused = if *target.pauses.lock() > 0 { STATE_PAUSED } else { 0 };
    let activity = if vcpus.iter().any(|vcpu| vcpu.running_on().is_some()) {
        STATE_RUNNING
    } else if vcpus.iter().all(|vcpu| vcpu.held() & BLOCKED != 0 || !vcpu.is_online()) {
        STATE_BLOCKED
    } else {
        0
    };
    let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
    DomainInfo {
        uuid: target.uuid,
        pages: target.quota.owned(),
        max_pages: target.quota.max(),
        cpu_ns: nanoseconds::<H>(vcpus.iter().map(|vcpu| vcpu.run.lock().running(now)).sum()),
        state: life | paused | activity,
        shutdown_reason,
        online_vcpus: count(vcpus.iter().filter(|vcpu| vcpu.is_online()).count() as u64),
        vcpus: count(vcpus.len() as u64),
        domid: u32::from(target.id.0),
        kernel_pages: count(target.quota.kernel()),
    }
}

pub(super) fn vcpu<H: Hw>(vcpu: &Vcpu<H>) -> VcpuInfo {
    let run = vcpu.run.lock();
    let state = match run.state {
        Runstate::Running => 1,
        Runstate::Runnable => 2,
        Runstate::Blocked | Runstate::Offline if run.held & OFFLINE != 0 => 0,
        Runstate::Blocked | Runstate::Offline if run.held == BLOCKED => 3,
        Runstate::Blocked | Runstate::Offline => 4,
    };
    VcpuInfo {
        cpu_ns: nanoseconds::<H>(run.running(H::now())),
        affinity: vcpu.affinity.load(Ordering::Relaxed),
        pcpu: u32::from(run.pcpu.0),
        state,
    }
}
