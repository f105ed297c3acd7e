//! The control calls, typed: what the holder of a capability may ask the microkernel to do.
//!
//! Thin: one function per call, no state. Each names what it returns; errors are what the microkernel answered
//! (see [`hypercall_abi::control`]). Calls that work in stretches are driven to their end here, except where a
//! caller may want to do something else in between ([`destroy`]).

use core::time::Duration;

use hypercall_abi::control::Op;
pub use hypercall_abi::control::{Cap, DomainInfo, DomainParams, IoRequest, PlatformInfo, VcpuInfo};
use hypercall_abi::errno::{XenError, decode};
use hypercall_abi::hvm::Param;
use hypercall_abi::ids::{DomId, Gfn, GrantRef, Port, VcpuId};
use hypercall_abi::sched::ShutdownReason;

use crate::addr::{Ipa, IpaRange};
pub use crate::sys::control::trace_ring;
use crate::sys::control::{call, fill, read_from, write_to};

type Result<T> = core::result::Result<T, XenError>;

/// A capability that was just made or found, and the domain that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// To control the domain with.
    pub cap: Cap,
    /// Its number.
    pub id: DomId,
}

/// What a stretch of a long call achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All is done.
    Done,
    /// Call again.
    More,
}

/// What to do with the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerAction {
    /// Switch it off.
    Off,
    /// Start it again.
    Restart,
}

fn cap(cap: Cap) -> u64 {
    u64::from(cap.index())
}

fn domain([_, x1, x2]: [u64; 3]) -> Result<Domain> {
    let index = u32::try_from(x1).map_err(|_| XenError::Overflow)?;
    let id = u16::try_from(x2).map_err(|_| XenError::Overflow)?;
    Ok(Domain { cap: Cap::new(index), id: DomId(id) })
}

fn port([_, x1, _]: [u64; 3]) -> Result<Port> {
    u32::try_from(x1).map(Port).map_err(|_| XenError::Overflow)
}

/// Makes a call of which the outcome is yes or an error.
fn ask(op: Op, args: [u64; 5]) -> Result<()> {
    checked(op, args).map(drop)
}

fn checked(op: Op, args: [u64; 5]) -> Result<[u64; 3]> {
    let results = call(op, args);
    decode(results[0])?;
    Ok(results)
}

/// The version of the control ABI that the microkernel speaks.
///
/// # Errors
/// `ENOSYS` on a hypervisor without it.
pub fn version() -> Result<u32> {
    let [_, version, _] = checked(Op::Version, [0; 5])?;
    u32::try_from(version).map_err(|_| XenError::Overflow)
}

/// The machine.
///
/// # Errors
/// `EPERM` without the platform's capability.
pub fn platform_info() -> Result<PlatformInfo> {
    fill(Op::PlatformInfo, [cap(Cap::PLATFORM)])
}

/// Reads the log from the byte position `position`; returns the position after what was read, and how many bytes
/// were read.
///
/// # Errors
/// `EPERM` without the platform's capability.
pub fn console_read(position: u64, buffer: &mut [u8]) -> Result<(u64, usize)> {
    let [x0, next, bytes] = write_to(Op::ConsoleRead, [cap(Cap::PLATFORM), position], buffer);
    decode(x0)?;
    Ok((next, usize::try_from(bytes).unwrap_or(0).min(buffer.len())))
}

/// Switches the machine off or restarts it.
///
/// # Errors
/// Returns only when it was refused.
pub fn power(action: PowerAction) -> XenError {
    let number = match action {
        PowerAction::Off => 0,
        PowerAction::Restart => 1,
    };
    ask(Op::Power, [cap(Cap::PLATFORM), number, 0, 0, 0]).err().unwrap_or(XenError::Io)
}

/// Maps `pages` pages of device registers for the caller, where they lie in the machine.
///
/// # Errors
/// `EPERM` for what is no device's, `EEXIST` where something is mapped.
pub fn map_device(at: Ipa, pages: u64) -> Result<()> {
    ask(Op::DeviceMap, [cap(Cap::PLATFORM), at.raw(), pages, 0, 0])
}

/// Creates a domain, paused and without memory.
///
/// # Errors
/// `EINVAL` for limits out of range, `ENOMEM`, `ENOSPC` when no domain id or capability is free.
pub fn create(params: &DomainParams) -> Result<Domain> {
    let results = read_from(Op::DomainCreate, [cap(Cap::PLATFORM)], params);
    decode(results[0])?;
    domain(results)
}

/// A capability for the first live domain whose number is at least `from`.
///
/// # Errors
/// `ENOENT` without such a domain.
pub fn lookup(from: DomId) -> Result<Domain> {
    domain(checked(Op::DomainLookup, [cap(Cap::PLATFORM), u64::from(from.0), 0, 0, 0])?)
}

/// Forgets a capability.
///
/// # Errors
/// `EBADF` when it names nothing.
pub fn drop_cap(dom: Cap) -> Result<()> {
    ask(Op::CapDrop, [cap(dom), 0, 0, 0, 0])
}

/// One domain.
///
/// # Errors
/// `EBADF` when the capability names no domain.
pub fn domain_info(dom: Cap) -> Result<DomainInfo> {
    fill(Op::DomainInfo, [cap(dom)])
}

/// Kills the domain and returns what it owns, one stretch of the work at a time.
///
/// # Errors
/// `EBADF` when the capability names no domain.
pub fn destroy(dom: Cap) -> Result<Progress> {
    match ask(Op::DomainDestroy, [cap(dom), 0, 0, 0, 0]) {
        Ok(()) => Ok(Progress::Done),
        Err(XenError::Again) => Ok(Progress::More),
        Err(error) => Err(error),
    }
}

/// Pauses the domain; nests.
///
/// # Errors
/// `EBADF` when the capability names no domain.
pub fn pause(dom: Cap) -> Result<()> {
    ask(Op::DomainPause, [cap(dom), 0, 0, 0, 0])
}

/// Takes one pause back.
///
/// # Errors
/// `EBADF` when the capability names no domain, `EINVAL` when it is not paused.
pub fn unpause(dom: Cap) -> Result<()> {
    ask(Op::DomainUnpause, [cap(dom), 0, 0, 0, 0])
}

/// Shuts the domain down as if it had asked for it.
///
/// # Errors
/// `EBADF` when the capability names no domain.
pub fn shutdown(dom: Cap, reason: ShutdownReason) -> Result<()> {
    ask(Op::DomainShutdown, [cap(dom), u64::from(reason.raw()), 0, 0, 0])
}

/// Sets the most pages that the domain may own.
///
/// # Errors
/// `EBADF` when the capability names no domain.
pub fn set_max_pages(dom: Cap, pages: u64) -> Result<()> {
    ask(Op::DomainMaxPages, [cap(dom), pages, 0, 0, 0])
}

/// Gives the domain fresh zeroed RAM at `ipa`.
///
/// # Errors
/// `ENOMEM` when the machine or the domain's limit is exhausted, `EEXIST` where something is; what was given
/// before the error stays.
pub fn populate(dom: Cap, ipa: Ipa, pages: u64) -> Result<()> {
    let mut done = 0;
    in_stretches(pages, |left| {
        let at = ipa.offset(done << hypercall_abi::PAGE_SHIFT).raw();
        let results = call(Op::Populate, [cap(dom), at, left, 0, 0]);
        done += results[1].min(left);
        results
    })
}

/// Copies into the domain's RAM.
///
/// # Errors
/// `EFAULT` where there is no RAM; what was copied before stays.
pub fn write_memory(dom: Cap, ipa: Ipa, bytes: &[u8]) -> Result<()> {
    // Our memory is mapped where it is.
    let from = Ipa::new(bytes.as_ptr() as u64);
    copy_memory(dom, ipa, IpaRange::new(from, bytes.len() as u64).ok_or(XenError::Fault)?)
}

/// Copies into the domain's RAM from ours, such as memory into which a device has written.
///
/// # Errors
/// `EFAULT` where there is no RAM; what was copied before stays.
pub fn copy_memory(dom: Cap, ipa: Ipa, from: IpaRange) -> Result<()> {
    in_stretches(from.size(), |left| {
        let done = from.size() - left;
        let rest = IpaRange::new(from.start().offset(done), left).ok_or(XenError::Fault);
        rest.map_or([XenError::Fault.raw().cast_unsigned(), 0, 0], |rest| {
            crate::sys::control::read_range(Op::MemoryWrite, [cap(dom), ipa.offset(done).raw()], rest)
        })
    })
}

/// Copies out of the domain's RAM.
///
/// # Errors
/// `EFAULT` where there is no RAM.
pub fn read_memory(dom: Cap, ipa: Ipa, bytes: &mut [u8]) -> Result<()> {
    let mut done = 0;
    in_stretches(bytes.len() as u64, |_| {
        let rest = bytes.get_mut(done..).unwrap_or_default();
        let results = write_to(Op::MemoryRead, [cap(dom), ipa.offset(done as u64).raw()], rest);
        done += usize::try_from(results[1]).unwrap_or(0).min(rest.len());
        results
    })
}

/// Repeats a call that reports in x1 how much of `total` it did, until all is done.
fn in_stretches(total: u64, mut step: impl FnMut(u64) -> [u64; 3]) -> Result<()> {
    let mut left = total;
    while left > 0 {
        let [x0, done, _] = step(left);
        left = left.saturating_sub(done);
        match decode(x0) {
            Ok(_) if done == 0 => return Err(XenError::Io),
            Ok(_) | Err(XenError::Again) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sets where a vCPU that has not run yet starts, and brings it online.
///
/// # Errors
/// `ENOENT` without such a vCPU, `EEXIST` when it has been started.
pub fn start_vcpu(dom: Cap, vcpu: VcpuId, pc: Ipa, x0: u64) -> Result<()> {
    ask(Op::VcpuStart, [cap(dom), u64::from(vcpu.0), pc.raw(), x0, 0])
}

/// One vCPU.
///
/// # Errors
/// `ENOENT` without such a vCPU.
pub fn vcpu_info(dom: Cap, vcpu: VcpuId) -> Result<VcpuInfo> {
    fill(Op::VcpuInfo, [cap(dom), u64::from(vcpu.0)])
}

/// Sets the pCPUs that a vCPU may use, bit n for pCPU n.
///
/// # Errors
/// `EINVAL` when no online pCPU is left, `ENOENT` without such a vCPU.
pub fn set_affinity(dom: Cap, vcpu: VcpuId, hard: u64, soft: u64) -> Result<()> {
    ask(Op::VcpuAffinity, [cap(dom), u64::from(vcpu.0), hard, soft, 0])
}

/// Sets the weight of each vCPU, and how much all of them may run together, in per cent of a pCPU; 0 is no limit.
///
/// # Errors
/// `EINVAL` for a weight outside 1 to `MAX_WEIGHT`, or a cap above 100 for each vCPU.
pub fn set_share(dom: Cap, weight: u32, limit: u32) -> Result<()> {
    ask(Op::DomainShare, [cap(dom), u64::from(weight), u64::from(limit), 0, 0])
}

/// Sets an HVM parameter of the domain.
///
/// # Errors
/// `EINVAL` for one that cannot be set.
pub fn set_hvm_param(dom: Cap, param: Param, value: u64) -> Result<()> {
    ask(Op::HvmParam, [cap(dom), u64::from(param.raw()), value, 0, 0])
}

/// Writes a grant entry in the name of a domain that has not started yet.
///
/// # Errors
/// `EINVAL` for an entry or frame that it has not, `EBUSY` once it runs.
pub fn seed_grant(dom: Cap, gref: GrantRef, frame: Gfn, peer: DomId) -> Result<()> {
    ask(Op::GrantSeed, [cap(dom), u64::from(gref.0), frame.0, u64::from(peer.0), 0])
}

/// Allocates an unbound port in the domain that `remote` may bind to.
///
/// # Errors
/// `ENOSPC` when it has no free port.
pub fn alloc_port(dom: Cap, remote: DomId) -> Result<Port> {
    port(checked(Op::PortAlloc, [cap(dom), u64::from(remote.0), 0, 0, 0])?)
}

/// Lets whoever is at the other end of the domain's `port` emulate a device in this range.
///
/// # Errors
/// `EEXIST` when part of it is served already, `ENOSPC` for too many ranges, `EINVAL` without such a port.
pub fn serve_io(dom: Cap, range: IpaRange, port: Port) -> Result<()> {
    ask(Op::IoServe, [cap(dom), range.start().raw(), range.size(), u64::from(port.0), 0])
}

/// The access of the first vCPU at or after `from` that waits for the server at the domain's `port`.
///
/// # Errors
/// `ENOENT` when none does.
pub fn next_io(dom: Cap, port: Port, from: VcpuId) -> Result<IoRequest> {
    fill(Op::IoNext, [cap(dom), u64::from(port.0), u64::from(from.0)])
}

/// Ends the access that a vCPU waits for; a load reads `value`.
///
/// # Errors
/// `ENOENT` when it waits for none, `EAGAIN` for as long as it has not come to rest.
pub fn answer_io(dom: Cap, vcpu: VcpuId, value: u64) -> Result<()> {
    ask(Op::IoAnswer, [cap(dom), u64::from(vcpu.0), value, 0, 0])
}

/// Raises or lowers the line of a shared interrupt of the domain.
///
/// # Errors
/// `EBADF` when the capability names no domain.
pub fn set_irq_level(dom: Cap, irq: u32, high: bool) -> Result<()> {
    ask(Op::IrqLevel, [cap(dom), u64::from(irq), u64::from(high), 0, 0])
}

/// Says what time it is now, as the time since the start of 1970 (UTC), to a domain that has not started.
///
/// # Errors
/// `EBADF` when the capability names no domain, `EOVERFLOW` in more than 500 years.
pub fn set_wall_clock(dom: Cap, now: Duration) -> Result<()> {
    let now = u64::try_from(now.as_nanos()).map_err(|_| XenError::Overflow)?;
    ask(Op::WallClock, [cap(dom), now, 0, 0, 0])
}
