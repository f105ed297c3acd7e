//! `sched_op`: yielding, blocking, polling, shutting down, watchdogs.

use core::sync::atomic::Ordering;

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::Port;
use hypercall_abi::sched::{Poll, SchedOp, Shutdown, ShutdownReason, Watchdog};

use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::hw::{Hw, PcpuId, Ticks};
use crate::hypercall::{Call, CallResult};
use crate::kernel::Kernel;
use crate::runstate::{BLOCKED, ticks};
use crate::sched::Alarm;
use crate::{evtchn, guest, lifecycle};

/// `Vcpu::polling` when several ports are polled: any of them ends the poll.
pub const POLL_ANY: u32 = u32::MAX;
/// Most ports of a poll (Xen public/sched.h).
const POLL_PORTS: u32 = 128;

/// The two watchdogs of a domain.
#[derive(Default)]
pub struct Watchdogs {
    /// When each expires, if it is armed.
    due: [Option<Ticks>; 2],
    /// Where the alarm for the earlier one is set, and for when.
    alarm: Option<(PcpuId, Ticks)>,
}

impl Watchdogs {
    /// Sets the alarm, which may be set already, for what is armed now.
    fn set_alarm<H: Hw>(&mut self, kernel: &Kernel<H>, domain: &H::Shared<Domain<H>>) {
        if let Some((home, at)) = self.alarm.take() {
            let is_it =
                |alarm: &Alarm<H>| matches!(alarm, Alarm::Watchdog(other) if core::ptr::eq(&**other, &**domain));
            kernel.sched.queues(home).alarms.cancel(at, is_it);
        }
        if let Some(first) = self.due.iter().flatten().min() {
            self.alarm = Some((H::pcpu(), *first));
            kernel.sched.queues(H::pcpu()).alarms.set(*first, Alarm::Watchdog(domain.clone()));
            // It sets its timer as it chooses.
            kernel.sched.poke(H::pcpu());
        }
    }

    /// Disarms both.
    pub fn disarm<H: Hw>(&mut self, kernel: &Kernel<H>, domain: &H::Shared<Domain<H>>) {
        self.due = [None; 2];
        self.set_alarm(kernel, domain);
    }
}

/// `sched_op(cmd, arg)`.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let at = GuestVa::new(call.args[1]);
    match SchedOp::try_from(call.arg32(0)).map_err(XenError::from)? {
        SchedOp::Yield => {
            call.kernel.sched.give_way();
            Ok(0)
        }
        SchedOp::Block => {
            call.kernel.block(call.vcpu);
            Ok(0)
        }
        SchedOp::Poll => {
            let arg: Poll = guest::read(call.domain, at)?;
            poll(call, &arg)
        }
        SchedOp::Shutdown | SchedOp::ShutdownCode => {
            let arg: Shutdown = guest::read(call.domain, at)?;
            ShutdownReason::from_raw(arg.reason).ok_or(XenError::Inval)?;
            lifecycle::shutdown(call.kernel, call.domain, arg.reason);
            Ok(0)
        }
        SchedOp::Watchdog => {
            let arg: Watchdog = guest::read(call.domain, at)?;
            watchdog(call, &arg)
        }
        SchedOp::RemoteShutdown | SchedOp::PinOverride => Err(XenError::Perm.into()),
    }
}

/// Blocks until one of the ports is pending or the time is over.
fn poll<H: Hw>(call: &mut Call<'_, H>, arg: &Poll) -> CallResult {
    if arg.nr_ports > POLL_PORTS {
        return Err(XenError::Inval.into());
    }
    let wanted = |n: u32| -> Result<Port, XenError> {
        let port: Port = guest::read(call.domain, GuestVa::new(arg.ports.0.wrapping_add(4 * u64::from(n))))?;
        call.domain.events.port(port)?;
        Ok(port)
    };
    let single = if arg.nr_ports == 1 { wanted(0)?.0 + 1 } else { POLL_ANY };
    let until = match arg.timeout {
        0 => 0,
        ns => ticks::<H>(ns).saturating_add(call.domain.counter_offset).max(1),
    };
    // The wish is known and the vCPU blocked before the ports are looked at, so that a sender either is seen or sees
    // the wish and takes the block back.
    call.vcpu.poll_until.store(until, Ordering::Relaxed);
    call.vcpu.polling.store(single, Ordering::SeqCst);
    call.domain.pollers.fetch_or(1 << call.vcpu.id.0, Ordering::SeqCst);
    let blocked = call.kernel.block(call.vcpu) && (until == 0 || until > H::now());
    let pending = |n| wanted(n).map(|port| evtchn::is_pending(call.domain, port));
    let found = (0..arg.nr_ports).map(pending).find(|pending| !matches!(pending, Ok(false)));
    if !blocked || found.is_some() {
        call.vcpu.end_poll();
        call.kernel.release(call.vcpu, BLOCKED);
    }
    found.unwrap_or(Ok(false))?;
    Ok(0)
}

/// Arms (id 0), pokes or disarms a watchdog; returns its id.
fn watchdog<H: Hw>(call: &mut Call<'_, H>, arg: &Watchdog) -> CallResult {
    let after = ticks::<H>(u64::from(arg.timeout).saturating_mul(1_000_000_000));
    let at = (arg.timeout != 0).then(|| H::now().saturating_add(after));
    let mut watchdogs = call.domain.watchdogs.lock();
    let due = &mut watchdogs.due;
    let result = match arg.id {
        0 => {
            at.ok_or(XenError::Inval)?;
            let (n, free) = (1..).zip(due.iter_mut()).find(|(_, due)| due.is_none()).ok_or(XenError::NoSpc)?;
            *free = at;
            n
        }
        id => {
            let armed = usize::try_from(id - 1).ok().and_then(|n| due.get_mut(n)).filter(|due| due.is_some());
            *armed.ok_or(XenError::Inval)? = at;
            0
        }
    };
    watchdogs.set_alarm(call.kernel, call.domain);
    Ok(result)
}

/// The alarm for a domain's watchdogs: the domain has not poked one in time and ends.
pub(crate) fn watchdog_expired<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, now: Ticks) {
    // One that has been poked meanwhile has set the alarm anew.
    if domain.watchdogs.lock().due.iter().flatten().any(|at| *at <= now) {
        kernel.log(format_args!("d{}: watchdog expired", domain.id));
        lifecycle::shutdown(kernel, domain, ShutdownReason::Watchdog as u32);
    }
}

#[cfg(test)]
mod tests;
