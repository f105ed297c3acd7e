//! `vcpu_op` and `vm_assist`: where a vCPU's shared record and its run times lie in guest memory.

use core::sync::atomic::Ordering;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::VcpuId;
use hypercall_abi::shared_info::vcpu_info;
use hypercall_abi::vcpu::{
    RegisterMemoryArea, RegisterVcpuInfo, RunstateInfo, VMASST_CMD_DISABLE, VMASST_CMD_ENABLE,
    VMASST_TYPE_RUNSTATE_UPDATE_FLAG, VcpuOp,
};

use crate::addr::{GuestVa, Ipa, PAGE_SIZE};
use crate::hw::{Access, Hw};
use crate::hypercall::{Call, CallResult};
use crate::runstate::RunstateArea;
use crate::vcpu::Vcpu;
use crate::{evtchn, guest};

/// `vcpu_op(cmd, vcpu, arg)`. Arm guests start vCPUs by PSCI and take time from the architected timer.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let id = VcpuId(u32::try_from(call.args[1]).map_err(|_| XenError::NoEnt)?);
    let command = VcpuOp::try_from(call.arg32(0)).map_err(XenError::from)?;
    let target = call.domain.vcpu(id).ok_or(XenError::NoEnt)?;
    match command {
        VcpuOp::RegisterVcpuInfo => register_info(call, target, &call.read(2)?)?,
        VcpuOp::RegisterRunstateMemoryArea => register_runstate(call, target, &call.read(2)?)?,
        VcpuOp::GetRunstateInfo => {
            let info = target.run.lock().info(H::now());
            call.write(2, &info)?;
        }
    }
    Ok(0)
}

/// Moves the vcpu_info into a page of the guest's own, once and for good.
fn register_info<H: Hw>(
    call: &Call<'_, H>,
    target: &H::Shared<Vcpu<H>>,
    arg: &RegisterVcpuInfo,
) -> Result<(), XenError> {
    let offset = u64::from(arg.offset);
    if offset > PAGE_SIZE - vcpu_info::SIZE as u64 || offset % 8 != 0 || arg.mfn.0 >> 36 != 0 {
        return Err(XenError::Inval);
    }
    let frame = call.domain.p2m.pin(Ipa::from_number(arg.mfn.0))?;
    let place = frame.pa().page().add(offset);
    let mut slot = target.info_frame.lock();
    if slot.is_some() {
        return Err(XenError::Inval);
    }
    match target.info() {
        Some(old) => H::copy(place, old, vcpu_info::SIZE as u64),
        None => H::write_bytes(place, &[0; vcpu_info::SIZE]),
    }
    target.set_info(place);
    *slot = Some(frame);
    drop(slot);
    evtchn::tell(call.kernel, target, u64::MAX);
    Ok(())
}

/// Keeps a copy of the vCPU's run times in guest memory from now on; a null address ends that.
fn register_runstate<H: Hw>(call: &Call<'_, H>, target: &Vcpu<H>, arg: &RegisterMemoryArea) -> Result<(), XenError> {
    let at = GuestVa::new(arg.addr.0);
    if !at.is_aligned(8) {
        return Err(XenError::Inval);
    }
    let pin = |va| guest::pin(call.domain, va, Access::Write);
    let crosses = at.left_in_page() < size_of::<RunstateInfo>() as u64;
    let second = if crosses { Some(pin(at.add(at.left_in_page()))?) } else { None };
    let area = if at.raw() == 0 { None } else { Some(RunstateArea { first: pin(at)?, offset: at.offset(), second }) };
    let mut run = target.run.lock();
    let before = core::mem::replace(&mut run.area, area);
    run.publish(&call.domain.runstate_flag);
    drop(run);
    // What was there before is unpinned behind the lock.
    drop(before);
    Ok(())
}

/// `vm_assist(cmd, type)`.
#[inline(never)]
pub fn assist<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let on = match call.arg32(0) {
        VMASST_CMD_ENABLE => true,
        VMASST_CMD_DISABLE => false,
        _ => return Err(XenError::NoSys.into()),
    };
    if call.arg32(1) != VMASST_TYPE_RUNSTATE_UPDATE_FLAG {
        return Err(XenError::Inval.into());
    }
    call.domain.runstate_flag.store(on, Ordering::Relaxed);
    Ok(0)
}
