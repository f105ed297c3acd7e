//! The control calls: decoded here, authorised by the caller's capability before any argument is read.
//!
//! A capability is an index into the caller's own table: the index is the claim, the entry is the authority.

#[cfg(test)]
mod tests;

use core::sync::atomic::Ordering;

use hypercall_abi::control::{
    Cap, DomainInfo, DomainParams, MAX_WEIGHT, Op, PlatformInfo, STATE_BLOCKED, STATE_PAUSED, STATE_RUNNING, VERSION,
    VcpuInfo, VcpuState,
};
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, Gfn, GrantRef, Port, VcpuId};
use hypercall_abi::sched::ShutdownReason;
use hypercall_abi::shared_info::layout;
use hypercall_abi::vcpu::Runstate;

use crate::addr::{GuestVa, Ipa, PAGE_SIZE, Pa};
use crate::domain::{Domain, Known, MAX_DOMAINS};
use crate::evtchn::Binding;
use crate::hw::{Access, Hw};
use crate::hypercall::{Call, CallResult};
use crate::kernel::Kernel;
use crate::machine::{Machine, Range};
use crate::memory::{copy_foreign, populate};
use crate::p2m::MapKind;
use crate::runstate::{BLOCKED, CAPPED, OFFLINE, SERVED, nanoseconds};
use crate::sync::SpinMutex;
use crate::vcpu::Vcpu;
use crate::{about, grant, guest, ioreq, lifecycle, trace, vgic};

/// Pages that one call gives before it returns with what it has done.
const PAGES_PER_CALL: u64 = 1024;
/// Bytes that one call copies before it returns with what it has done.
const BYTES_PER_CALL: u64 = 256 * 1024;
/// Bytes of the log that one call reads.
const BYTES_OF_LOG: usize = 1024;

/// The capabilities of one domain. Whoever has a table has the machine, under [`Cap::PLATFORM`]; each other index names
/// a domain, or nothing.
pub struct Caps<H: Hw>(SpinMutex<[Known<H>; MAX_DOMAINS]>);

impl<H: Hw> Caps<H> {
    /// The machine only.
    pub(crate) const fn of_machine() -> Self {
        Caps(SpinMutex::new([const { None }; MAX_DOMAINS]))
    }

    /// The domain that `cap` names; `EPERM` if it names none.
    fn domain(&self, cap: u64) -> Result<H::Shared<Domain<H>>, XenError> {
        let known = usize::try_from(cap).ok().and_then(|at| self.0.lock().get(at).cloned());
        known.flatten().ok_or(XenError::Perm)
    }

    /// Adds a capability for `domain`, under the first index that is free from the domain's own id on.
    fn add(&self, domain: H::Shared<Domain<H>>) -> Result<Cap, XenError> {
        let mut domains = self.0.lock();
        let places = (0..MAX_DOMAINS).map(|step| (usize::from(domain.id.0) + step) % MAX_DOMAINS);
        let mut others = places.filter(|at| *at != Cap::PLATFORM.index() as usize);
        let at = others.find(|at| domains[*at].is_none()).ok_or(XenError::NoSpc)?;
        domains[at] = Some(domain);
        Ok(Cap::new(u32::try_from(at).map_err(|_| XenError::NoSpc)?))
    }

    /// Forgets the capability for a domain. The machine's stays.
    fn remove(&self, cap: u64) -> Result<(), XenError> {
        let removed = usize::try_from(cap).ok().and_then(|at| self.0.lock().get_mut(at)?.take());
        // The last reference to the domain may go here, behind the lock, which is innermost.
        removed.map(drop).ok_or(XenError::Perm)
    }
}

/// A control call; `number` is the hypercall's.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>, number: u32) -> CallResult {
    let op = Op::from_number(number).ok_or(XenError::NoSys)?;
    let caps = call.domain.caps.as_ref().ok_or(XenError::Perm)?;
    if op == Op::Version {
        call.args[1] = u64::from(VERSION);
    } else if call.args[0] == u64::from(Cap::PLATFORM.index()) {
        of_machine(call, caps, op)?;
    } else {
        of_domain(call, caps, &caps.domain(call.args[0])?, op)?;
    }
    Ok(0)
}

/// What the platform's capability allows.
fn of_machine<H: Hw>(call: &mut Call<'_, H>, caps: &Caps<H>, op: Op) -> Result<(), XenError> {
    match op {
        Op::PlatformInfo => call.write(1, &platform_info(call.kernel)?),
        Op::ConsoleRead => console_read(call),
        Op::Power => match call.args[1] {
            how @ (0 | 1) => H::end_machine(how == 1),
            _ => Err(XenError::Inval),
        },
        Op::DeviceMap => device_map(call),
        Op::DomainCreate => create(call, caps),
        Op::DomainLookup => {
            let from = DomId(u16::try_from(call.args[1]).map_err(|_| XenError::Srch)?);
            name(call, caps, call.kernel.domains.at_or_after(from).ok_or(XenError::NoEnt)?)
        }
        Op::TraceRing => {
            let [_, pcpu, at, pages, ..] = *call.args;
            trace::set_ring(call.kernel, call.domain, pcpu, Ipa::new(at), pages)
        }
        _ => Err(XenError::Perm),
    }
}

/// What the capability for a domain allows; little of it when that is being destroyed.
fn of_domain<H: Hw>(
    call: &mut Call<'_, H>,
    caps: &Caps<H>,
    target: &H::Shared<Domain<H>>,
    op: Op,
) -> Result<(), XenError> {
    let [cap, x1, x2, x3, ..] = *call.args;
    match op {
        Op::CapDrop => caps.remove(cap)?,
        Op::DomainInfo => call.write(1, &domain_info(target))?,
        // Whoever destroyed itself this way would lose the ground under its feet.
        Op::DomainDestroy if target.id == call.domain.id => return Err(XenError::Inval),
        Op::DomainDestroy if !lifecycle::destroy(call.kernel, target) => return Err(XenError::Again),
        Op::DomainDestroy => caps.remove(cap)?,
        _ if target.is_dying() => return Err(XenError::Srch),
        Op::DomainPause => call.kernel.pause(target)?,
        Op::DomainUnpause => call.kernel.unpause(target)?,
        Op::DomainShutdown => {
            let reason = ShutdownReason::from_raw(call.arg32(1)).ok_or(XenError::Inval)?;
            lifecycle::shutdown(call.kernel, target, reason);
        }
        Op::DomainMaxPages => target.quota.set_max(x1),
        Op::Populate => stretch(call, x2, PAGES_PER_CALL, |_, pages| populate(target, Ipa::new(x1), pages))?,
        Op::MemoryWrite | Op::MemoryRead => stretch(call, x3, BYTES_PER_CALL, |call, bytes| {
            let access = if op == Op::MemoryWrite { Access::Write } else { Access::Read };
            copy_foreign(call.domain, GuestVa::new(x2), target, Ipa::new(x1), bytes, access)
        })?,
        Op::VcpuStart => call.kernel.start_vcpu(target, vcpu(target, x1)?, x2, x3)?,
        Op::VcpuInfo => call.write(2, &vcpu_info(vcpu(target, x1)?))?,
        Op::VcpuAffinity => {
            let online = (1 << H::online()) - 1;
            if x2 & online == 0 || x3 & online == 0 {
                return Err(XenError::Inval);
            }
            call.kernel.pin(vcpu(target, x1)?, x2 & online, x3 & online);
        }
        Op::DomainShare => share(call.kernel, target, x1, x2)?,
        Op::HvmParam => about::set_param(target, call.arg32(1), x2)?,
        Op::GrantSeed => grant::seed(target, GrantRef(call.arg32(1)), Gfn(x2), peer(call, x3)?)?,
        Op::PortAlloc => {
            let port = target.events.open(Binding::Unbound(peer(call, x1)?), VcpuId(0))?;
            call.args[1] = u64::from(port.0);
        }
        Op::IoServe => {
            let end = x1.checked_add(x2).filter(|end| *end > x1).ok_or(XenError::Inval)?;
            let port = Port(call.arg32(3));
            target.events.port(port)?;
            ioreq::serve(target, x1..end, port)?;
        }
        Op::IoNext => call.write(3, &ioreq::next(target, Port(call.arg32(1)), VcpuId(call.arg32(2)))?)?,
        Op::IoAnswer => ioreq::answer(call.kernel, vcpu(target, x1)?, x2)?,
        Op::IrqLevel => vgic::set_level(call.kernel, target, call.arg32(1), x2 != 0),
        Op::WallClock => set_wall_clock(target, x1),
        _ => return Err(XenError::Perm),
    }
    Ok(())
}

/// The page says what time it was when the domain's counter was zero. Nobody reads it yet, so the version stays 0.
fn set_wall_clock<H: Hw>(target: &Domain<H>, now: u64) {
    let start = now.saturating_sub(nanoseconds::<H>(H::now().wrapping_sub(target.counter_offset)));
    let (seconds, rest, page) = (start / 1_000_000_000, start % 1_000_000_000, target.shared_info.pa());
    H::store64(page.add(layout::WC_VERSION as u64), seconds << 32);
    H::store64(page.add(layout::WC_NSEC as u64), seconds >> 32 << 32 | rest);
}

fn share<H: Hw>(kernel: &Kernel<H>, target: &Domain<H>, weight: u64, cap: u64) -> Result<(), XenError> {
    let weight = u32::try_from(weight).ok().filter(|weight| (1..=MAX_WEIGHT).contains(weight));
    let cap = usize::try_from(cap).ok().filter(|cap| *cap <= 100 * target.vcpus().len());
    let cap = cap.and_then(|cap| u32::try_from(cap).ok()).ok_or(XenError::Inval)?;
    kernel.set_share(target, weight.ok_or(XenError::Inval)?, cap);
    Ok(())
}

/// IPA is PA here, so blocks fit blocks, and the entries are few however long the range.
fn device_map<H: Hw>(call: &Call<'_, H>) -> Result<(), XenError> {
    let [_, at, pages, ..] = *call.args;
    let size = pages.checked_mul(PAGE_SIZE).ok_or(XenError::Inval)?;
    let machine = call.kernel.machine.get().ok_or(XenError::NoDev)?;
    if !machine.may_be_device(Range { start: Pa::new(at), size }) {
        return Err(XenError::Perm);
    }
    call.domain.p2m.map(Ipa::new(at), Pa::new(at), pages, MapKind::Device)
}

fn create<H: Hw>(call: &mut Call<'_, H>, caps: &Caps<H>) -> Result<(), XenError> {
    let params: DomainParams = call.read(1)?;
    let domain = call.kernel.create(&params, None)?;
    name(call, caps, domain.clone()).inspect_err(|_| {
        // It has neither memory nor ports yet, so one stretch is enough.
        lifecycle::destroy(call.kernel, &domain);
    })
}

fn console_read<H: Hw>(call: &mut Call<'_, H>) -> Result<(), XenError> {
    let [_, position, into, length, ..] = *call.args;
    let mut chunk = [0; BYTES_OF_LOG];
    let wanted = usize::try_from(length).map_or(BYTES_OF_LOG, |length| length.min(BYTES_OF_LOG));
    let part = chunk.get_mut(..wanted).unwrap_or_default();
    let (after, count) = call.kernel.console.lock().read(position, part);
    guest::copy_out(call.domain, GuestVa::new(into), part.get(..count).unwrap_or_default())?;
    (call.args[1], call.args[2]) = (after, count as u64);
    Ok(())
}

fn platform_info<H: Hw>(kernel: &Kernel<H>) -> Result<PlatformInfo, XenError> {
    let machine = kernel.machine.get().ok_or(XenError::NoDev)?;
    let (total_pages, free_pages) = H::frames().pages();
    Ok(PlatformInfo {
        total_pages,
        free_pages,
        dom0_base: machine.dom0_ram.start.raw(),
        dom0_size: machine.dom0_ram.size,
        window_base: machine.window().raw(),
        window_size: Machine::WINDOW_SIZE,
        uptime_ns: nanoseconds::<H>(H::now()),
        image_base: machine.image.start.raw(),
        counter_hz: H::frequency(),
        pcpus: u32::try_from(H::online()).unwrap_or(0),
        gic_version: if machine.gicv2.is_some() { 2 } else { 3 },
        max_vcpus: u32::try_from(vgic::GicLayout::of_guest(Some(machine)).max_vcpus()).unwrap_or(0),
    })
}

fn domain_info<H: Hw>(target: &Domain<H>) -> DomainInfo {
    let (vcpus, now) = (target.vcpus(), H::now());
    let (life, shutdown_reason) = target.life();
    let paused = if *target.pauses.lock() > 0 { STATE_PAUSED } else { 0 };
    let activity = if vcpus.iter().any(|vcpu| vcpu.running_on().is_some()) {
        STATE_RUNNING
    } else if vcpus.iter().all(|vcpu| vcpu.held() & (BLOCKED | SERVED) != 0 || !vcpu.is_online()) {
        STATE_BLOCKED
    } else {
        0
    };
    let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
    DomainInfo {
        uuid: target.uuid,
        pages: target.quota.owned(),
        max_pages: target.quota.max(),
        cpu_ns: nanoseconds::<H>(vcpus.iter().map(|vcpu| vcpu.run.lock().running(now)).sum()),
        state: life | paused | activity,
        shutdown_reason,
        online_vcpus: count(vcpus.iter().filter(|vcpu| vcpu.is_online()).count() as u64),
        vcpus: count(vcpus.len() as u64),
        domid: u32::from(target.id.0),
        kernel_pages: count(target.quota.kernel()),
        weight: vcpus.first().map_or(0, |vcpu| vcpu.weight.load(Ordering::Relaxed)),
        cap: target.budget.cap(),
    }
}

fn vcpu_info<H: Hw>(vcpu: &Vcpu<H>) -> VcpuInfo {
    let (run, held) = (vcpu.run.lock(), vcpu.held());
    let state = match run.state {
        Runstate::Running => VcpuState::Running,
        Runstate::Runnable => VcpuState::Ready,
        Runstate::Blocked | Runstate::Offline if held == CAPPED => VcpuState::Ready,
        Runstate::Blocked | Runstate::Offline if held & OFFLINE != 0 => VcpuState::Offline,
        Runstate::Blocked | Runstate::Offline if held & !(BLOCKED | SERVED) == 0 => VcpuState::Blocked,
        Runstate::Blocked | Runstate::Offline => VcpuState::Paused,
    };
    VcpuInfo {
        cpu_ns: nanoseconds::<H>(run.running(H::now())),
        affinity: vcpu.affinity.load(Ordering::Relaxed),
        soft_affinity: vcpu.soft_affinity.load(Ordering::Relaxed),
        pcpu: u32::from(run.pcpu.0),
        state: state.raw(),
    }
}

/// Answers with a new capability for a domain, and its id.
fn name<H: Hw>(call: &mut Call<'_, H>, caps: &Caps<H>, domain: H::Shared<Domain<H>>) -> Result<(), XenError> {
    let id = domain.id;
    (call.args[1], call.args[2]) = (u64::from(caps.add(domain)?.index()), u64::from(id.0));
    Ok(())
}

/// One stretch of a call that has `total` to do, `most` at once: progress in x1; `EAGAIN` while something is left.
fn stretch<H: Hw>(
    call: &mut Call<'_, H>,
    total: u64,
    most: u64,
    work: impl FnOnce(&Call<'_, H>, u64) -> (u64, Result<(), XenError>),
) -> Result<(), XenError> {
    let (done, result) = work(call, total.min(most));
    call.args[1] = done;
    result?;
    if done < total { Err(XenError::Again) } else { Ok(()) }
}

fn vcpu<H: Hw>(target: &Domain<H>, id: u64) -> Result<&H::Shared<Vcpu<H>>, XenError> {
    u32::try_from(id).ok().and_then(|id| target.vcpu(VcpuId(id))).ok_or(XenError::NoEnt)
}

/// The domain that an argument names as the target's peer.
fn peer<H: Hw>(call: &Call<'_, H>, id: u64) -> Result<DomId, XenError> {
    u16::try_from(id).map(|id| call.domain.resolve(DomId(id))).map_err(|_| XenError::Inval)
}
