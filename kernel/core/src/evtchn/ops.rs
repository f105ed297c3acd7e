//! `event_channel_op`: opening, binding and closing ports, and the rest of what guests ask for.

use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, Close, EvtchnOp, Reset, Send, Status, Unmask, Virq,
};
use hypercall_abi::ids::{DomId, Port, VcpuId};
use hypercall_abi::shared_info::layout;
use zerocopy::{FromBytes, IntoBytes};

use super::deliver::{bit_of, pend, send, unmask};
use super::{Binding, PortState, fifo};
use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::guest::{Array, WRITE};
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult, Stop};
use crate::ioreq;
use crate::kernel::Kernel;

/// Ports that one stretch of a reset closes.
const RESET_STRETCH: usize = 64;
/// Whom a port notifies until the guest says otherwise.
const FIRST_VCPU: VcpuId = VcpuId(0);

/// `event_channel_op(cmd, arg)`. To send is the most frequent one, and saves no registers for the others.
#[inline(always)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    if call.arg32(0) == EvtchnOp::Send.raw() { notify_peer(call) } else { others(call) }
}

#[inline(never)]
fn notify_peer<H: Hw>(call: &Call<'_, H>) -> CallResult {
    let Send { port } = call.read(1)?;
    send(call.kernel, call.domain, port)?;
    Ok(0)
}

#[inline(never)]
fn others<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let (kernel, domain) = (call.kernel, call.domain);
    match EvtchnOp::try_from(call.arg32(0)).map_err(XenError::from)? {
        EvtchnOp::Send => return notify_peer(call),
        EvtchnOp::Unmask => unmask(kernel, domain, call.read::<Unmask>(1)?.port)?,
        EvtchnOp::AllocUnbound => opens(call, |arg: AllocUnbound| {
            own(domain, arg.dom)?;
            domain.events.open(Binding::Unbound(domain.resolve(arg.remote_dom)), FIRST_VCPU)
        })?,
        EvtchnOp::BindInterdomain => opens(call, |arg: BindInterdomain| {
            let remote = kernel.domains.get(domain.resolve(arg.remote_dom)).filter(|remote| !remote.is_dying());
            bind_interdomain(kernel, domain, &*remote.ok_or(XenError::Srch)?, arg.remote_port)
        })?,
        EvtchnOp::BindVirq => opens(call, |arg: BindVirq| bind_virq(domain, arg.virq, arg.vcpu))?,
        EvtchnOp::BindIpi => opens(call, |arg: BindIpi| {
            domain.vcpu(arg.vcpu).ok_or(XenError::NoEnt)?;
            domain.events.open(Binding::Ipi, arg.vcpu)
        })?,
        EvtchnOp::Close => close(kernel, domain, call.read::<Close>(1)?.port)?,
        EvtchnOp::Status => {
            let arg: Status = call.read(1)?;
            own(domain, arg.dom)?;
            let PortState { binding, vcpu } = domain.events.port(arg.port)?.load();
            let (status, u_dom, u_value) = binding.describe();
            call.write(1, &Status { status: status as u32, vcpu, u_dom, u_high: 0, u_value, ..arg })?;
        }
        EvtchnOp::BindVcpu => {
            let BindVcpu { port, vcpu } = call.read(1)?;
            bind_vcpu(domain, port, vcpu)?;
        }
        EvtchnOp::Reset => {
            own(domain, call.read::<Reset>(1)?.dom)?;
            call.spend(u32::MAX);
            if !close_all(kernel, domain, RESET_STRETCH) {
                return Err(Stop::Again);
            }
            fifo::leave(domain);
        }
        EvtchnOp::InitControl | EvtchnOp::ExpandArray | EvtchnOp::SetPriority => return fifo::op(call),
        // Physical interrupts do not exist on Arm.
        EvtchnOp::BindPirq => return Err(XenError::NoSys.into()),
    }
    Ok(0)
}

/// Opens a port and answers with it in the argument's last word, or closes it. A look at all ports fills a round.
fn opens<H: Hw, T: FromBytes + IntoBytes>(
    call: &mut Call<'_, H>,
    open: impl FnOnce(T) -> Result<Port, XenError>,
) -> Result<(), XenError> {
    call.spend(u32::MAX);
    let (mut array, mut arg) = (Array::<H, WRITE>::default(), T::new_zeroed());
    let place = array.element::<T>(call.domain, GuestVa::new(call.args[1]))?;
    place.read_into(&mut arg)?;
    let port = open(arg)?;
    // The port is new, so closing it cannot fail but for the guest closing it first.
    let undo = |_: &XenError| close(call.kernel, call.domain, port).unwrap_or_default();
    place.write(size_of::<T>() - size_of::<Port>(), &port).inspect_err(undo)
}

/// Whether each vCPU has this virtual interrupt for itself, or the domain has it once (Xen public/xen.h).
fn is_per_vcpu(virq: u32) -> bool {
    matches!(Virq::from_raw(virq), Some(Virq::Timer | Virq::Debug | Virq::Xenoprof | Virq::Xenpmu))
}

/// A port that announces a virtual interrupt; `EEXIST` if there is one already. Of two vCPUs that bind the same one at
/// the same time both may get a port: events go to the lower.
fn bind_virq<H: Hw>(domain: &Domain<H>, virq: u32, vcpu: VcpuId) -> Result<Port, XenError> {
    let known = Virq::from_raw(virq).ok_or(XenError::Inval)?;
    domain.vcpu(vcpu).ok_or(XenError::NoEnt)?;
    let global = !is_per_vcpu(virq);
    if global && vcpu != VcpuId(0) {
        return Err(XenError::Inval);
    }
    if global && known != Virq::Argo && !domain.is_privileged() {
        return Err(XenError::Perm);
    }
    let binding = Binding::Virq(virq);
    if domain.events.ports().any(|(_, state)| state.binding == binding && (global || state.vcpu == vcpu)) {
        return Err(XenError::Exist);
    }
    domain.events.open(binding, vcpu)
}

/// Connects a new port of `domain` to the unbound `far` port of `remote`, and makes the new port pending, since the
/// far end may have sent before (Xen does so too).
// Out of line, so that the others do not save registers for it.
#[inline(never)]
pub(super) fn bind_interdomain<H: Hw>(
    kernel: &Kernel<H>,
    domain: &Domain<H>,
    remote: &Domain<H>,
    far: Port,
) -> Result<Port, XenError> {
    let far_entry = remote.events.port(far)?;
    let there = Binding::Interdomain(remote.id, far);
    let near = domain.events.open(there, FIRST_VCPU)?;
    let here = Binding::Interdomain(domain.id, near);
    if !far_entry.rebind(Binding::Unbound(domain.id), here) {
        close(kernel, domain, near)?;
        return Err(XenError::Inval);
    }
    // If ours is another one by now, and the far end still names it, another vCPU has closed it before the far end did so.
    // Else the far end was closed, and ours is what a closed channel leaves.
    if domain.events.port(near)?.load().binding != there && far_entry.rebind(here, Binding::Unbound(domain.id)) {
        return Err(XenError::Inval);
    }
    pend(kernel, domain, near, FIRST_VCPU);
    Ok(near)
}

/// Closes a port; the far end of a connected one waits for a new connection from this domain.
pub fn close<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) -> Result<(), XenError> {
    let entry = domain.events.port(port)?;
    let mut table = domain.events.table.lock();
    let binding = entry.free().ok_or(XenError::Inval)?;
    // Whoever opens it next has to wait for this, and finds nothing pending.
    let (pending, bit) = bit_of(domain, layout::EVTCHN_PENDING, port);
    H::clear_bits64(pending, bit);
    table.lowest = port.0.min(table.lowest);
    drop(table);
    if let Binding::Interdomain(remote, far) = binding
        && let Some(remote) = kernel.domains.get(remote)
        && let Ok(entry) = remote.events.port(far)
        // Fails if the far end was closed meanwhile, or never came to name this one.
        && entry.rebind(Binding::Interdomain(domain.id, port), Binding::Unbound(domain.id))
    {
        // Behind that, whoever asks for a device that was served through here finds nobody.
        ioreq::forsake(kernel, &remote, far);
    }
    Ok(())
}

/// Closes up to `budget` ports; true when none is left. It starts at the lowest port each time, so that it needs to
/// remember nothing between two stretches.
pub fn close_all<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, budget: usize) -> bool {
    let open = domain.events.ports().filter(|(_, state)| state.binding != Binding::Free);
    open.filter(|(port, _)| close(kernel, domain, *port).is_ok()).take(budget).count() < budget
}

/// The caller may name only itself; what else there is to name goes through the control calls.
fn own<H: Hw>(domain: &Domain<H>, id: DomId) -> Result<(), XenError> {
    if domain.resolve(id) == domain.id { Ok(()) } else { Err(XenError::Perm) }
}

/// Chooses the vCPU that a port notifies. A virtual interrupt of one vCPU and an IPI stay as they are.
fn bind_vcpu<H: Hw>(domain: &Domain<H>, port: Port, vcpu: VcpuId) -> Result<(), XenError> {
    domain.vcpu(vcpu).ok_or(XenError::NoEnt)?;
    let moved = domain.events.port(port)?.update(|state| {
        let may_move = match state.binding {
            Binding::Unbound(_) | Binding::Interdomain(..) => true,
            Binding::Virq(virq) => !is_per_vcpu(virq),
            Binding::Free | Binding::Ipi => false,
        };
        may_move.then_some(PortState { vcpu, ..state })
    });
    moved.map(drop).ok_or(XenError::Inval)
}
