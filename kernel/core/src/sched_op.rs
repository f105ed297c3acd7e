//! `sched_op`: yielding, blocking, polling, shutting down, watchdogs.

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::Port;
use hypercall_abi::sched::{Poll, SchedOp, Shutdown, ShutdownReason, Watchdog};

use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::hw::{Hw, Ticks};
use crate::hypercall::{Call, CallResult};
use crate::kernel::Kernel;
use crate::runstate::ticks;
use crate::vcpu::BLOCKED;
use crate::{evtchn, guest, lifecycle};

/// `Vcpu::polling` when several ports are polled: any of them ends the poll.
pub const POLL_ANY: u32 = u32::MAX;
/// Most ports of a poll (Xen public/sched.h).
const POLL_PORTS: u32 = 128;

/// The two watchdog timers of a domain: when each fires, 0 while it is not armed.
pub struct Watchdogs([AtomicU64; 2]);

impl Watchdogs {
    /// None armed.
    pub const fn new() -> Self {
        Watchdogs([const { AtomicU64::new(0) }; 2])
    }

    /// Whether one has expired at `now`.
    pub fn expired(&self, now: Ticks) -> bool {
        self.0.iter().map(|at| at.load(Ordering::Relaxed)).any(|at| at != 0 && at <= now)
    }

    /// The earliest that is armed.
    pub fn deadline(&self) -> Option<Ticks> {
        self.0.iter().map(|at| at.load(Ordering::Relaxed)).filter(|at| *at != 0).min()
    }
}

impl Default for Watchdogs {
    fn default() -> Self {
        Self::new()
    }
}

/// `sched_op(cmd, arg)`.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let at = GuestVa::new(call.args[1]);
    match SchedOp::try_from(call.arg32(0)).map_err(XenError::from)? {
        SchedOp::Yield => {
            call.kernel.sched.poke(H::pcpu());
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
            watchdog(call.kernel, call.domain, &arg)
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
        call.vcpu.release(BLOCKED);
    }
    found.unwrap_or(Ok(false))?;
    Ok(0)
}

/// Arms (id 0), pokes or disarms a watchdog; returns its id.
fn watchdog<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, arg: &Watchdog) -> CallResult {
    let timers = &domain.watchdogs.0;
    let at = H::now().saturating_add(ticks::<H>(u64::from(arg.timeout).saturating_mul(1_000_000_000))).max(1);
    let result = match arg.id {
        0 if arg.timeout == 0 => return Err(XenError::Inval.into()),
        0 => {
            let taken = |timer: &AtomicU64| timer.compare_exchange(0, at, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            timers.iter().position(taken).map(|n| n as u64 + 1).ok_or(XenError::NoSpc)?
        }
        id => {
            let timer = usize::try_from(id - 1).ok().and_then(|n| timers.get(n)).ok_or(XenError::Inval)?;
            if timer.load(Ordering::Relaxed) == 0 {
                return Err(XenError::Inval.into());
            }
            timer.store(if arg.timeout == 0 { 0 } else { at }, Ordering::Relaxed);
            0
        }
    };
    kernel.watchdogs_changed(domain);
    Ok(result)
}

#[cfg(test)]
mod tests;
