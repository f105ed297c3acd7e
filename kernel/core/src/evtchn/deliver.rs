//! Making an event pending: from a port to the bits that the guest reads and the interrupt that tells it.

use core::sync::atomic::Ordering;

use hypercall_abi::arm::GUEST_EVTCHN_PPI;
use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::{DomId, Port};
use hypercall_abi::shared_info::{bitmap_position, layout, vcpu_info};

use super::bind::virq_slot;
use super::port::{Binding, Listener, PortEntry};
use crate::addr::Pa;
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::vcpu::Vcpu;

/// Notifies the other end of `port`, as `EVTCHNOP_send` does.
pub fn send<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) -> Result<(), XenError> {
    let state = domain.events.port(port)?.load();
    match state.binding {
        Binding::Interdomain(remote, far) if remote == domain.id => pend_far(kernel, domain, far, domain.id, port),
        Binding::Interdomain(remote, far) => {
            let remote = kernel.domains.get(remote).ok_or(XenError::Inval)?;
            pend_far(kernel, &remote, far, domain.id, port)
        }
        Binding::Ipi => {
            pend(kernel, domain, port, state.listener);
            Ok(())
        }
        // Xen accepts a send on a port that nobody has connected to yet: there is nobody to tell.
        Binding::Unbound(_) => Ok(()),
        Binding::Free | Binding::Changing | Binding::Virq(_) => Err(XenError::Inval),
    }
}

/// Makes the far end of a channel pending, if it still is one.
#[inline]
fn pend_far<H: Hw>(kernel: &Kernel<H>, remote: &Domain<H>, far: Port, from: DomId, port: Port) -> Result<(), XenError> {
    let state = remote.events.port(far)?.load();
    if state.binding == Binding::Interdomain(from, port) {
        pend(kernel, remote, far, state.listener);
    }
    Ok(())
}

/// Makes `port` of `domain` pending and notifies its listener: the one place where a port becomes pending.
#[inline]
pub(super) fn pend<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port, listener: Listener) {
    let vcpu = match (listener, &domain.vuart) {
        (Listener::Vcpu(vcpu), _) => vcpu,
        (Listener::Uart, Some(uart)) => return uart.on_event(kernel, domain),
        (Listener::Uart, None) => return,
    };
    let Some(bits) = Bits::of(domain, port) else { return };
    // A port that is pending already has told its vCPU, or will when it is unmasked.
    if bits.is_pending::<H>() || H::set_bits64(bits.pending, bits.bit) & bits.bit != 0 {
        return;
    }
    if H::load64(bits.mask) & bits.bit == 0
        && let Some(vcpu) = domain.vcpu(vcpu)
    {
        tell(kernel, vcpu, bits.selector);
    }
    if domain.pollers.load(Ordering::Acquire) != 0 {
        end_polls(kernel, domain, port);
    }
}

/// Takes the mask off `port`, which is `entry`; delivers it if it is pending.
pub(super) fn unmask<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port, entry: &PortEntry) {
    let Some(bits) = Bits::of(domain, port) else { return };
    let was_masked = H::clear_bits64(bits.mask, bits.bit) & bits.bit != 0;
    if was_masked
        && bits.is_pending::<H>()
        && let Listener::Vcpu(vcpu) = entry.load().listener
        && let Some(vcpu) = domain.vcpu(vcpu)
    {
        tell(kernel, vcpu, bits.selector);
    }
}

/// Whether `port` is pending.
pub fn is_pending<H: Hw>(domain: &Domain<H>, port: Port) -> bool {
    Bits::of(domain, port).is_some_and(|bits| bits.is_pending::<H>())
}

/// Clears the pending bit of a port that is being closed or opened, and masks nothing.
pub(super) fn forget<H: Hw>(domain: &Domain<H>, port: Port) {
    if let Some(bits) = Bits::of(domain, port) {
        H::clear_bits64(bits.pending, bits.bit);
    }
}

/// Where the shared page has the bits of a port.
struct Bits {
    /// The words, and the bit in them.
    pending: Pa,
    mask: Pa,
    bit: u64,
    /// The bit that stands for the words in a vCPU's selector.
    selector: u64,
}

impl Bits {
    #[inline]
    fn of<H: Hw>(domain: &Domain<H>, port: Port) -> Option<Self> {
        let (word, bit) = bitmap_position(port)?;
        let at = |bitmap: usize| domain.shared_info.pa().add((bitmap + 8 * word) as u64);
        let (pending, mask) = (at(layout::EVTCHN_PENDING), at(layout::EVTCHN_MASK));
        Some(Bits { pending, mask, bit: 1 << bit, selector: 1 << (word % 64) })
    }

    fn is_pending<H: Hw>(&self) -> bool {
        H::load64(self.pending) & self.bit != 0
    }
}

/// Tells `vcpu` to look at the words of `selector`, if it was not told yet.
fn tell<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>, selector: u64) {
    const _: () = assert!(vcpu_info::UPCALL_PENDING == 0, "the flag is the low byte of the first word");
    // A vCPU without a vcpu_info cannot take events yet; it is told to look at everything when it registers one.
    let Some(info) = vcpu.info() else { return };
    if H::set_bits64(info.add(vcpu_info::PENDING_SEL as u64), selector) & selector != selector
        && H::set_bits64(info, 1) & 0xFF == 0
        && vcpu.gic.raise(GUEST_EVTCHN_PPI)
    {
        kernel.notify(vcpu);
    }
}

/// Tells `vcpu` to look at everything: its vcpu_info has just moved.
pub fn mark_vcpu_pending<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>) {
    tell(kernel, vcpu, u64::MAX);
}

/// Wakes the vCPUs that poll for `port`, whichever of them it notifies, or for several ports.
#[cold]
fn end_polls<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) {
    for vcpu in domain.vcpus() {
        let polled = vcpu.polling.load(Ordering::Acquire);
        if polled == crate::sched_op::POLL_ANY || polled == port.0 + 1 {
            domain.pollers.fetch_and(!(1 << vcpu.id.0), Ordering::SeqCst);
            vcpu.end_poll();
            kernel.notify(vcpu);
        }
    }
}

/// The port that announces a virtual interrupt to the domain as a whole.
pub fn virq_port<H: Hw>(domain: &Domain<H>, virq: Virq) -> Option<Port> {
    let slot = virq_slot(domain, virq as u32, Listener::Uart)?;
    Some(Port(slot.load(Ordering::Acquire))).filter(|port| port.0 != 0)
}

/// Raises a virtual interrupt that only the control domain has.
pub fn send_global_virq<H: Hw>(kernel: &Kernel<H>, virq: Virq) {
    if let Some(domain) = kernel.domains.get(DomId::DOM0)
        && let Some(port) = virq_port(&domain, virq)
        && let Ok(state) = domain.events.port(port).map(PortEntry::load)
        && state.binding == Binding::Virq(virq as u32)
    {
        pend(kernel, &domain, port, state.listener);
    }
}
