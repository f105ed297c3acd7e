//! The hypercalls of Xen on Arm that are safe to make as they stand, as typed functions.
//!
//! Calls that change the memory map or take buffers of a length of their own are behind the modules that own
//! the memory: `grant`, `evtchn`, `boot`. Each function's error is what the hypervisor answered
//! (Xen public/errno.h).
//!
//! Example: `examples/events.rs`.

use hypercall_abi::console::ConsoleIo;
use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::{self, EvtchnOp};
use hypercall_abi::grant::{self, GrantOp};
use hypercall_abi::hvm::{HvmOp, HvmParam, Param};
use hypercall_abi::ids::{DomId, Gfn, Port, VcpuId};
use hypercall_abi::memory::{AddToPhysmap, DomainArg, MapSpace, MemoryOp};
use hypercall_abi::nr;
use hypercall_abi::sched::{SchedOp, Shutdown, ShutdownReason};
use hypercall_abi::version::{COMMANDLINE_LEN, EXTRAVERSION_LEN, FeatureInfo, VersionOp};
use zerocopy::{FromBytes, IntoBytes};

use super::hvc;

type Result<T> = core::result::Result<T, XenError>;

/// One `event_channel_op`; none of its structures points anywhere.
fn event_channel_op<T: FromBytes + IntoBytes>(op: EvtchnOp, arg: &mut T) -> Result<()> {
    // SAFETY: the structures of event_channel_op hold numbers only, and the calls used here change no memory
    // but the shared information page, which is only reached as shared memory.
    unsafe { hvc::with_struct(nr::EVENT_CHANNEL_OP, op.raw(), arg) }.map(drop)
}

/// Allocates a port of this domain that `remote` may bind to.
///
/// # Errors
/// `ENOSPC` when all ports are in use.
pub fn evtchn_alloc_unbound(remote: DomId) -> Result<Port> {
    let mut arg = evtchn::AllocUnbound { dom: DomId::SELF, remote_dom: remote, port: Port(0) };
    event_channel_op(EvtchnOp::AllocUnbound, &mut arg)?;
    Ok(arg.port)
}

/// Connects to the unbound port `remote_port` of `remote`.
///
/// # Errors
/// `ESRCH` without such a domain, `EINVAL` when the port does not wait for us, `ENOSPC` without a free port.
pub fn evtchn_bind_interdomain(remote: DomId, remote_port: Port) -> Result<Port> {
    let mut arg = evtchn::BindInterdomain { remote_dom: remote, pad: 0, remote_port, local_port: Port(0) };
    event_channel_op(EvtchnOp::BindInterdomain, &mut arg)?;
    Ok(arg.local_port)
}

/// Binds a virtual interrupt on `vcpu` (0 for a global one).
///
/// # Errors
/// `EEXIST` when it is bound, `EPERM` when it is for Dom0, `EINVAL`, `ENOENT` without such a vCPU.
pub fn evtchn_bind_virq(virq: evtchn::Virq, vcpu: VcpuId) -> Result<Port> {
    let mut arg = evtchn::BindVirq { virq: virq.raw(), vcpu, port: Port(0) };
    event_channel_op(EvtchnOp::BindVirq, &mut arg)?;
    Ok(arg.port)
}

/// Allocates a port that this domain sends to itself.
///
/// # Errors
/// `ENOENT` without such a vCPU, `ENOSPC` without a free port.
pub fn evtchn_bind_ipi(vcpu: VcpuId) -> Result<Port> {
    let mut arg = evtchn::BindIpi { vcpu, port: Port(0) };
    event_channel_op(EvtchnOp::BindIpi, &mut arg)?;
    Ok(arg.port)
}

/// Closes a port.
///
/// # Errors
/// `EINVAL` when it is not open.
pub fn evtchn_close(port: Port) -> Result<()> {
    event_channel_op(EvtchnOp::Close, &mut evtchn::Close { port })
}

/// Notifies the other end.
///
/// # Errors
/// `EINVAL` when the port cannot be sent to.
pub fn evtchn_send(port: Port) -> Result<()> {
    event_channel_op(EvtchnOp::Send, &mut evtchn::Send { port })
}

/// Chooses the vCPU that a port notifies.
///
/// # Errors
/// `EINVAL` for a port that is bound to one vCPU, `ENOENT` without such a vCPU.
pub fn evtchn_bind_vcpu(port: Port, vcpu: VcpuId) -> Result<()> {
    event_channel_op(EvtchnOp::BindVcpu, &mut evtchn::BindVcpu { port, vcpu })
}

/// The state of one of this domain's ports.
///
/// # Errors
/// `EINVAL` without such a port.
pub fn evtchn_status(port: Port) -> Result<evtchn::Status> {
    let mut arg = evtchn::Status { dom: DomId::SELF, port, ..Default::default() };
    event_channel_op(EvtchnOp::Status, &mut arg)?;
    Ok(arg)
}

/// Maps foreign grants into this domain's physical map; each operation has its own status.
///
/// # Errors
/// `EFAULT`, `ENOSYS`.
///
/// # Safety
/// What was at each `host_addr` is gone afterwards: it must be window, not RAM that is in use.
pub unsafe fn grant_map(ops: &mut [grant::MapGrantRef]) -> Result<()> {
    // SAFETY: the caller answers for the addresses to map at.
    unsafe { hvc::with_slice(nr::GRANT_TABLE_OP, GrantOp::MapGrantRef.raw(), ops) }.map(drop)
}

/// Unmaps foreign grants; each operation has its own status.
///
/// # Errors
/// `EFAULT`, `ENOSYS`.
///
/// # Safety
/// Nobody may use the mappings any more.
pub unsafe fn grant_unmap(ops: &mut [grant::UnmapGrantRef]) -> Result<()> {
    // SAFETY: the caller has given the mappings up.
    unsafe { hvc::with_slice(nr::GRANT_TABLE_OP, GrantOp::UnmapGrantRef.raw(), ops) }.map(drop)
}

/// Copies between granted pages and own frames; each operation has its own status.
///
/// # Errors
/// `EFAULT`, `ENOSYS`.
///
/// # Safety
/// A destination that is a frame of this domain must be memory that no Rust object is in.
pub unsafe fn grant_copy(ops: &mut [grant::Copy]) -> Result<()> {
    // SAFETY: the caller answers for own frames that are written; foreign ones need a grant.
    unsafe { hvc::with_slice(nr::GRANT_TABLE_OP, GrantOp::Copy.raw(), ops) }.map(drop)
}

/// The size of this domain's grant table.
///
/// # Errors
/// As the hypervisor answers; a status other than okay reads as `EINVAL`.
pub fn grant_query_size() -> Result<grant::QuerySize> {
    let mut ops = [grant::QuerySize { dom: DomId::SELF, ..Default::default() }];
    // SAFETY: the structure holds numbers only.
    unsafe { hvc::with_slice(nr::GRANT_TABLE_OP, GrantOp::QuerySize.raw(), &mut ops) }?;
    let [op] = ops;
    if op.status == grant::GrantStatus::Okay.raw() { Ok(op) } else { Err(XenError::Inval) }
}

/// A parameter of this domain.
///
/// # Errors
/// `EINVAL` when it is unknown.
pub fn hvm_param(param: Param) -> Result<u64> {
    let mut arg = HvmParam { domid: DomId::SELF, pad: 0, index: param.raw(), value: 0 };
    // SAFETY: the structure holds numbers only.
    unsafe { hvc::with_struct(nr::HVM_OP, HvmOp::GetParam.raw(), &mut arg) }?;
    Ok(arg.value)
}

/// Puts a special page at a place of this domain's physical map.
///
/// # Errors
/// `EINVAL` for an unknown page, `ENOMEM`.
///
/// # Safety
/// What was at `gpfn` is gone afterwards: it must hold nothing that is in use.
pub unsafe fn add_to_physmap(space: MapSpace, idx: u64, gpfn: Gfn) -> Result<()> {
    let mut arg = AddToPhysmap { domid: DomId::SELF, size: 0, space: space.raw(), idx, gpfn };
    // SAFETY: the caller answers for the place.
    unsafe { hvc::with_struct(nr::MEMORY_OP, MemoryOp::AddToPhysmap.raw(), &mut arg) }.map(drop)
}

/// Pages that this domain owns.
///
/// # Errors
/// As the hypervisor answers.
pub fn current_reservation() -> Result<u64> {
    let mut arg = DomainArg { domid: DomId::SELF };
    // SAFETY: the structure holds a number only.
    unsafe { hvc::with_struct(nr::MEMORY_OP, MemoryOp::CurrentReservation.raw(), &mut arg) }
}

/// Lets another vCPU run, if one wants to.
pub fn yield_now() {
    // SAFETY: takes no argument.
    let _ = unsafe { hvc::with_value(nr::SCHED_OP, SchedOp::Yield.raw(), 0) };
}

/// Ends this domain.
pub fn shutdown(reason: ShutdownReason) -> ! {
    let mut arg = Shutdown { reason: reason.raw() };
    // SAFETY: the structure holds a number only, and nothing of this domain runs afterwards.
    let _ = unsafe { hvc::with_struct(nr::SCHED_OP, SchedOp::Shutdown.raw(), &mut arg) };
    crate::sys::cpu::halt()
}

/// Suspends this domain, and returns when it goes on: true when the suspension was cancelled, false when the domain was
/// restored from what was saved.
///
/// # Errors
/// As the hypervisor answers.
pub fn suspend() -> Result<bool> {
    let mut arg = Shutdown { reason: ShutdownReason::Suspend.raw() };
    // SAFETY: the structure holds a number only.
    unsafe { hvc::with_struct(nr::SCHED_OP, SchedOp::Shutdown.raw(), &mut arg) }.map(|answer| answer != 0)
}

/// Writes to the hypervisor's own console.
///
/// # Errors
/// `EPERM` when the domain may not, `EFAULT`.
pub fn console_write(bytes: &[u8]) -> Result<()> {
    // SAFETY: CONSOLEIO_write only reads the buffer.
    unsafe { hvc::with_input(nr::CONSOLE_IO, ConsoleIo::Write.raw(), bytes) }.map(drop)
}

/// The hypervisor's version: major, minor.
///
/// # Errors
/// As the hypervisor answers.
pub fn version() -> Result<(u16, u16)> {
    // SAFETY: XENVER_version takes no argument.
    let packed = unsafe { hvc::with_value(nr::XEN_VERSION, VersionOp::Version.raw(), 0) }?;
    let [low0, low1, high0, high1, ..] = packed.to_le_bytes();
    Ok((u16::from_le_bytes([high0, high1]), u16::from_le_bytes([low0, low1])))
}

/// What follows the version's numbers, with NULs behind it.
///
/// # Errors
/// As the hypervisor answers.
pub fn extra_version() -> Result<[u8; EXTRAVERSION_LEN]> {
    let mut text = [0u8; EXTRAVERSION_LEN];
    // SAFETY: the call writes EXTRAVERSION_LEN bytes at most.
    unsafe { hvc::with_struct(nr::XEN_VERSION, VersionOp::Extraversion.raw(), &mut text) }?;
    Ok(text)
}

/// The hypervisor's command line, with NULs behind it; for the control domain only.
///
/// # Errors
/// As the hypervisor answers.
pub fn command_line() -> Result<[u8; COMMANDLINE_LEN]> {
    let mut text = [0u8; COMMANDLINE_LEN];
    // SAFETY: the call writes COMMANDLINE_LEN bytes at most.
    unsafe { hvc::with_struct(nr::XEN_VERSION, VersionOp::Commandline.raw(), &mut text) }?;
    Ok(text)
}

/// The first word of features, see `XENFEAT_*` in [`hypercall_abi::version`].
///
/// # Errors
/// As the hypervisor answers.
pub fn features() -> Result<u32> {
    let mut arg = FeatureInfo::default();
    // SAFETY: the structure holds numbers only.
    unsafe { hvc::with_struct(nr::XEN_VERSION, VersionOp::GetFeatures.raw(), &mut arg) }?;
    Ok(arg.submap)
}
