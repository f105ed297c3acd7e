//! Opening and closing ports.

use core::sync::atomic::Ordering;

use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::{DomId, Port, VcpuId};

use super::deliver::{forget, pend};
use super::port::{Binding, PortEntry, PortState};
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;

/// Times that closing looks again when the far end changes under it.
const RETRIES: usize = 8;

fn open<H: Hw>(domain: &Domain<H>, binding: Binding, vcpu: VcpuId) -> Result<Port, XenError> {
    let port = domain.events.allocate()?;
    forget(domain, port);
    *domain.events.port(port)?.0.lock() = PortState { binding, vcpu };
    Ok(port)
}

/// A port of `domain` that `remote` may connect to.
pub fn alloc_unbound<H: Hw>(domain: &Domain<H>, remote: DomId) -> Result<Port, XenError> {
    open(domain, Binding::Unbound(remote), VcpuId(0))
}

/// A port for notifications to `vcpu` from within the domain.
pub(super) fn bind_ipi<H: Hw>(domain: &Domain<H>, vcpu: VcpuId) -> Result<Port, XenError> {
    domain.vcpu(vcpu).ok_or(XenError::NoEnt)?;
    open(domain, Binding::Ipi, vcpu)
}

/// Whether each vCPU has this virtual interrupt for itself, or the domain has it once (Xen public/xen.h).
fn is_per_vcpu(virq: Virq) -> bool {
    matches!(virq, Virq::Timer | Virq::Debug | Virq::Xenoprof | Virq::Xenpmu)
}

/// A port that announces a virtual interrupt; `EEXIST` if there is one already.
pub(super) fn bind_virq<H: Hw>(domain: &Domain<H>, virq: u32, vcpu: VcpuId) -> Result<Port, XenError> {
    let virq = Virq::from_raw(virq).ok_or(XenError::Inval)?;
    let target = domain.vcpu(vcpu).ok_or(XenError::NoEnt)?;
    let port = if is_per_vcpu(virq) {
        let slot = target.virqs.get(virq as usize).ok_or(XenError::Inval)?;
        let port = open(domain, Binding::Virq(virq as u32), vcpu)?;
        if slot.compare_exchange(0, port.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            discard(domain, port);
            return Err(XenError::Exist);
        }
        port
    } else {
        if vcpu != VcpuId(0) {
            return Err(XenError::Inval);
        }
        if virq != Virq::Argo && !domain.is_privileged() {
            return Err(XenError::Perm);
        }
        let port = open(domain, Binding::Virq(virq as u32), vcpu)?;
        let mut virqs = domain.events.global_virqs.lock();
        match virqs.get_mut(virq as usize) {
            Some(slot) if *slot == 0 => *slot = port.0,
            Some(_) | None => {
                drop(virqs);
                discard(domain, port);
                return Err(XenError::Exist);
            }
        }
        port
    };
    Ok(port)
}

/// Closes a port that was opened but never became known.
fn discard<H: Hw>(domain: &Domain<H>, port: Port) {
    if let Ok(entry) = domain.events.port(port) {
        entry.0.lock().binding = Binding::Closed;
        domain.events.free(port);
    }
}

/// Runs `with` on the two states, locked in the order of their addresses.
fn lock_both<R>(
    near: &PortEntry,
    far: &PortEntry,
    with: impl FnOnce(&mut PortState, &mut PortState) -> R,
) -> Option<R> {
    if core::ptr::eq(near, far) {
        return None;
    }
    if core::ptr::from_ref(near) < core::ptr::from_ref(far) {
        let mut near = near.0.lock();
        let mut far = far.0.lock();
        Some(with(&mut near, &mut far))
    } else {
        let mut far = far.0.lock();
        let mut near = near.0.lock();
        Some(with(&mut near, &mut far))
    }
}

/// Connects a new port of `domain` to the unbound `far` port of `remote`, and makes the new port pending, since the
/// far end may have sent before (Xen does so too).
pub(super) fn bind_interdomain<H: Hw>(
    kernel: &Kernel<H>,
    domain: &Domain<H>,
    remote: &Domain<H>,
    far: Port,
) -> Result<Port, XenError> {
    let far_entry = remote.events.port(far)?;
    let near = open(domain, Binding::Closed, VcpuId(0))?;
    let bound = domain.events.port(near).and_then(|near_entry| {
        lock_both(near_entry, far_entry, |near_state, far_state| {
            if far_state.binding != Binding::Unbound(domain.id) {
                return Err(XenError::Inval);
            }
            near_state.binding = Binding::Interdomain(remote.id, far);
            far_state.binding = Binding::Interdomain(domain.id, near);
            Ok(())
        })
        .unwrap_or(Err(XenError::Inval))
    });
    if let Err(error) = bound {
        discard(domain, near);
        return Err(error);
    }
    pend(kernel, domain, near)?;
    Ok(near)
}

/// Closes a port; the far end of a connected one waits for a new connection from this domain.
pub fn close<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) -> Result<(), XenError> {
    let entry = domain.events.port(port)?;
    for _ in 0..RETRIES {
        let seen = entry.0.lock().binding;
        match seen {
            Binding::Closed => return Err(XenError::Inval),
            Binding::Interdomain(remote, far) => {
                if !disconnect(kernel, domain, entry, port, remote, far) {
                    continue;
                }
            }
            Binding::Unbound(_) | Binding::Virq(_) | Binding::Ipi => {
                let mut state = entry.0.lock();
                if state.binding != seen {
                    continue;
                }
                state.binding = Binding::Closed;
            }
        }
        if let Binding::Virq(virq) = seen {
            forget_virq(domain, virq, port);
        }
        forget(domain, port);
        domain.events.free(port);
        return Ok(());
    }
    Err(XenError::Again)
}

/// Closes the near end and leaves the far end unbound; false if the near end has changed meanwhile.
fn disconnect<H: Hw>(
    kernel: &Kernel<H>,
    domain: &Domain<H>,
    entry: &PortEntry,
    port: Port,
    remote_id: DomId,
    far: Port,
) -> bool {
    let connected = Binding::Interdomain(remote_id, far);
    let remote = kernel.domains.get(remote_id);
    let far_entry = remote.as_ref().and_then(|remote| remote.events.port(far).ok());
    let together = far_entry.and_then(|far_entry| {
        lock_both(entry, far_entry, |near_state, far_state| {
            if near_state.binding != connected {
                return false;
            }
            near_state.binding = Binding::Closed;
            if far_state.binding == Binding::Interdomain(domain.id, port) {
                far_state.binding = Binding::Unbound(domain.id);
            }
            true
        })
    });
    together.unwrap_or_else(|| {
        let mut state = entry.0.lock();
        let same = state.binding == connected;
        if same {
            state.binding = Binding::Closed;
        }
        same
    })
}

fn forget_virq<H: Hw>(domain: &Domain<H>, virq: u32, port: Port) {
    for vcpu in domain.vcpus() {
        if let Some(slot) = vcpu.virqs.get(virq as usize) {
            // Fails where another vCPU's port stands, which stays.
            let _ = slot.compare_exchange(port.0, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
    let mut virqs = domain.events.global_virqs.lock();
    if let Some(slot) = virqs.get_mut(virq as usize)
        && *slot == port.0
    {
        *slot = 0;
    }
}

/// Closes up to `budget` ports; true when none is left. It starts at the lowest port each time, so that it needs to
/// remember nothing between two stretches.
pub fn close_all<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, budget: u32) -> bool {
    let mut from = Port(1);
    for _ in 0..budget {
        let Some(port) = domain.events.next_taken(from) else { return true };
        // Fails also for a port that another vCPU is opening or closing right now, which is not there for us.
        if close(kernel, domain, port) == Err(XenError::Again) {
            return false;
        }
        from = Port(port.0 + 1);
    }
    false
}
