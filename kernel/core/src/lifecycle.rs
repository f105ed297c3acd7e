//! The life of a domain: made, started, paused, shut down, crashed, destroyed.

use core::fmt::Arguments;

use hypercall_abi::control::{DomainParams, MAX_SPIS};
use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::{DomId, VcpuId};
use hypercall_abi::sched::ShutdownReason;

use crate::context::TrapFrame;
use crate::domain::Domain;
use crate::evtchn::{close_all, send_global_virq};
use crate::grant;
use crate::hw::Hw;
use crate::kernel::{Kernel, MAX_VCPUS_TOTAL};
use crate::local::LocalCpu;
use crate::runstate::{OFFLINE, PAUSED, STOPPED};
use crate::sched_op::change_watchdogs;
use crate::sync::Ordering;
use crate::vcpu::{Vcpu, VcpuContext};
use crate::vgic::GicLayout;

/// Ports that one stretch of a destruction closes.
const PORT_STRETCH: usize = 128;
/// Pages that one stretch of a destruction returns.
const PAGE_STRETCH: u32 = 2048;

impl<H: Hw> Kernel<H> {
    /// Makes a domain: paused once, without memory, its vCPUs offline. The one that rules the machine has the host's
    /// GIC.
    // Once in the image: a domain is large, and so is the stack that it is made on.
    #[inline(never)]
    pub fn create(&self, params: &DomainParams, host: Option<GicLayout>) -> Result<H::Shared<Domain<H>>, XenError> {
        let gic = host.unwrap_or_else(|| GicLayout::of_guest(self.machine.get()));
        let fits = usize::try_from(params.vcpus).is_ok_and(|count| (1..=gic.max_vcpus()).contains(&count));
        if params.flags | params.reserved != 0 || params.nr_spis > MAX_SPIS || !fits {
            return Err(XenError::Inval);
        }
        self.domains.add(|id| {
            H::frames().quota(id).set_max(params.max_pages);
            let vcpus = (0..params.vcpus).map(|n| H::share(id, Vcpu::new(id, VcpuId(n)))).collect::<Result<_, _>>()?;
            let fit = H::frames().vcpus.load(Ordering::Relaxed) <= MAX_VCPUS_TOTAL;
            fit.then_some(()).ok_or(XenError::NoSpc)?;
            H::share(id, Domain::new(id, params, (gic, host.is_some()), vcpus)?)
        })
    }

    /// Starts a vCPU at `pc` with `x0`, MMU off; `EEXIST` if it is online already. PSCI `CPU_ON` comes here too.
    pub fn start_vcpu(&self, domain: &Domain<H>, vcpu: &H::Shared<Vcpu<H>>, pc: u64, x0: u64) -> Result<(), XenError> {
        // The lock makes one of two simultaneous starts the first.
        let mut run = vcpu.run.lock();
        if vcpu.is_online() {
            return Err(XenError::Exist);
        }
        if run.running_on().is_some() {
            // It is switching itself off and has not left its pCPU yet.
            return Err(XenError::Again);
        }
        run.context = VcpuContext::at_start(vcpu.id, pc, x0, domain.counter_offset);
        if vcpu.take_back(OFFLINE) == 0 {
            self.sched.enqueue(vcpu, &mut run, H::now());
        }
        Ok(())
    }

    /// Holds all vCPUs; true if one of them still runs.
    fn hold_all(&self, domain: &Domain<H>, reasons: u32) -> bool {
        domain.vcpus().iter().filter(|vcpu| self.hold(vcpu, reasons)).count() > 0
    }

    /// Pauses all vCPUs; counted.
    pub fn pause(&self, domain: &Domain<H>) -> Result<(), XenError> {
        let mut pauses = domain.pauses.lock();
        *pauses = pauses.checked_add(1).ok_or(XenError::Overflow)?;
        self.hold_all(domain, PAUSED);
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
}

/// Shuts the domain down for `reason`: it stops, and the toolstack is told. Dom0's end is the machine's.
pub fn shutdown<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, reason: ShutdownReason) {
    if !domain.begin_shutdown(reason) {
        return;
    }
    kernel.hold_all(domain, STOPPED);
    if domain.id == DomId::DOM0 {
        kernel.log(format_args!("dom0 has ended ({reason:?}): the machine follows"));
        kernel.show_unread();
        H::end_machine(reason == ShutdownReason::Reboot);
    }
    send_global_virq(kernel, Virq::DomExc);
}

/// Crashes the domain of the vCPU that runs here: prints why and its registers, then shuts it down as crashed.
pub fn crash<H: Hw>(kernel: &'static Kernel<H>, cpu: &mut LocalCpu<H>, frame: &TrapFrame, reason: Arguments<'_>) {
    let Some(current) = &cpu.current else { return };
    let (domain, vcpu) = (current.domain.clone(), current.vcpu.id);
    kernel.log(format_args!("d{}v{vcpu} crashed: {reason}", domain.id));
    kernel.log(format_args!("  pc {:#018x} pstate {:#x}", frame.pc, frame.pstate));
    for (n, row) in (0..).step_by(4).zip(frame.x.chunks(4)) {
        kernel.log(format_args!("  x{n:<2} {row:016x?}"));
    }
    shutdown(kernel, &domain, ShutdownReason::Crash);
}

/// One stretch of destroying a domain; true when all that can be returned is returned.
///
/// The order matters: nothing runs, then no event reaches anybody, then memory goes with what it maps of peers, then
/// the name.
pub fn destroy<H: Hw>(kernel: &Kernel<H>, domain: &H::Shared<Domain<H>>) -> bool {
    domain.begin_dying();
    // In every stretch: another pCPU may have begun the destruction and not have come to hold them all yet.
    if kernel.hold_all(domain, STOPPED) {
        return false;
    }
    let done = close_all(kernel, domain, PORT_STRETCH)
        && domain.p2m.teardown(PAGE_STRETCH, &|mapping| grant::end_mapping(kernel, domain, mapping));
    // Once only: through a capability that outlived the domain we may come here when its id is another's.
    if done && kernel.domains.remove(domain) {
        change_watchdogs(kernel, domain, |due| *due = [None; 2]);
        for vcpu in domain.vcpus() {
            let run = &mut *vcpu.run.lock();
            kernel.sched.cancel_alarm(vcpu, run);
            run.home = None;
        }
    }
    done
}

#[cfg(test)]
mod tests;
