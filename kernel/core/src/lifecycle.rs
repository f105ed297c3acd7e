//! The life of a domain: made, started, paused, shut down, crashed, destroyed.

use hypercall_abi::arm::{PSR_GUEST64_INIT, SCTLR_GUEST_INIT};
use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::{DomId, VcpuId};
use hypercall_abi::sched::ShutdownReason;

use crate::context::TrapFrame;
use crate::domain::{Domain, MAX_VCPUS};
use crate::evtchn::{close_all, send_global_virq};
use crate::frame::OutOfFrames;
use crate::grant;
use crate::hw::{Hw, Ticks};
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::vcpu::{OFFLINE, PAUSED, STOPPED, Vcpu};
use crate::vgic::{GicLayout, VcpuGic};

/// Ports that one stretch of a destruction closes.
const PORT_STRETCH: u32 = 128;
/// Pages that one stretch of a destruction returns.
const PAGE_STRETCH: u32 = 2048;

/// What a new domain is to be like.
pub struct Blueprint {
    /// Its UUID.
    pub uuid: [u8; 16],
    /// vCPUs.
    pub vcpus: u32,
    /// Pages that it may own.
    pub max_pages: u64,
    /// Frames of its grant table.
    pub max_grant_frames: u32,
    /// Ports.
    pub max_ports: u32,
    /// Whether it has an emulated UART.
    pub vuart: bool,
    /// Where its GIC lies.
    pub gic: GicLayout,
    /// Shared interrupts that its GIC has.
    pub spis: u32,
    /// Whether IPA equals PA.
    pub direct_mapped: bool,
    /// Whether it holds the platform's capability.
    pub privileged: bool,
}

impl<H: Hw> Kernel<H> {
    /// Makes a domain: paused once, without memory, its vCPUs offline.
    pub fn create(&self, blueprint: &Blueprint) -> Result<H::Shared<Domain<H>>, XenError> {
        let count = usize::try_from(blueprint.vcpus).ok().filter(|count| (1..=MAX_VCPUS).contains(count));
        let slots = self.take_slots(count.ok_or(XenError::Inval)?)?;
        let made = self.make(blueprint, &slots);
        if made.is_err() {
            slots.iter().for_each(|slot| self.return_slot(*slot));
        }
        made
    }

    fn take_slots(&self, count: usize) -> Result<heapless::Vec<u16, MAX_VCPUS>, XenError> {
        let slots: heapless::Vec<_, MAX_VCPUS> = (0..count).map_while(|_| self.take_slot()).collect();
        if slots.len() < count {
            slots.iter().for_each(|slot| self.return_slot(*slot));
            return Err(XenError::NoSpc);
        }
        Ok(slots)
    }

    fn make(&self, blueprint: &Blueprint, slots: &[u16]) -> Result<H::Shared<Domain<H>>, XenError> {
        let id = self.domains.free_id().ok_or(XenError::NoSpc)?;
        let mut vcpus = heapless::Vec::new();
        for (n, slot) in (0..).zip(slots) {
            let vcpu = Vcpu::new(id, VcpuId(n), *slot, VcpuGic::new());
            vcpu.hold(PAUSED);
            // There is room: a domain has no more vCPUs than slots.
            let _ = vcpus.push(H::share(id, vcpu).map_err(|OutOfFrames| XenError::NoMem)?);
        }
        let domain = Domain::new(id, blueprint, vcpus).and_then(|domain| H::share(id, domain));
        let domain: H::Shared<Domain<H>> = domain.map_err(|OutOfFrames| XenError::NoMem)?;
        if let Some(first) = domain.vcpus().first() {
            first.set_info(domain.shared_info.pa());
        }
        self.domains.insert(domain.clone())?;
        Ok(domain)
    }

    /// Starts a vCPU at `pc` with `x0`, MMU off; `EEXIST` if it is online already. PSCI `CPU_ON` comes here too.
    pub fn start_vcpu(&self, domain: &Domain<H>, vcpu: &H::Shared<Vcpu<H>>, pc: u64, x0: u64) -> Result<(), XenError> {
        {
            // The place's lock makes one of two simultaneous starts the first.
            let place = vcpu.place.lock();
            if vcpu.is_online() {
                return Err(XenError::Exist);
            }
            if *place != crate::sched::Place::Nowhere {
                // It is switching itself off and has not left its pCPU yet.
                return Err(XenError::Again);
            }
            let mut context = vcpu.context.lock();
            *context = crate::vcpu::VcpuContext::default();
            context.frame = TrapFrame { pc, pstate: PSR_GUEST64_INIT, ..TrapFrame::default() };
            context.frame.x[0] = x0;
            context.el1.sctlr_el1 = SCTLR_GUEST_INIT;
            context.el1.vmpidr_el2 = crate::vgic::affinity(vcpu.id.0 as usize);
            context.el1.cntvoff_el2 = domain.counter_offset;
            vcpu.release(OFFLINE);
        }
        self.sched.make_runnable(vcpu);
        Ok(())
    }

    /// Switches off the vCPU that runs here (PSCI `CPU_OFF`).
    pub fn stop_vcpu(&self, vcpu: &Vcpu<H>) {
        self.hold(vcpu, OFFLINE);
    }

    /// Pauses all vCPUs; counted.
    pub fn pause(&self, domain: &Domain<H>) -> Result<(), XenError> {
        let mut pauses = domain.pauses.lock();
        *pauses = pauses.checked_add(1).ok_or(XenError::Overflow)?;
        for vcpu in domain.vcpus() {
            self.hold(vcpu, PAUSED);
        }
        Ok(())
    }

    /// Takes back one pause; `EINVAL` if there is none.
    pub fn unpause(&self, domain: &Domain<H>) -> Result<(), XenError> {
        let mut pauses = domain.pauses.lock();
        *pauses = pauses.checked_sub(1).ok_or(XenError::Inval)?;
        if *pauses == 0 {
            for vcpu in domain.vcpus() {
                self.release(vcpu, PAUSED);
            }
        }
        Ok(())
    }

    /// Makes the first vCPU look at its deadlines again: the watchdogs count among them.
    pub fn watchdogs_changed(&self, domain: &Domain<H>) {
        if let Some(vcpu) = domain.vcpus().first() {
            self.notify(vcpu);
            if let Some(pcpu) = vcpu.running_on() {
                self.sched.poke(pcpu);
            }
        }
    }
}

/// Shuts the domain down for `reason`: it stops, and the toolstack is told. Dom0's end is the machine's.
pub fn shutdown<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, reason: u32) {
    if !domain.begin_shutdown(reason) {
        return;
    }
    for vcpu in domain.vcpus() {
        kernel.hold(vcpu, STOPPED);
    }
    if domain.id == DomId::DOM0 {
        let reason = ShutdownReason::from_raw(reason).unwrap_or(ShutdownReason::Crash);
        kernel.log(format_args!("dom0 has ended ({reason:?}): the machine follows"));
        kernel.show_unread();
        if reason == ShutdownReason::Reboot {
            H::restart();
        }
        H::power_off();
    }
    send_global_virq(kernel, Virq::DomExc);
}

/// Crashes the domain of the vCPU that runs here: prints why and its registers, then shuts it down as crashed.
pub fn crash<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &TrapFrame, reason: &str) {
    let Some(current) = &cpu.current else { return };
    let (domain, vcpu) = (current.domain.clone(), current.vcpu.id);
    kernel.log(format_args!("d{}v{vcpu} crashed: {reason}", domain.id));
    kernel.log(format_args!("  pc {:#018x} pstate {:#x}", frame.pc, frame.pstate));
    for (n, row) in frame.x.chunks(4).enumerate() {
        let mut text = heapless::String::<96>::new();
        for (m, value) in row.iter().enumerate() {
            use core::fmt::Write;
            // Four registers fit the line.
            let _ = write!(text, " x{:<2} {value:016x}", n * 4 + m);
        }
        kernel.log(format_args!("  {text}"));
    }
    shutdown(kernel, &domain, ShutdownReason::Crash as u32);
}

/// One stretch of destroying a domain; true when all that can be returned is returned.
///
/// The order matters: nothing runs, then no event reaches anybody, then memory goes with what it maps of peers, then
/// the name.
pub fn destroy<H: Hw>(kernel: &Kernel<H>, domain: &H::Shared<Domain<H>>) -> bool {
    domain.begin_dying();
    // In every stretch: another pCPU may have begun the destruction and not have come to hold them all yet.
    for vcpu in domain.vcpus() {
        kernel.hold(vcpu, STOPPED);
    }
    if domain.vcpus().iter().any(|vcpu| vcpu.running_on().is_some()) {
        return false;
    }
    if !close_all(kernel, domain, PORT_STRETCH) {
        return false;
    }
    if let Some(uart) = &domain.vuart {
        uart.disconnect();
    }
    if !domain.p2m.teardown(PAGE_STRETCH, |mapping| grant::end_mapping(kernel, domain, mapping)) {
        return false;
    }
    // Once only: through a capability that outlived the domain we may come here when its id and its slots are others'.
    if kernel.domains.remove(domain) {
        for vcpu in domain.vcpus() {
            kernel.timers.cancel(vcpu);
            kernel.return_slot(vcpu.slot);
        }
    }
    true
}

/// What a vCPU's expired deadline may also mean: a watchdog of its domain.
pub fn check_watchdogs<H: Hw>(kernel: &Kernel<H>, vcpu: &Vcpu<H>, now: Ticks) {
    let Some(domain) = kernel.domains.get(vcpu.domid) else { return };
    if domain.watchdogs.expired(now) {
        kernel.log(format_args!("d{}: watchdog expired", domain.id));
        shutdown(kernel, &domain, ShutdownReason::Watchdog as u32);
    }
}

#[cfg(test)]
mod tests;
