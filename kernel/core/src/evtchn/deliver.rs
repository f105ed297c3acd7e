//! Making an event pending: from a port to the bits that the guest reads and the interrupt that tells it.

use core::sync::atomic::Ordering;

use hypercall_abi::arm::GUEST_EVTCHN_PPI;
use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::{DomId, Port};
use hypercall_abi::shared_info::{bitmap_position, layout, vcpu_info};

use super::port::Binding;
use crate::addr::Pa;
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::vcpu::Vcpu;

/// Notifies the other end of `port`, as `EVTCHNOP_send` does.
///
/// The far port is looked at after the near one is unlocked. If it is closed in between and used for something
/// else, its new owner sees an event too many, which the ABI allows.
pub fn send<H: Hw>(kernel: &Kernel<H>, domain: &H::Shared<Domain<H>>, port: Port) -> Result<(), XenError> {
    let state = *domain.events.port(port)?.0.lock();
    match state.binding {
        Binding::Interdomain(remote, far) if remote == domain.id => pend(kernel, domain, far),
        Binding::Interdomain(remote, far) => {
            let remote = kernel.domains.get(remote).ok_or(XenError::Inval)?;
            pend(kernel, &remote, far)
        }
        Binding::Ipi => pend(kernel, domain, port),
        // Xen accepts a send on a port that nobody has connected to yet: there is nobody to tell.
        Binding::Unbound(_) => Ok(()),
        Binding::Closed | Binding::Virq(_) => Err(XenError::Inval),
    }
}

/// Makes `port` of `domain` pending and notifies its vCPU.
pub(super) fn pend<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) -> Result<(), XenError> {
    let (word, bit) = bitmap_position(port).ok_or(XenError::Inval)?;
    let state = *domain.events.port(port)?.0.lock();
    if state.binding == Binding::Closed {
        return Ok(());
    }
    if let Some(uart) = domain.vuart.as_ref().filter(|uart| uart.port() == Some(port)) {
        // The emulated UART is the one that listens here, not the guest.
        uart.on_event(kernel, domain);
        return Ok(());
    }
    let pending = word_at(domain.shared_info.pa(), layout::EVTCHN_PENDING, word);
    // A port that is pending already has told its vCPU, or will when it is unmasked.
    if H::load64(pending) & (1 << bit) != 0 || H::set_bits64(pending, 1 << bit) & (1 << bit) != 0 {
        return Ok(());
    }
    let Some(vcpu) = domain.vcpu(state.vcpu) else { return Ok(()) };
    let masked = H::load64(word_at(domain.shared_info.pa(), layout::EVTCHN_MASK, word)) & (1 << bit) != 0;
    if !masked {
        select(kernel, vcpu, word);
    }
    if domain.pollers.load(Ordering::Acquire) != 0 {
        end_polls(kernel, domain, port);
    }
    Ok(())
}

/// Takes the mask off `port`; delivers it if it is pending.
pub(super) fn unmask<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) -> Result<(), XenError> {
    let (word, bit) = bitmap_position(port).ok_or(XenError::Inval)?;
    let state = *domain.events.port(port)?.0.lock();
    if state.binding == Binding::Closed {
        return Err(XenError::Inval);
    }
    let was_masked = H::clear_bits64(word_at(domain.shared_info.pa(), layout::EVTCHN_MASK, word), 1 << bit);
    let pending = H::load64(word_at(domain.shared_info.pa(), layout::EVTCHN_PENDING, word));
    if was_masked & pending & (1 << bit) != 0
        && let Some(vcpu) = domain.vcpu(state.vcpu)
    {
        select(kernel, vcpu, word);
    }
    Ok(())
}

/// Whether `port` is pending.
pub fn is_pending<H: Hw>(domain: &Domain<H>, port: Port) -> bool {
    bitmap_position(port).is_some_and(|(word, bit)| {
        H::load64(word_at(domain.shared_info.pa(), layout::EVTCHN_PENDING, word)) & (1 << bit) != 0
    })
}

/// Clears the pending bit of a port that is being closed or opened, and masks nothing.
pub(super) fn forget<H: Hw>(domain: &Domain<H>, port: Port) {
    if let Some((word, bit)) = bitmap_position(port) {
        H::clear_bits64(word_at(domain.shared_info.pa(), layout::EVTCHN_PENDING, word), 1 << bit);
    }
}

/// Tells `vcpu` to look at `word` of the pending bits.
fn select<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>, word: usize) {
    // A vCPU without a vcpu_info cannot take events yet; it is told to look at everything when it registers one.
    let Some(info) = vcpu.info() else { return };
    let bit = 1u64 << (word % 64);
    if H::set_bits64(info.add(vcpu_info::PENDING_SEL as u64), bit) & bit == 0 {
        upcall(kernel, vcpu, info);
    }
}

fn upcall<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>, info: Pa) {
    const _: () = assert!(vcpu_info::UPCALL_PENDING == 0, "the flag is the low byte of the first word");
    if H::set_bits64(info, 1) & 0xff == 0 && vcpu.gic.raise(GUEST_EVTCHN_PPI) {
        kernel.notify(vcpu);
    }
}

/// Tells `vcpu` to look at everything: its vcpu_info has just moved.
pub fn mark_vcpu_pending<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>) {
    if let Some(info) = vcpu.info() {
        H::set_bits64(info.add(vcpu_info::PENDING_SEL as u64), u64::MAX);
        H::set_bits64(info, 1);
        if vcpu.gic.raise(GUEST_EVTCHN_PPI) {
            kernel.notify(vcpu);
        }
    }
}

/// Wakes the vCPUs that poll for `port`, whichever of them it notifies, or for several ports.
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

/// Raises a virtual interrupt that only the control domain has.
pub fn send_global_virq<H: Hw>(kernel: &Kernel<H>, virq: Virq) {
    let Some(domain) = kernel.domains.get(DomId::DOM0) else { return };
    let port = domain.events.global_virqs.lock().get(virq as usize).copied().unwrap_or(0);
    if port != 0 {
        // As above: a port that has just been closed has nobody to tell.
        let _ = pend(kernel, &domain, Port(port));
    }
}

fn word_at(page: Pa, offset: usize, word: usize) -> Pa {
    page.add(offset as u64 + 8 * word as u64)
}
