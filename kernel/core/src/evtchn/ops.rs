//! `event_channel_op`: decodes the command and calls what carries it out.

use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, EvtchnOp, PortStatus, Reset, Send, Status,
    Unmask,
};
use hypercall_abi::ids::{DomId, Port, VcpuId};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::bind::{alloc_unbound, bind_interdomain, bind_ipi, bind_virq, close, close_all, is_per_vcpu};
use super::deliver::{send, unmask};
use super::{Binding, PortState};
use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::guest::{self, Array};
use crate::hw::{Access, Hw};
use crate::hypercall::{Call, CallResult, Stop};

/// Ports that one stretch of a reset closes.
const RESET_STRETCH: usize = 64;

/// `event_channel_op(cmd, arg)`.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let (kernel, domain) = (call.kernel, call.domain);
    match EvtchnOp::try_from(call.arg32(0)).map_err(XenError::from)? {
        EvtchnOp::Send => send(kernel, domain, arg::<H, Send>(call)?.port)?,
        EvtchnOp::Unmask => unmask(kernel, domain, arg::<H, Unmask>(call)?.port)?,
        EvtchnOp::AllocUnbound => opens(call, |arg: &mut AllocUnbound| {
            own(domain, arg.dom)?;
            arg.port = alloc_unbound(domain, domain.resolve(arg.remote_dom))?;
            Ok(arg.port)
        })?,
        EvtchnOp::BindInterdomain => opens(call, |arg: &mut BindInterdomain| {
            let remote = kernel.domains.get(domain.resolve(arg.remote_dom)).filter(|remote| !remote.is_dying());
            arg.local_port = bind_interdomain(kernel, domain, &*remote.ok_or(XenError::Srch)?, arg.remote_port)?;
            Ok(arg.local_port)
        })?,
        EvtchnOp::BindVirq => opens(call, |arg: &mut BindVirq| {
            arg.port = bind_virq(domain, arg.virq, arg.vcpu)?;
            Ok(arg.port)
        })?,
        EvtchnOp::BindIpi => opens(call, |arg: &mut BindIpi| {
            arg.port = bind_ipi(domain, arg.vcpu)?;
            Ok(arg.port)
        })?,
        EvtchnOp::Close => close(kernel, domain, arg::<H, Close>(call)?.port)?,
        EvtchnOp::Status => {
            let mut arg: Status = arg(call)?;
            status(domain, &mut arg)?;
            guest::write(domain, GuestVa::new(call.args[1]), &arg)?;
        }
        EvtchnOp::BindVcpu => {
            let BindVcpu { port, vcpu } = arg(call)?;
            bind_vcpu(domain, port, vcpu)?;
        }
        EvtchnOp::Reset => {
            own(domain, arg::<H, Reset>(call)?.dom)?;
            if !close_all(kernel, domain, RESET_STRETCH) {
                return Err(Stop::Again);
            }
        }
        // The FIFO ABI is not offered, so guests keep to the 2-level one; physical interrupts do not exist on Arm.
        EvtchnOp::BindPirq | EvtchnOp::InitControl | EvtchnOp::ExpandArray | EvtchnOp::SetPriority => {
            return Err(XenError::NoSys.into());
        }
    }
    Ok(0)
}

fn arg<H: Hw, T: FromBytes + IntoBytes>(call: &Call<'_, H>) -> Result<T, XenError> {
    guest::read(call.domain, GuestVa::new(call.args[1]))
}

/// Opens a port and answers with it; if that cannot be written the port is closed again.
fn opens<H: Hw, T: FromBytes + IntoBytes + Immutable>(
    call: &Call<'_, H>,
    open: impl FnOnce(&mut T) -> Result<Port, XenError>,
) -> Result<(), XenError> {
    let (at, mut array, mut arg) = (GuestVa::new(call.args[1]), Array::new(Access::Write), T::new_zeroed());
    array.read_into(call.domain, at, &mut arg)?;
    let port = open(&mut arg)?;
    array.write(call.domain, at, &arg).inspect_err(|_| {
        // The port is new, so closing it cannot fail but for the guest closing it first.
        let _ = close(call.kernel, call.domain, port);
    })
}

/// The caller may name only itself; what else there is to name goes through the control calls.
fn own<H: Hw>(domain: &Domain<H>, id: DomId) -> Result<(), XenError> {
    if domain.resolve(id) == domain.id { Ok(()) } else { Err(XenError::Perm) }
}

fn status<H: Hw>(domain: &Domain<H>, arg: &mut Status) -> Result<(), XenError> {
    own(domain, arg.dom)?;
    let state = domain.events.port(arg.port)?.load();
    arg.vcpu = state.vcpu.unwrap_or(VcpuId(0));
    let (status, u_dom, u_value) = match state.binding {
        Binding::Free | Binding::Changing => (PortStatus::Closed, 0, 0),
        Binding::Unbound(remote) => (PortStatus::Unbound, remote.0, 0),
        Binding::Interdomain(remote, far) => (PortStatus::Interdomain, remote.0, far.0),
        Binding::Virq(virq) => (PortStatus::Virq, u16::try_from(virq).unwrap_or(u16::MAX), 0),
        Binding::Ipi => (PortStatus::Ipi, 0, 0),
    };
    (arg.status, arg.u_dom, arg.u_high, arg.u_value) = (status as u32, u_dom, 0, u_value);
    Ok(())
}

/// Chooses the vCPU that a port notifies. A virtual interrupt of one vCPU, an IPI and the UART's port stay as they are.
fn bind_vcpu<H: Hw>(domain: &Domain<H>, port: Port, vcpu: VcpuId) -> Result<(), XenError> {
    domain.vcpu(vcpu).ok_or(XenError::NoEnt)?;
    let moved = domain.events.port(port)?.update(|state| {
        let may_move = match state.binding {
            Binding::Unbound(_) | Binding::Interdomain(..) => state.vcpu.is_some(),
            Binding::Virq(virq) => !is_per_vcpu(virq),
            Binding::Free | Binding::Changing | Binding::Ipi => false,
        };
        may_move.then_some(PortState { vcpu: Some(vcpu), ..state })
    });
    moved.map(|_| ()).ok_or(XenError::Inval)
}
