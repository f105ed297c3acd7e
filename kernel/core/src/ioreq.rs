//! Devices of a domain that another domain emulates, as Xen's ioreq servers do.
//!
//! A load or store where such a device has its registers stops the vCPU and sends an event to the server, which asks what
//! it was and answers it. The access lies with the vCPU meanwhile, out of both domains' reach, so there is nothing to
//! check twice. A server that never answers costs the domain a vCPU and EL2 nothing; when it goes away, its end of the
//! event channel does, and the accesses that wait fail as they would on a bus without the device.

use core::ops::Range;

use heapless::Vec;
use hypercall_abi::control::IoRequest;
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{Port, VcpuId};

use crate::domain::Domain;
use crate::evtchn::{self, Binding};
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::Current;
use crate::runstate::SERVED;
use crate::trap::MemoryAccess;
use crate::vcpu::Vcpu;

/// The most ranges of one domain.
const RANGES: usize = 16;

/// Where a domain has devices that others emulate, and the port that tells each server of an access.
pub type Ranges = Vec<(Range<u64>, Port), RANGES>;

/// An access that waits for its answer, and the port of its server.
pub type Waiting = Option<(MemoryAccess, Port)>;

/// Lets whoever is at the other end of `port` emulate what lies in `range`, which is not empty; `EEXIST` if part of it is
/// served already, `ENOSPC` if there are too many ranges.
pub fn serve<H: Hw>(domain: &Domain<H>, range: Range<u64>, port: Port) -> Result<(), XenError> {
    let mut ranges = domain.devices.lock();
    if ranges.iter().any(|(other, _)| range.start < other.end && other.start < range.end) {
        return Err(XenError::Exist);
    }
    ranges.push((range, port)).map_err(|_| XenError::NoSpc)
}

/// Puts the access of the vCPU that runs here to its server, and the vCPU to sleep; false if nobody serves there.
pub(crate) fn ask<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, access: MemoryAccess) -> bool {
    let Current { vcpu, domain } = current;
    let (first, last) = (access.ipa.raw(), access.ipa.raw().saturating_add(u64::from(access.size) - 1));
    let port_at =
        |(range, port): &(Range<u64>, Port)| (range.contains(&first) && range.contains(&last)).then_some(*port);
    let Some(port) = domain.devices.lock().iter().find_map(port_at) else { return false };
    vcpu.run.lock().waiting = Some((access, port));
    kernel.hold(vcpu, SERVED);
    // It waits first and then looks, and a server that goes disconnects first and then looks: one sees the other.
    let state = domain.events.port(port).map(evtchn::PortEntry::load);
    let served = state.is_ok_and(|state| matches!(state.binding, Binding::Interdomain(..)));
    if served && evtchn::send(kernel, domain, port).is_ok() {
        return true;
    }
    forsake(kernel, domain, port);
    false
}

/// The access of the first vCPU at or after `from` that waits for the server at `port`; `ENOENT` if none does.
pub fn next<H: Hw>(domain: &Domain<H>, port: Port, from: VcpuId) -> Result<IoRequest, XenError> {
    let mut waiting = domain.vcpus().iter().filter(|vcpu| vcpu.id >= from).filter_map(|vcpu| {
        let (access, _) = vcpu.run.lock().waiting.filter(|(_, server)| *server == port)?;
        let (address, value) = (access.ipa.raw(), access.store.unwrap_or(0));
        let is_write = u8::from(access.store.is_some());
        Some(IoRequest { address, value, vcpu: vcpu.id, size: access.size, is_write, pad: [0; 2] })
    });
    waiting.next().ok_or(XenError::NoEnt)
}

/// Ends the access that a vCPU waits for; a load reads `value`. `ENOENT` if it waits for none, `EAGAIN` as long as it has
/// not left its pCPU.
pub fn answer<H: Hw>(kernel: &Kernel<H>, vcpu: &H::Shared<Vcpu<H>>, value: u64) -> Result<(), XenError> {
    let mut run = vcpu.run.lock();
    let (access, _) = run.waiting.ok_or(XenError::NoEnt)?;
    if run.running_on().is_some() {
        // Its registers are not saved yet.
        return Err(XenError::Again);
    }
    run.waiting = None;
    access.complete(&mut run.context.frame, value);
    drop(run);
    kernel.release(vcpu, SERVED);
    Ok(())
}

/// The server at `port` is gone: the vCPUs that wait for it try again where they stand, and find nobody.
pub(crate) fn forsake<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, port: Port) {
    for vcpu in domain.vcpus() {
        if vcpu.run.lock().waiting.take_if(|(_, server)| *server == port).is_some() {
            kernel.release(vcpu, SERVED);
        }
    }
}

#[cfg(test)]
mod tests;
