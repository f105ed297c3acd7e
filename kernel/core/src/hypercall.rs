//! The hypercall gate: from the registers of an `HVC #0xEA1` to one handler and back.
//!
//! Decoding is total: a number that nobody handles is `-ENOSYS`. A handler returns a value, an error, or
//! [`Stop::Again`], which makes the guest issue the call once more with the arguments as the handler left
//! them; that is how a long call stays preemptible without any state at EL2.

use hypercall_abi::control;
use hypercall_abi::errno::{XenError, encode};
use hypercall_abi::nr;

use crate::context::TrapFrame;
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::vcpu::Vcpu;
use crate::{console, control as control_calls, evtchn, grant, hvm, memory, multicall, sched_op, vcpu_op, version};

/// Units of work that a call may do before it has to give the pCPU a chance to do something else.
const BUDGET: u32 = 64;

/// One hypercall on its way.
pub struct Call<'a, H: Hw> {
    /// The microkernel.
    pub kernel: &'static Kernel<H>,
    /// The pCPU.
    pub cpu: &'a mut LocalCpu<H>,
    /// The vCPU that calls.
    pub vcpu: &'a H::Shared<Vcpu<H>>,
    /// Its domain.
    pub domain: &'a H::Shared<Domain<H>>,
    /// x0 to x4, and x5 for the control calls; what a continuation finds there.
    pub args: [u64; 6],
    /// x1 and x2 on return, for the control calls.
    pub out: [u64; 2],
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

impl<H: Hw> Call<'_, H> {
    /// Takes one unit of work off the call's budget; true when it is used up and the call should stop with what
    /// it has done.
    pub fn should_yield(&mut self) -> bool {
        self.budget = self.budget.saturating_sub(1);
        self.budget == 0
    }

    /// Argument `n` as the 32 bits that the ABI gives commands and counts.
    #[allow(clippy::cast_possible_truncation, reason = "the ABI passes these in w registers")]
    pub fn arg32(&self, n: usize) -> u32 {
        self.args[n] as u32
    }
}

/// Carries out the hypercall that the current vCPU has issued.
pub fn dispatch<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &mut TrapFrame) {
    // The vCPU is taken out for the time of the call, so that the handler may have the pCPU's data to itself.
    let Some(current) = cpu.current.take() else { return };
    let [x0, x1, x2, x3, x4, x5, ..] = frame.x;
    let mut call = Call {
        kernel,
        cpu,
        vcpu: &current.vcpu,
        domain: &current.domain,
        args: [x0, x1, x2, x3, x4, x5],
        out: [0; 2],
        budget: BUDGET,
    };
    #[allow(clippy::cast_possible_truncation, reason = "only the low 32 bits of x16 count")]
    let number = frame.x[16] as u32;
    match route(&mut call, number) {
        Ok(value) => finish(frame, number, value, &call.out),
        Err(Stop::Error(error)) => finish(frame, number, encode(Err(error)), &call.out),
        Err(Stop::Again) => {
            frame.x[..6].copy_from_slice(&call.args);
            frame.pc = frame.pc.wrapping_sub(4);
        }
    }
    cpu.put_back(current);
}

fn finish(frame: &mut TrapFrame, number: u32, value: u64, out: &[u64; 2]) {
    frame.x[0] = value;
    if number >= control::BASE {
        frame.x[1] = out[0];
        frame.x[2] = out[1];
    }
}

/// The handler of a number. Also what a multicall runs for each entry.
pub fn route<H: Hw>(call: &mut Call<'_, H>, number: u32) -> CallResult {
    match number {
        nr::EVENT_CHANNEL_OP => evtchn::op(call),
        nr::SCHED_OP => sched_op::op(call),
        nr::GRANT_TABLE_OP => grant::op(call),
        nr::MEMORY_OP => memory::op(call),
        nr::XEN_VERSION => version::op(call),
        nr::CONSOLE_IO => console::op(call),
        nr::VCPU_OP => vcpu_op::op(call),
        nr::VM_ASSIST => vcpu_op::assist(call),
        nr::HVM_OP => hvm::op(call),
        nr::MULTICALL => multicall::op(call),
        control::BASE.. => control_calls::op(call, number),
        _ => Err(XenError::NoSys.into()),
    }
}

#[cfg(test)]
mod tests;
