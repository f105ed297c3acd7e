//! Control calls on vCPUs.

use core::sync::atomic::Ordering;

use hypercall_abi::control::VcpuInfo;
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::VcpuId;

use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::Call;
use crate::runstate::nanoseconds;
use crate::sched::Place;
use crate::vcpu::{BLOCKED, Vcpu};

fn find<'a, H: Hw>(call: &Call<'_, H>, target: &'a Domain<H>) -> Result<&'a H::Shared<Vcpu<H>>, XenError> {
    let id = u32::try_from(call.args[1]).map_err(|_| XenError::NoEnt)?;
    target.vcpu(VcpuId(id)).ok_or(XenError::NoEnt)
}

/// `VcpuStart`.
pub fn start<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> Result<(), XenError> {
    let vcpu = find(call, target)?;
    call.kernel.start_vcpu(target, vcpu, call.args[2], call.args[3])
}

/// `VcpuInfo`.
pub fn info<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> Result<(), XenError> {
    let vcpu = find(call, target)?;
    let state = match (*vcpu.place.lock(), vcpu.held()) {
        (Place::Running(_), _) => 1,
        (Place::Queued(_), _) => 2,
        (Place::Nowhere, _) if !vcpu.is_online() => 0,
        (Place::Nowhere, BLOCKED) => 3,
        (Place::Nowhere, _) => 4,
    };
    let record = VcpuInfo {
        cpu_ns: nanoseconds::<H>(vcpu.accounting.lock().running(H::now())),
        affinity: vcpu.affinity.load(Ordering::Relaxed),
        pcpu: u32::from(vcpu.last_pcpu.load(Ordering::Relaxed)),
        state,
    };
    guest::write(call.domain, GuestVa::new(call.args[2]), &record)
}

/// `VcpuAffinity`.
pub fn affinity<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> Result<(), XenError> {
    let vcpu = find(call, target)?;
    let online = (1u64 << H::online()) - 1;
    if call.args[2] & online == 0 {
        return Err(XenError::Inval);
    }
    vcpu.affinity.store(call.args[2], Ordering::Relaxed);
    if let Some(pcpu) = vcpu.running_on()
        && call.args[2] & (1 << pcpu.0) == 0
    {
        call.kernel.sched.poke(pcpu);
    }
    Ok(())
}
