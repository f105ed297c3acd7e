//! Making an event pending: from a port to the bits that the guest reads and the interrupt that tells it.

use hypercall_abi::arm::GUEST_EVTCHN_PPI;
use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::{DomId, Port, VcpuId};
use hypercall_abi::shared_info::{layout, vcpu_info};

use super::{Binding, fifo};
use crate::addr::Pa;
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::sync::Ordering;
use crate::vcpu::Vcpu;

/// Notifies the other end of `port`, as `EVTCHNOP_send` does.
#[inline(always)]
pub fn send<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) -> Result<(), XenError> {
    let state = domain.events.port(port)?.load();
    match state.binding {
        Binding::Interdomain(remote, far) if remote == domain.id => cross(kernel, domain, port, domain, far)?,
        Binding::Interdomain(remote, far) => {
            let remote = kernel.domains.get(remote).ok_or(XenError::Inval)?;
            cross(kernel, domain, port, &remote, far)?;
        }
        Binding::Ipi => pend(kernel, domain, port, state.vcpu),
        // Xen accepts a send on a port that nobody has connected to yet: there is nobody to tell.
        Binding::Unbound(_) => {}
        Binding::Free | Binding::Virq(_) => return Err(XenError::Inval),
    }
    Ok(())
}

/// Notifies the far end of a port.
#[inline(always)]
fn cross<H: Hw>(
    kernel: &Kernel<H>,
    domain: &Domain<H>,
    port: Port,
    remote: &Domain<H>,
    far: Port,
) -> Result<(), XenError> {
    // If it does not name us, it was closed just now, and it may be somebody else's already.
    if let Some(vcpu) = remote.events.port(far)?.bound_to(Binding::Interdomain(domain.id, port)) {
        pend(kernel, remote, far, vcpu);
    }
    Ok(())
}

/// Makes `port` of `domain` pending and notifies its vCPU: the one place where a port becomes pending.
#[inline(always)]
pub(super) fn pend<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port, vcpu: VcpuId) {
    // A port that is pending already has told its vCPU, or will when it is unmasked; with the FIFO ABI none is, here. What
    // the sender wrote is visible by this look, since letting go of the call's argument or of a lock has released it, and
    // `load64` stays behind that.
    let (pending, bit) = bit_of(domain, layout::EVTCHN_PENDING, port);
    if H::load64(pending) & bit == 0 {
        notify(kernel, domain, port, vcpu);
    }
}

#[inline(never)]
fn notify<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port, vcpu: VcpuId) {
    if domain.events.is_fifo() {
        return fifo::raise(kernel, domain, port, vcpu, false);
    }
    let (pending, bit) = bit_of(domain, layout::EVTCHN_PENDING, port);
    if H::set_bits64(pending, bit) & bit != 0 {
        return;
    }
    if domain.pollers.load(Ordering::SeqCst) != 0 {
        return notify_pollers(kernel, domain, port, vcpu);
    }
    announce(kernel, domain, port, vcpu);
}

/// Tells the vCPU of a pending port, unless the port is masked.
#[inline(always)]
fn announce<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port, vcpu: VcpuId) {
    let (mask, bit) = bit_of(domain, layout::EVTCHN_MASK, port);
    if H::load64(mask) & bit != 0 {
        // All are masked once the guest has gone over to the other ABI: then the event goes there.
        if domain.events.is_fifo() {
            H::clear_bits64(bit_of(domain, layout::EVTCHN_PENDING, port).0, bit);
            fifo::raise(kernel, domain, port, vcpu, false);
        }
    } else if let Some(vcpu) = domain.vcpu(vcpu) {
        tell(kernel, vcpu, 1u64.rotate_left(port.0 / 64));
    }
}

/// Takes the mask off `port`; delivers it if it is pending.
pub(super) fn unmask<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) -> Result<(), XenError> {
    let state = domain.events.port(port)?.load();
    if state.binding == Binding::Free {
        return Err(XenError::Inval);
    }
    if domain.events.is_fifo() {
        fifo::raise(kernel, domain, port, state.vcpu, true);
        return Ok(());
    }
    let (mask, bit) = bit_of(domain, layout::EVTCHN_MASK, port);
    let was_masked = H::clear_bits64(mask, bit) & bit != 0;
    if was_masked && is_pending(domain, port) {
        announce(kernel, domain, port, state.vcpu);
    }
    Ok(())
}

/// Whether `port` is pending.
pub fn is_pending<H: Hw>(domain: &Domain<H>, port: Port) -> bool {
    if domain.events.is_fifo() {
        return fifo::is_pending(domain, port);
    }
    let (pending, bit) = bit_of(domain, layout::EVTCHN_PENDING, port);
    H::load64(pending) & bit != 0
}

/// The word of a bitmap in the shared page that has the bit of a port, which the domain has, and the bit.
pub(super) fn bit_of<H: Hw>(domain: &Domain<H>, bitmap: usize, port: Port) -> (Pa, u64) {
    let word = u64::from(port.0) / 64 % layout::EVTCHN_WORDS as u64;
    (domain.shared_info.pa().add(bitmap as u64 + 8 * word), 1u64.rotate_left(port.0))
}

/// Tells `vcpu` to look at the words of `selector`, a bit for each 64 ports, if it was not told yet.
pub fn tell<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>, selector: u64) {
    const _: () = assert!(vcpu_info::UPCALL_PENDING == 0, "the flag is the low byte of the first word");
    // A vCPU without a vcpu_info cannot take events yet; it is told to look at everything when it registers one.
    let Some(info) = vcpu.info() else { return };
    if H::set_bits64(info.add(vcpu_info::PENDING_SEL as u64), selector) & selector != selector {
        interrupt(kernel, vcpu, info);
    }
}

/// Tells `vcpu`, whose vcpu_info is there, that there are events, if it does not know yet.
#[inline(always)]
pub(super) fn interrupt<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>, info: Pa) {
    if H::set_bits64(info, 1) & 0xFF == 0 && vcpu.gic.raise::<H>(GUEST_EVTCHN_PPI) {
        kernel.notify(vcpu);
    }
}

/// Wakes those who poll for `port`. Then all is as without them: so the caller has nothing left to do, and saves no
/// registers for this.
#[cold]
#[inline(never)]
fn notify_pollers<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port, vcpu: VcpuId) {
    end_polls(kernel, domain, port);
    announce(kernel, domain, port, vcpu);
}

/// Wakes the vCPUs that poll for `port`, whichever of them it notifies, or for several ports.
#[cold]
pub(super) fn end_polls<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) {
    for vcpu in domain.vcpus() {
        let polled = vcpu.polling.load(Ordering::SeqCst);
        if polled == crate::sched_op::POLL_ANY || polled == port.0 + 1 {
            domain.pollers.fetch_and(!(1 << vcpu.id.0), Ordering::SeqCst);
            vcpu.end_poll();
            kernel.notify(vcpu);
        }
    }
}

/// Raises a virtual interrupt that only the control domain has; false if it has bound no port to that.
pub fn send_global_virq<H: Hw>(kernel: &Kernel<H>, virq: Virq) -> bool {
    let Some(dom0) = kernel.domains.get(DomId::DOM0) else { return false };
    let bound = dom0.events.ports().find(|(_, state)| state.binding == Binding::Virq(virq as u32));
    bound.inspect(|(port, state)| pend(kernel, &dom0, *port, state.vcpu)).is_some()
}
