//! `sched_op`: yielding, blocking, polling, shutting down, watchdogs.

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::Port;
use hypercall_abi::sched::{Poll, SchedOp, Shutdown, ShutdownReason, Watchdog};

use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::hw::{Hw, NEVER, PcpuId, Ticks};
use crate::hypercall::{Call, CallResult};
use crate::kernel::Kernel;
use crate::runstate::{BLOCKED, ticks};
use crate::sched::Alarm;
use crate::sync::Ordering;
use crate::{evtchn, guest, lifecycle};

/// `Vcpu::polling` when several ports are polled: any of them ends the poll.
pub const POLL_ANY: u32 = u32::MAX;
/// Most ports of a poll (Xen public/sched.h).
const POLL_PORTS: u32 = 128;

/// When each of the two watchdogs of a domain expires, if it is armed, and the pCPU that has the alarm for the earlier
/// one: the one where it was set, so that a guest makes no other pCPU work.
pub type Watchdogs = ([Option<Ticks>; 2], PcpuId);

/// `sched_op(cmd, arg)`. What takes an argument is out of line, so that yielding does not save registers for it.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    match SchedOp::try_from(call.arg32(0)).map_err(XenError::from)? {
        SchedOp::Yield => call.kernel.sched.give_way(),
        SchedOp::Block => {
            call.kernel.block(call.vcpu);
        }
        SchedOp::Poll => poll(call)?,
        SchedOp::Shutdown | SchedOp::ShutdownCode => shutdown(call)?,
        SchedOp::Watchdog => return Ok(watchdog(call)?),
        SchedOp::RemoteShutdown | SchedOp::PinOverride => return Err(XenError::Perm.into()),
    }
    Ok(0)
}

#[inline(never)]
fn shutdown<H: Hw>(call: &Call<'_, H>) -> Result<(), XenError> {
    let Shutdown { reason } = call.read(1)?;
    lifecycle::shutdown(call.kernel, call.domain, ShutdownReason::from_raw(reason).ok_or(XenError::Inval)?);
    Ok(())
}

/// Blocks until one of the ports is pending or the time is over.
#[inline(never)]
fn poll<H: Hw>(call: &Call<'_, H>) -> Result<(), XenError> {
    let arg: Poll = call.read(1)?;
    if arg.nr_ports > POLL_PORTS {
        return Err(XenError::Inval);
    }
    let wanted = |n: u32| {
        let port: Port = guest::read(call.domain, GuestVa::new(arg.ports.0.wrapping_add(4 * u64::from(n))))?;
        call.domain.events.port(port).map(|_| port)
    };
    let single = if arg.nr_ports == 1 { wanted(0)?.0 + 1 } else { POLL_ANY };
    let until = match arg.timeout {
        0 => NEVER,
        ns => ticks::<H>(ns).saturating_add(call.domain.counter_offset),
    };
    // The wish is known and the vCPU blocked before the ports are looked at, so that a sender either is seen or sees
    // the wish and takes the block back. Whoever ends the last poll late may take back a block that was not there yet, but
    // ends the wish first: behind the lock of `block` that is seen.
    let vcpu = call.vcpu;
    vcpu.poll_until.store(until, Ordering::Relaxed);
    vcpu.polling.store(single, Ordering::SeqCst);
    call.domain.pollers.fetch_or(1 << vcpu.id.0, Ordering::SeqCst);
    let is_kept = || (vcpu.polling.load(Ordering::Relaxed), vcpu.poll_until.load(Ordering::Relaxed)) == (single, until);
    let blocked = call.kernel.block(vcpu) && is_kept() && until > H::now();
    let pending = |n| wanted(n).map(|port| evtchn::is_pending(call.domain, port));
    let found = (0..arg.nr_ports).map(pending).find(|pending| !matches!(pending, Ok(false)));
    if !blocked || found.is_some() {
        vcpu.end_poll();
        call.kernel.release(vcpu, BLOCKED);
    }
    found.unwrap_or(Ok(false)).map(drop)
}

/// Arms (id 0), pokes or disarms a watchdog; returns the id of one that was armed.
#[inline(never)]
fn watchdog<H: Hw>(call: &Call<'_, H>) -> Result<u64, XenError> {
    let arg: Watchdog = call.read(1)?;
    let after = ticks::<H>(u64::from(arg.timeout).saturating_mul(1_000_000_000));
    let at = (arg.timeout != 0).then(|| H::now().saturating_add(after));
    change_watchdogs(call.kernel, call.domain, |due| {
        if arg.id == 0 {
            at.ok_or(XenError::Inval)?;
            let (id, free) = (1..).zip(due).find(|(_, due)| due.is_none()).ok_or(XenError::NoSpc)?;
            *free = at;
            return Ok(id);
        }
        let armed = usize::try_from(arg.id - 1).ok().and_then(|n| due.get_mut(n)).filter(|due| due.is_some());
        *armed.ok_or(XenError::Inval)? = at;
        Ok(0)
    })
}

/// Changes the watchdogs of a domain, and sets its alarm anew.
pub fn change_watchdogs<H: Hw, R>(
    kernel: &Kernel<H>,
    domain: &H::Shared<Domain<H>>,
    change: impl FnOnce(&mut [Option<Ticks>; 2]) -> R,
) -> R {
    let (due, home) = &mut *domain.watchdogs.lock();
    if let Some(first) = due.iter().flatten().min() {
        let is_it = |alarm: &Alarm<H>| matches!(alarm, Alarm::Watchdog(other) if core::ptr::eq(&**other, &**domain));
        kernel.sched.queues(*home).alarms.cancel(*first, is_it);
    }
    let result = change(due);
    if let Some(first) = due.iter().flatten().min() {
        *home = H::pcpu();
        kernel.sched.queues(*home).alarms.set(*first, Alarm::Watchdog(domain.clone()));
        // It sets its timer as it chooses.
        kernel.sched.poke(*home);
    }
    result
}

/// The alarm for a domain's watchdogs: the domain has not poked one in time and ends.
pub(crate) fn watchdog_expired<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, now: Ticks) {
    // One that has been poked meanwhile has set the alarm anew.
    if domain.watchdogs.lock().0.iter().flatten().any(|at| *at <= now) {
        kernel.log(format_args!("d{}: watchdog expired", domain.id));
        lifecycle::shutdown(kernel, domain, ShutdownReason::Watchdog);
    }
}

#[cfg(test)]
mod tests;
