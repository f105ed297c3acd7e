//! Control calls on domains: make, find, look at, end.

use hypercall_abi::control::{
    CREATE_VUART, DomainInfo, DomainParams, STATE_BLOCKED, STATE_DYING, STATE_PAUSED, STATE_RUNNING, STATE_SHUTDOWN,
};
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, Gfn};
use hypercall_abi::sched::ShutdownReason;

use crate::addr::GuestVa;
use crate::cap::CapTable;
use crate::domain::{Domain, Life};
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::lifecycle::{self, Blueprint};
use crate::runstate::nanoseconds;
use crate::vcpu::BLOCKED;
use crate::vgic::GicLayout;
use crate::{evtchn, guest};

/// Shared interrupts of a guest: the UART's, and room for a few more.
const GUEST_SPIS: u32 = 32;

/// `DomainCreate`.
pub fn create<H: Hw>(call: &mut Call<'_, H>, caps: &CapTable<H>) -> CallResult {
    let params: DomainParams = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    if params.flags & !CREATE_VUART != 0 {
        return Err(XenError::Inval.into());
    }
    let domain = call.kernel.create(&Blueprint {
        uuid: params.uuid,
        vcpus: params.vcpus,
        max_pages: params.max_pages,
        max_grant_frames: params.max_grant_frames,
        max_ports: params.max_ports,
        vuart: params.flags & CREATE_VUART != 0,
        gic: GicLayout::GUEST,
        spis: GUEST_SPIS,
        direct_mapped: false,
        privileged: false,
    })?;
    let id = domain.id;
    match caps.add(domain.clone()) {
        Ok(cap) => (call.args[1], call.args[2]) = (u64::from(cap.index()), u64::from(id.0)),
        Err(error) => {
            // It has neither memory nor ports yet, so one stretch is enough.
            lifecycle::destroy(call.kernel, &domain);
            return Err(error.into());
        }
    }
    Ok(0)
}

/// `DomainLookup`.
pub fn lookup<H: Hw>(call: &mut Call<'_, H>, caps: &CapTable<H>) -> CallResult {
    let from = DomId(u16::try_from(call.args[1]).map_err(|_| XenError::Srch)?);
    let domain = call.kernel.domains.at_or_after(from).ok_or(XenError::NoEnt)?;
    let id = domain.id;
    let cap = caps.add(domain)?;
    (call.args[1], call.args[2]) = (u64::from(cap.index()), u64::from(id.0));
    Ok(0)
}

/// `DomainDestroy`. A domain cannot destroy itself this way: it would lose the ground under its feet.
pub fn destroy<H: Hw>(call: &mut Call<'_, H>, caps: &CapTable<H>, target: &H::Shared<Domain<H>>) -> CallResult {
    if target.id == call.domain.id {
        return Err(XenError::Inval.into());
    }
    if !lifecycle::destroy(call.kernel, target) {
        return Err(XenError::Again.into());
    }
    caps.remove(call.args[0])?;
    Ok(0)
}

/// `DomainInfo`.
pub fn info<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> CallResult {
    let now = H::now();
    let (mut state, mut shutdown_reason) = (0, 0);
    match target.life() {
        Life::Alive => {}
        Life::ShutDown(reason) => {
            state |= STATE_SHUTDOWN;
            shutdown_reason = reason;
        }
        Life::Dying => state |= STATE_DYING,
    }
    if *target.pauses.lock() > 0 {
        state |= STATE_PAUSED;
    }
    if target.vcpus().iter().any(|vcpu| vcpu.running_on().is_some()) {
        state |= STATE_RUNNING;
    } else if target.vcpus().iter().all(|vcpu| vcpu.held() & BLOCKED != 0 || !vcpu.is_online()) {
        state |= STATE_BLOCKED;
    }
    let ran: u64 = target.vcpus().iter().map(|vcpu| vcpu.accounting.lock().running(now)).sum();
    let online = target.vcpus().iter().filter(|vcpu| vcpu.is_online()).count();
    let record = DomainInfo {
        uuid: target.uuid,
        pages: target.quota.owned(),
        max_pages: target.quota.max(),
        cpu_ns: nanoseconds::<H>(ran),
        state,
        shutdown_reason,
        online_vcpus: u32::try_from(online).unwrap_or(0),
        vcpus: u32::try_from(target.vcpus().len()).unwrap_or(0),
        domid: u32::from(target.id.0),
        kernel_pages: u32::try_from(target.quota.kernel() + target.p2m.table_frames()).unwrap_or(u32::MAX),
    };
    guest::write(call.domain, GuestVa::new(call.args[1]), &record)?;
    Ok(0)
}

/// `DomainShutdown`.
pub fn shutdown<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> Result<(), XenError> {
    let reason = call.arg32(1);
    ShutdownReason::from_raw(reason).ok_or(XenError::Inval)?;
    lifecycle::shutdown(call.kernel, target, reason);
    Ok(())
}

/// `PortAlloc`.
pub fn port_alloc<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> Result<(), XenError> {
    let remote = DomId(u16::try_from(call.args[1]).map_err(|_| XenError::Inval)?);
    let port = evtchn::alloc_unbound(target, call.domain.resolve(remote))?;
    call.args[1] = u64::from(port.0);
    Ok(())
}

/// `VuartInit`.
pub fn vuart_init<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> Result<(), XenError> {
    let vuart = target.vuart.as_ref().ok_or(XenError::NoDev)?;
    let remote = DomId(u16::try_from(call.args[2]).map_err(|_| XenError::Inval)?);
    let port = evtchn::alloc_unbound(target, call.domain.resolve(remote))?;
    let page = Gfn(core::mem::replace(&mut call.args[1], u64::from(port.0)));
    vuart.connect(target, page, port).inspect_err(|_| {
        // The port is new, so closing it cannot fail but for the guest closing it first.
        let _ = evtchn::close(call.kernel, target, port);
    })
}
