//! `hvm_op`: the parameters through which a guest finds its store and console.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::errno::XenError;
use hypercall_abi::hvm::{HvmOp, HvmParam, Param};

use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};

/// `hvm_op(cmd, arg)`. A guest reads its own parameters and sets only how it wants to be told of events.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let at = GuestVa::new(call.args[1]);
    let command = HvmOp::try_from(call.arg32(0)).map_err(XenError::from)?;
    let mut arg: HvmParam = guest::read(call.domain, at)?;
    if call.domain.resolve(arg.domid) != call.domain.id {
        return Err(XenError::Perm.into());
    }
    match (command, Param::from_raw(arg.index)) {
        (HvmOp::GetParam, _) => {
            arg.value = param(call.domain, arg.index)?.load(Ordering::Relaxed);
            guest::write(call.domain, at, &arg)?;
        }
        // Events always arrive as the PPI that the device tree names, so there is nothing to switch.
        (HvmOp::SetParam, Some(Param::CallbackIrq)) => set_param(call.domain, arg.index, arg.value)?,
        // The toolstack's.
        (HvmOp::SetParam, Some(_)) => return Err(XenError::Perm.into()),
        (HvmOp::SetParam, None) => return Err(XenError::Inval.into()),
    }
    Ok(0)
}

/// Sets a parameter of a domain.
pub fn set_param<H: Hw>(domain: &Domain<H>, index: u32, value: u64) -> Result<(), XenError> {
    param(domain, index).map(|param| param.store(value, Ordering::Relaxed))
}

fn param<H: Hw>(domain: &Domain<H>, index: u32) -> Result<&AtomicU64, XenError> {
    domain.params.get(index as usize).ok_or(XenError::Inval)
}
