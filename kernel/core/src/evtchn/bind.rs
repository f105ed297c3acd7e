//! Opening and closing ports.

use core::sync::atomic::{AtomicU32, Ordering};

use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::{DomId, Port, VcpuId};

use super::deliver::{forget, pend};
use super::{Binding, PortState};
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;

const FIRST_VCPU: Option<VcpuId> = Some(VcpuId(0));

/// Opens the lowest free port, once `bind` has said to what.
fn open<H: Hw>(
    domain: &Domain<H>,
    vcpu: Option<VcpuId>,
    bind: impl FnOnce(Port) -> Result<Binding, XenError>,
) -> Result<Port, XenError> {
    let (port, entry) = domain.events.take()?;
    let binding = bind(port).inspect_err(|_| domain.events.free(port, entry))?;
    entry.store(PortState { binding, vcpu });
    Ok(port)
}

/// A port of `domain` that `remote` may connect to.
pub fn alloc_unbound<H: Hw>(domain: &Domain<H>, remote: DomId) -> Result<Port, XenError> {
    open(domain, FIRST_VCPU, |_| Ok(Binding::Unbound(remote)))
}

/// The same, where the domain's emulated UART listens instead of the domain.
pub fn alloc_for_uart<H: Hw>(domain: &Domain<H>, remote: DomId) -> Result<Port, XenError> {
    open(domain, None, |_| Ok(Binding::Unbound(remote)))
}

/// A port for notifications to `vcpu` from within the domain.
pub(super) fn bind_ipi<H: Hw>(domain: &Domain<H>, vcpu: VcpuId) -> Result<Port, XenError> {
    domain.vcpu(vcpu).ok_or(XenError::NoEnt)?;
    open(domain, Some(vcpu), |_| Ok(Binding::Ipi))
}

/// Whether each vCPU has this virtual interrupt for itself, or the domain has it once (Xen public/xen.h).
pub(super) fn is_per_vcpu(virq: u32) -> bool {
    matches!(Virq::from_raw(virq), Some(Virq::Timer | Virq::Debug | Virq::Xenoprof | Virq::Xenpmu))
}

/// Where the port of a virtual interrupt is noted: with its vCPU, or with the first one for the whole domain.
pub(super) fn virq_slot<H: Hw>(domain: &Domain<H>, virq: u32, vcpu: Option<VcpuId>) -> Option<&AtomicU32> {
    let vcpu = vcpu.filter(|_| is_per_vcpu(virq)).unwrap_or(VcpuId(0));
    domain.vcpu(vcpu)?.virqs.get(usize::try_from(virq).ok()?)
}

/// A port that announces a virtual interrupt; `EEXIST` if there is one already.
pub fn bind_virq<H: Hw>(domain: &Domain<H>, virq: u32, vcpu: VcpuId) -> Result<Port, XenError> {
    let known = Virq::from_raw(virq).ok_or(XenError::Inval)?;
    domain.vcpu(vcpu).ok_or(XenError::NoEnt)?;
    if !is_per_vcpu(virq) {
        if vcpu != VcpuId(0) {
            return Err(XenError::Inval);
        }
        if known != Virq::Argo && !domain.is_privileged() {
            return Err(XenError::Perm);
        }
    }
    let slot = virq_slot(domain, virq, Some(vcpu)).ok_or(XenError::Inval)?;
    open(domain, Some(vcpu), |port| {
        let noted = slot.compare_exchange(0, port.0, Ordering::AcqRel, Ordering::Relaxed);
        noted.map(|_| Binding::Virq(virq)).map_err(|_| XenError::Exist)
    })
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
    let there = Binding::Interdomain(remote.id, far);
    let near = open(domain, FIRST_VCPU, |near| {
        let connected = far_entry.rebind(Binding::Unbound(domain.id), Binding::Interdomain(domain.id, near));
        if connected { Ok(there) } else { Err(XenError::Inval) }
    })?;
    if far_entry.load().binding != Binding::Interdomain(domain.id, near) {
        // Closed before it could see that we are connected: we are what a closed channel leaves.
        domain.events.port(near)?.rebind(there, Binding::Unbound(remote.id));
    }
    pend(kernel, domain, near, FIRST_VCPU);
    Ok(near)
}

/// Closes a port; the far end of a connected one waits for a new connection from this domain.
pub fn close<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) -> Result<(), XenError> {
    let entry = domain.events.port(port)?;
    let was = entry.begin_close().ok_or(XenError::Inval)?;
    match was.binding {
        Binding::Interdomain(remote, far) => {
            let remote = kernel.domains.get(remote);
            if let Some(Ok(far)) = remote.as_ref().map(|remote| remote.events.port(far)) {
                // Fails if the far end was closed meanwhile, or never came to name this one.
                far.rebind(Binding::Interdomain(domain.id, port), Binding::Unbound(domain.id));
            }
        }
        Binding::Virq(virq) => {
            if let Some(slot) = virq_slot(domain, virq, was.vcpu) {
                slot.store(0, Ordering::Release);
            }
        }
        Binding::Free | Binding::Changing | Binding::Unbound(_) | Binding::Ipi => {}
    }
    forget(domain, port);
    domain.events.free(port, entry);
    Ok(())
}

/// Closes up to `budget` ports; true when none is left. It starts at the lowest port each time, so that it needs to
/// remember nothing between two stretches.
pub fn close_all<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, budget: usize) -> bool {
    // A port that another vCPU is opening or closing right now is not there for us.
    domain.events.ports().filter(|(port, _)| close(kernel, domain, *port).is_ok()).take(budget).count() < budget
}
