//! `event_channel_op`: decodes the command and calls what carries it out.

use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, EvtchnOp, PortStatus, Reset, Send, Status,
    Unmask,
};
use hypercall_abi::ids::{DomId, Port, VcpuId};

use super::bind::{alloc_unbound, bind_interdomain, bind_ipi, bind_virq, close, close_all};
use super::deliver::{send, unmask};
use super::port::Binding;
use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult, Stop};

/// Ports that one stretch of a reset closes.
const RESET_STRETCH: u32 = 64;

/// `event_channel_op(cmd, arg)`.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let at = GuestVa::new(call.args[1]);
    match EvtchnOp::try_from(call.arg32(0)).map_err(XenError::from)? {
        EvtchnOp::Send => {
            let arg: Send = guest::read(call.domain, at)?;
            send(call.kernel, call.domain, arg.port)?;
        }
        EvtchnOp::Unmask => {
            let arg: Unmask = guest::read(call.domain, at)?;
            unmask(call.kernel, call.domain, arg.port)?;
        }
        EvtchnOp::AllocUnbound => {
            let mut arg: AllocUnbound = guest::read(call.domain, at)?;
            own(call, arg.dom)?;
            arg.port = alloc_unbound(call.domain, call.domain.resolve(arg.remote_dom))?;
            answer(call, at, &arg, arg.port)?;
        }
        EvtchnOp::BindInterdomain => {
            let mut arg: BindInterdomain = guest::read(call.domain, at)?;
            let remote = peer(call, arg.remote_dom)?;
            arg.local_port = bind_interdomain(call.kernel, call.domain, &remote, arg.remote_port)?;
            answer(call, at, &arg, arg.local_port)?;
        }
        EvtchnOp::BindVirq => {
            let mut arg: BindVirq = guest::read(call.domain, at)?;
            arg.port = bind_virq(call.domain, arg.virq, arg.vcpu)?;
            answer(call, at, &arg, arg.port)?;
        }
        EvtchnOp::BindIpi => {
            let mut arg: BindIpi = guest::read(call.domain, at)?;
            arg.port = bind_ipi(call.domain, arg.vcpu)?;
            answer(call, at, &arg, arg.port)?;
        }
        EvtchnOp::Close => {
            let arg: Close = guest::read(call.domain, at)?;
            close(call.kernel, call.domain, arg.port)?;
        }
        EvtchnOp::Status => {
            let mut arg: Status = guest::read(call.domain, at)?;
            status(call, &mut arg)?;
            guest::write(call.domain, at, &arg)?;
        }
        EvtchnOp::BindVcpu => {
            let arg: BindVcpu = guest::read(call.domain, at)?;
            bind_vcpu(call.domain, arg.port, arg.vcpu)?;
        }
        EvtchnOp::Reset => {
            let arg: Reset = guest::read(call.domain, at)?;
            own(call, arg.dom)?;
            reset(call)?;
        }
        // The FIFO ABI is not offered, so guests keep to the 2-level one; physical interrupts do not exist on Arm.
        EvtchnOp::BindPirq | EvtchnOp::InitControl | EvtchnOp::ExpandArray | EvtchnOp::SetPriority => {
            return Err(XenError::NoSys.into());
        }
    }
    Ok(0)
}

/// The caller may name only itself; what else there is to name goes through the control calls.
fn own<H: Hw>(call: &Call<'_, H>, dom: DomId) -> Result<(), XenError> {
    if call.domain.resolve(dom) == call.domain.id { Ok(()) } else { Err(XenError::Perm) }
}

fn peer<H: Hw>(call: &Call<'_, H>, dom: DomId) -> Result<H::Shared<Domain<H>>, XenError> {
    let id = call.domain.resolve(dom);
    let peer = call.kernel.domains.get(id).ok_or(XenError::Srch)?;
    if peer.is_dying() { Err(XenError::Srch) } else { Ok(peer) }
}

/// Writes the argument back with the new port; if it cannot be written the port is closed again.
fn answer<H: Hw, T: zerocopy::IntoBytes + zerocopy::Immutable>(
    call: &Call<'_, H>,
    at: GuestVa,
    arg: &T,
    port: Port,
) -> Result<(), XenError> {
    guest::write(call.domain, at, arg).inspect_err(|_| {
        // The port is new, so closing it cannot fail but for the guest closing it first.
        let _ = close(call.kernel, call.domain, port);
    })
}

fn status<H: Hw>(call: &Call<'_, H>, arg: &mut Status) -> Result<(), XenError> {
    own(call, arg.dom)?;
    let state = *call.domain.events.port(arg.port)?.0.lock();
    (arg.u_dom, arg.u_high, arg.u_value) = (0, 0, 0);
    arg.vcpu = state.vcpu;
    arg.status = match state.binding {
        Binding::Closed => PortStatus::Closed,
        Binding::Unbound(remote) => {
            arg.u_dom = remote.0;
            PortStatus::Unbound
        }
        Binding::Interdomain(remote, far) => {
            arg.u_dom = remote.0;
            arg.u_value = far.0;
            PortStatus::Interdomain
        }
        Binding::Virq(virq) => {
            arg.u_dom = u16::try_from(virq).unwrap_or(u16::MAX);
            PortStatus::Virq
        }
        Binding::Ipi => PortStatus::Ipi,
    } as u32;
    Ok(())
}

/// Chooses the vCPU that a port notifies. A virtual interrupt of one vCPU and an IPI stay where they are.
fn bind_vcpu<H: Hw>(domain: &Domain<H>, port: Port, vcpu: VcpuId) -> Result<(), XenError> {
    domain.vcpu(vcpu).ok_or(XenError::NoEnt)?;
    let entry = domain.events.port(port)?;
    let mut state = entry.0.lock();
    match state.binding {
        Binding::Unbound(_) | Binding::Interdomain(..) => state.vcpu = vcpu,
        Binding::Virq(virq) => {
            let global = domain.events.global_virqs.lock().get(virq as usize) == Some(&port.0);
            if !global {
                return Err(XenError::Inval);
            }
            state.vcpu = vcpu;
        }
        Binding::Closed | Binding::Ipi => return Err(XenError::Inval),
    }
    Ok(())
}

/// Closes all ports of the caller.
fn reset<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    if close_all(call.kernel, call.domain, RESET_STRETCH) { Ok(0) } else { Err(Stop::Again) }
}
