//! The control calls that pass memory, by the direction in which they use it.

use hypercall_abi::control::{Cap, Op};
use hypercall_abi::errno::{XenError, decode};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::hvc::hypercall;
use crate::addr::{Ipa, IpaRange};

/// A call without a buffer; returns x0, x1 and x2.
pub fn call(op: Op, args: [u64; 5]) -> [u64; 3] {
    let with_buffer = match op {
        Op::PlatformInfo | Op::ConsoleRead | Op::DomainCreate => true,
        Op::DomainInfo | Op::MemoryWrite | Op::MemoryRead | Op::VcpuInfo | Op::IoNext | Op::TraceRing => true,
        Op::Version | Op::Power | Op::DeviceMap | Op::DomainLookup | Op::CapDrop | Op::DomainDestroy => false,
        Op::DomainPause | Op::DomainUnpause | Op::DomainShutdown | Op::DomainMaxPages | Op::Populate => false,
        Op::VcpuStart | Op::VcpuAffinity | Op::HvmParam | Op::GrantSeed | Op::PortAlloc => false,
        Op::WallClock | Op::DomainShare | Op::IoServe | Op::IoAnswer | Op::IrqLevel => false,
    };
    if with_buffer {
        return [XenError::Fault.raw().cast_unsigned(), 0, 0];
    }
    // SAFETY: the calls that are left read and write no memory of the caller.
    unsafe { hypercall(op.number(), args) }
}

/// Names the pages of the caller's RAM where a pCPU writes its trace from now on ([`hypercall_abi::trace`]); 0 pages end it.
///
/// # Safety
/// The pages hold no Rust object, and are not used for anything else before the ring is taken back.
///
/// # Errors
/// `EINVAL` for a pCPU that is not there or a wrong number of pages; `ENOENT` for what is not the caller's RAM.
pub unsafe fn trace_ring(pcpu: u32, at: Ipa, pages: u64) -> Result<(), XenError> {
    let args = [u64::from(Cap::PLATFORM.index()), u64::from(pcpu), at.raw(), pages, 0];
    // SAFETY: as the caller promises.
    let [x0, ..] = unsafe { hypercall(Op::TraceRing.number(), args) };
    decode(x0).map(drop)
}

/// A call that fills in a structure, whose address stands behind the other arguments.
///
/// # Errors
/// As the microkernel answers.
pub fn fill<T: FromBytes + IntoBytes, const N: usize>(op: Op, args: [u64; N]) -> Result<T, XenError> {
    let mut value = T::new_zeroed();
    let address = (&raw mut value) as u64;
    // SAFETY: the calls used with this function write one structure of the type that the ABI names for them;
    // any bytes make a valid value.
    let [x0, ..] = unsafe { hypercall(op.number(), followed_by(args, address)) };
    decode(x0)?;
    Ok(value)
}

/// A call that reads a structure, whose address stands behind the other arguments.
pub fn read_from<T: IntoBytes + Immutable, const N: usize>(op: Op, args: [u64; N], value: &T) -> [u64; 3] {
    let address = core::ptr::from_ref(value) as u64;
    // SAFETY: the call reads one structure of this type.
    unsafe { hypercall(op.number(), followed_by(args, address)) }
}

/// A call of the form `(a, b, buffer, length)` that writes into the buffer.
pub fn write_to(op: Op, [a, b]: [u64; 2], buffer: &mut [u8]) -> [u64; 3] {
    // SAFETY: the call writes at most `length` bytes, which are exclusively borrowed.
    unsafe { hypercall(op.number(), [a, b, buffer.as_mut_ptr() as u64, buffer.len() as u64, 0]) }
}

/// A call of the form `(a, b, address, length)` that reads our memory.
pub fn read_range(op: Op, [a, b]: [u64; 2], range: IpaRange) -> [u64; 3] {
    // SAFETY: the call reads at most `length` bytes, and finds an error where there are none.
    unsafe { hypercall(op.number(), [a, b, range.start().raw(), range.size(), 0]) }
}

fn followed_by<const N: usize>(args: [u64; N], address: u64) -> [u64; 5] {
    const { assert!(N < 5, "there is room for the address") };
    let mut all = [0; 5];
    for (to, from) in all.iter_mut().zip(args.into_iter().chain([address])) {
        *to = from;
    }
    all
}
