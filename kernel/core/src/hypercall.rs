//! The hypercall gate: from the registers of an `HVC #0xEA1` to one handler and back.
//!
//! Decoding is total: a number that nobody handles is `-ENOSYS`. A handler returns a value, an error, or
//! [`Stop::Again`], which makes the guest issue the call once more with the arguments as the handler left
//! them; that is how a long call stays preemptible without any state at EL2.

use core::mem::offset_of;

use hypercall_abi::errno::{XenError, encode};
use hypercall_abi::ids::DomId;
use hypercall_abi::multicall::MulticallEntry;
use hypercall_abi::{control, nr};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::addr::GuestVa;
use crate::context::CallRegisters;
use crate::domain::Domain;
use crate::guest::{self, Array, WRITE};
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::vcpu::Vcpu;
use crate::{about, console, control as control_calls, evtchn, grant, memory, sched_op, vcpu_op};

/// Units of work that a call may do before it has to give the pCPU a chance to do something else.
const BUDGET: u32 = 64;

/// One hypercall on its way.
pub struct Call<'a, H: Hw> {
    /// The microkernel.
    pub kernel: &'static Kernel<H>,
    /// The vCPU that calls.
    pub vcpu: &'a H::Shared<Vcpu<H>>,
    /// Its domain.
    pub domain: &'a H::Shared<Domain<H>>,
    /// x0 to x4, and x5 for the control calls. A call that goes on finds here what it has left; the control calls
    /// return values in x1 and x2.
    pub args: &'a mut [u64; 6],
    budget: u32,
}

/// Why a call does not return a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The caller is to blame, or the machine has no more of something.
    Error(XenError),
    /// The call goes on where it stopped, with the arguments as they are now.
    Again,
}

impl From<XenError> for Stop {
    fn from(error: XenError) -> Self {
        Stop::Error(error)
    }
}

/// What a handler returns: the value for x0.
pub type CallResult = Result<u64, Stop>;

impl<'a, H: Hw> Call<'a, H> {
    /// Takes `units` of work off the call's budget; true when it is used up and the call should stop with what it has
    /// done.
    pub fn spend(&mut self, units: u32) -> bool {
        self.budget = self.budget.saturating_sub(units);
        self.budget == 0
    }

    /// Argument `n` as the 32 bits that the ABI gives commands and counts.
    #[allow(clippy::cast_possible_truncation, reason = "the ABI passes these in w registers")]
    pub fn arg32(&self, n: usize) -> u32 {
        self.args[n] as u32
    }

    /// Reads the structure that argument `n` points to.
    #[inline]
    pub fn read<T: FromBytes + IntoBytes>(&self, n: usize) -> Result<T, XenError> {
        guest::read(self.domain, GuestVa::new(self.args[n]))
    }

    /// Writes a structure to where argument `n` points.
    pub fn write<T: IntoBytes + Immutable>(&self, n: usize, value: &T) -> Result<(), XenError> {
        guest::copy_out(self.domain, GuestVa::new(self.args[n]), value.as_bytes())
    }

    /// The domain that the call is to work on: the caller, or any live one (`ESRCH`) if the caller is privileged
    /// (`EPERM`). `other` keeps hold of the latter.
    #[inline(always)]
    pub fn target(&self, id: DomId, other: &'a mut Option<H::Shared<Domain<H>>>) -> Result<&'a Domain<H>, XenError> {
        if self.domain.resolve(id) == self.domain.id {
            return Ok(self.domain);
        }
        let domain = self.kernel.domains.get(id).filter(|domain| !domain.is_dying()).ok_or(XenError::Srch)?;
        if self.domain.is_privileged() { Ok(other.insert(domain)) } else { Err(XenError::Perm) }
    }
}

/// Carries out the hypercall that the current vCPU has issued; true if the guest is to issue it once more.
#[inline(always)]
pub fn dispatch<H: Hw>(kernel: &'static Kernel<H>, cpu: &LocalCpu<H>, x: &mut CallRegisters) -> bool {
    #[allow(clippy::cast_possible_truncation, reason = "only the low 32 bits of x16 count")]
    let number = x[16] as u32;
    let (Some(current), Some(args)) = (&cpu.current, x.first_chunk_mut()) else { return false };
    match route(&mut Call { kernel, vcpu: &current.vcpu, domain: &current.domain, args, budget: BUDGET }, number) {
        Ok(value) => x[0] = value,
        Err(Stop::Error(error)) => x[0] = encode(Err(error)),
        Err(Stop::Again) => return true,
    }
    false
}

/// The handler of a number.
#[inline(always)]
fn route<H: Hw>(call: &mut Call<'_, H>, number: u32) -> CallResult {
    match number {
        nr::EVENT_CHANNEL_OP => evtchn::op(call),
        nr::SCHED_OP => sched_op::op(call),
        nr::GRANT_TABLE_OP => grant::op(call),
        nr::MEMORY_OP => memory::op(call),
        nr::XEN_VERSION => about::version(call),
        nr::CONSOLE_IO => console::op(call),
        nr::VCPU_OP => vcpu_op::op(call),
        nr::VM_ASSIST => vcpu_op::assist(call),
        nr::HVM_OP => about::hvm(call),
        nr::MULTICALL => multicall(call),
        control::BASE.. => control_calls::op(call, number),
        _ => Err(XenError::NoSys.into()),
    }
}

/// `multicall(entries, count)`: several calls in one exit. Each entry gets its result before the next one starts. A
/// multicall cannot hold another one, nor control calls, whose results need registers.
#[inline(never)]
fn multicall<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut list = Array::<H, WRITE>::default();
    let mut entry = MulticallEntry::new_zeroed();
    let (mut at, mut left) = (GuestVa::new(call.args[0]), call.arg32(1));
    while left > 0 {
        let place = list.element::<MulticallEntry>(call.domain, at)?;
        place.read_into(&mut entry)?;
        let mut inner = Call { args: &mut entry.args, ..*call };
        #[allow(clippy::cast_possible_truncation, reason = "the number counts as 32 bits, as in x16")]
        let result = match entry.op as u32 {
            nr::MULTICALL => Err(XenError::Inval.into()),
            control::BASE.. => Err(XenError::NoSys.into()),
            number => route(&mut inner, number),
        };
        call.budget = inner.budget;
        entry.result = match result {
            Ok(value) => value,
            Err(Stop::Error(error)) => encode(Err(error)),
            Err(Stop::Again) => {
                // The entry goes on with its own arguments when the guest issues the multicall again.
                place.write(offset_of!(MulticallEntry, args), &entry.args)?;
                break;
            }
        };
        place.write(offset_of!(MulticallEntry, result), &entry.result)?;
        (at, left) = (at.add(size_of::<MulticallEntry>() as u64), left - 1);
        // Also if the entry has put the vCPU to sleep, or if it has to make room for another one.
        if call.spend(1) || call.kernel.sched.must_choose(H::pcpu()) {
            break;
        }
    }
    (call.args[0], call.args[1]) = (at.raw(), left.into());
    if left > 0 { Err(Stop::Again) } else { Ok(0) }
}

#[cfg(test)]
mod tests;
