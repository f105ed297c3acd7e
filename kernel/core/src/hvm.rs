//! `hvm_op`: the parameters through which a guest finds its store and console.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::errno::XenError;
use hypercall_abi::hvm::{HvmOp, HvmParam, NR_PARAMS, Param};

use crate::addr::GuestVa;
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};

/// The parameters of a domain, by index.
pub struct Params([AtomicU64; NR_PARAMS as usize]);

impl Params {
    /// All zero.
    pub const fn new() -> Self {
        Params([const { AtomicU64::new(0) }; NR_PARAMS as usize])
    }

    /// Reads a parameter.
    pub fn get(&self, index: u32) -> Result<u64, XenError> {
        self.slot(index).map(|slot| slot.load(Ordering::Relaxed))
    }

    /// Sets a parameter.
    pub fn set(&self, index: u32, value: u64) -> Result<(), XenError> {
        self.slot(index).map(|slot| slot.store(value, Ordering::Relaxed))
    }

    fn slot(&self, index: u32) -> Result<&AtomicU64, XenError> {
        self.0.get(index as usize).ok_or(XenError::Inval)
    }
}

impl Default for Params {
    fn default() -> Self {
        Self::new()
    }
}

/// `hvm_op(cmd, arg)`. A guest reads its own parameters and sets only how it wants to be told of events.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let at = GuestVa::new(call.args[1]);
    let command = HvmOp::try_from(call.arg32(0)).map_err(XenError::from)?;
    let mut arg: HvmParam = guest::read(call.domain, at)?;
    if call.domain.resolve(arg.domid) != call.domain.id {
        return Err(XenError::Perm.into());
    }
    match command {
        HvmOp::GetParam => {
            arg.value = call.domain.params.get(arg.index)?;
            guest::write(call.domain, at, &arg)?;
        }
        HvmOp::SetParam => match Param::from_raw(arg.index) {
            // Events always arrive as the PPI that the device tree names, so there is nothing to switch.
            Some(Param::CallbackIrq) => call.domain.params.set(arg.index, arg.value)?,
            Some(
                Param::StorePfn
                | Param::StoreEvtchn
                | Param::ConsolePfn
                | Param::ConsoleEvtchn
                | Param::PagingRingPfn
                | Param::MonitorRingPfn
                | Param::SharingRingPfn,
            ) => return Err(XenError::Perm.into()),
            None => return Err(XenError::Inval.into()),
        },
    }
    Ok(0)
}
