//! The hypercall instruction (Xen public/arch-arm/hypercall.h: number in x16, arguments in x0 to x4).

use core::arch::asm;
use hypercall_abi::arm::HYPERCALL_TAG;
use hypercall_abi::errno::{XenError, decode};
use zerocopy::{FromBytes, IntoBytes};

/// Makes a hypercall and returns x0, x1 and x2.
///
/// # Safety
/// For this call with these arguments, every address that the hypervisor will read or write as a buffer must
/// be memory that the caller may access in that way for the length that the call implies, and the call must
/// not change the domain's memory map under live Rust objects.
#[inline]
pub unsafe fn hypercall(number: u32, args: [u64; 5]) -> [u64; 3] {
    let [a0, a1, a2, a3, a4] = args;
    let (r0, r1, r2): (u64, u64, u64);
    // SAFETY: the caller answers for what the call does with its arguments. The hypervisor keeps all
    // registers but those of the call, which debug builds of Xen overwrite.
    unsafe {
        asm!(
            "hvc {tag}",
            tag = const HYPERCALL_TAG,
            inlateout("x0") a0 => r0,
            inlateout("x1") a1 => r1,
            inlateout("x2") a2 => r2,
            inlateout("x3") a3 => _,
            inlateout("x4") a4 => _,
            inlateout("x16") u64::from(number) => _,
            options(nostack),
        );
    }
    [r0, r1, r2]
}

/// Makes a PSCI call (Arm DEN0022F) and returns x0 to x3.
///
/// # Safety
/// As for [`hypercall`]: what the call turns on must find what it needs.
#[cfg(feature = "smp")]
pub unsafe fn psci(function: u32, args: [u64; 3]) -> [u64; 4] {
    let [a1, a2, a3] = args;
    let (r0, r1, r2, r3): (u64, u64, u64, u64);
    // SAFETY: the caller answers for what the call does. By the SMC calling convention (Arm DEN0028F) the call keeps x4
    // to x17 at least in its 64-bit form; they are given up all the same, since its first versions did not.
    unsafe {
        asm!(
            "hvc #0",
            inlateout("x0") u64::from(function) => r0,
            inlateout("x1") a1 => r1,
            inlateout("x2") a2 => r2,
            inlateout("x3") a3 => r3,
            clobber_abi("C"),
            options(nostack),
        );
    }
    [r0, r1, r2, r3]
}

/// A call of the form `(cmd, &mut structure)`.
///
/// # Errors
/// What the hypervisor answers.
///
/// # Safety
/// As for [`hypercall`], for whatever the structure itself points to or asks for.
#[inline]
pub unsafe fn with_struct<T: FromBytes + IntoBytes>(number: u32, cmd: u32, arg: &mut T) -> Result<u64, XenError> {
    let address = core::ptr::from_mut(arg) as u64;
    // SAFETY: the structure is exclusively borrowed and any bytes make a valid `T`; the caller answers for
    // the rest.
    let [result, ..] = unsafe { hypercall(number, [u64::from(cmd), address, 0, 0, 0]) };
    decode(result)
}

/// A call of the form `(cmd, &mut [structure], count)`.
///
/// # Errors
/// What the hypervisor answers; each structure has a status of its own besides.
///
/// # Safety
/// As for [`hypercall`], for whatever the structures themselves point to or ask for.
#[inline]
pub unsafe fn with_slice<T: FromBytes + IntoBytes>(number: u32, cmd: u32, args: &mut [T]) -> Result<u64, XenError> {
    let (address, count) = (args.as_mut_ptr() as u64, args.len() as u64);
    // SAFETY: as for `with_struct`, for `count` structures.
    let [result, ..] = unsafe { hypercall(number, [u64::from(cmd), address, count, 0, 0]) };
    decode(result)
}

/// A call of the form `(cmd, length, buffer)` that only reads the buffer.
///
/// # Errors
/// What the hypervisor answers.
///
/// # Safety
/// The call must not write to the buffer.
#[inline]
pub unsafe fn with_input(number: u32, cmd: u32, bytes: &[u8]) -> Result<u64, XenError> {
    let (address, length) = (bytes.as_ptr() as u64, bytes.len() as u64);
    // SAFETY: the buffer is borrowed for reading, which is all that the call does with it.
    let [result, ..] = unsafe { hypercall(number, [u64::from(cmd), length, address, 0, 0]) };
    decode(result)
}

/// A call of the form `(cmd, value)` that passes no address.
///
/// # Errors
/// What the hypervisor answers.
///
/// # Safety
/// The call must not read or write guest memory by `value`.
#[inline]
pub unsafe fn with_value(number: u32, cmd: u32, value: u64) -> Result<u64, XenError> {
    // SAFETY: no address is passed, says the caller.
    let [result, ..] = unsafe { hypercall(number, [u64::from(cmd), value, 0, 0, 0]) };
    decode(result)
}
