//! `xen_version` and `hvm_op`: what a guest is told of the hypervisor, and of its own store and console.

use hypercall_abi::errno::XenError;
use hypercall_abi::hvm::{HvmOp, HvmParam, Param};
use hypercall_abi::version::{
    CAPABILITIES_LEN, CHANGESET_LEN, COMMANDLINE_LEN, COMPILE_INFO_LEN, EXTRAVERSION_LEN, FeatureInfo, VersionOp,
    XENFEAT_ARM_SMCCC_SUPPORTED, XENFEAT_AUTO_TRANSLATED_PHYSMAP, XENFEAT_DIRECT_MAPPED, XENFEAT_DOM0,
    XENFEAT_NOT_DIRECT_MAPPED, XENFEAT_WRITABLE_PAGE_TABLES,
};

use crate::addr::PAGE_SIZE;
use crate::domain::Domain;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::sync::{AtomicU64, Ordering};

/// The version of the ABI that we speak: Xen 4.17.
const VERSION: u64 = 4 << 16 | 17;

/// `xen_version(cmd, arg)`. The version itself in line, since Linux asks for it whenever it wants nothing but to be at
/// EL2 for a moment.
#[inline(always)]
pub fn version<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    match VersionOp::try_from(call.arg32(0)).map_err(XenError::from)? {
        VersionOp::Version => Ok(VERSION),
        other => more(call, other),
    }
}

#[inline(never)]
fn more<H: Hw>(call: &Call<'_, H>, op: VersionOp) -> CallResult {
    match op {
        VersionOp::Version => return Ok(VERSION),
        VersionOp::Pagesize => return Ok(PAGE_SIZE),
        VersionOp::Extraversion => text::<H, EXTRAVERSION_LEN>(call, ".0-xenolith")?,
        VersionOp::CompileInfo => text::<H, COMPILE_INFO_LEN>(call, "rustc")?,
        VersionOp::Capabilities => text::<H, CAPABILITIES_LEN>(call, "xen-3.0-aarch64 ")?,
        VersionOp::Changeset => text::<H, CHANGESET_LEN>(call, env!("CARGO_PKG_VERSION"))?,
        VersionOp::Commandline if !call.domain.is_privileged() => return Err(XenError::Perm.into()),
        VersionOp::Commandline => {
            text::<H, COMMANDLINE_LEN>(call, call.kernel.machine.get().map_or("", |machine| machine.cmdline))?;
        }
        VersionOp::PlatformParameters => call.write(1, &0u64)?,
        VersionOp::GuestHandle => call.write(1, &call.domain.uuid)?,
        VersionOp::GetFeatures => {
            let FeatureInfo { submap_idx: 0, .. } = call.read(1)? else { return Err(XenError::Inval.into()) };
            call.write(1, &FeatureInfo { submap_idx: 0, submap: features(call.domain) })?;
        }
        VersionOp::BuildId => return Err(XenError::NoData.into()),
    }
    Ok(0)
}

fn features<H: Hw>(domain: &Domain<H>) -> u32 {
    let mapping = if domain.is_privileged() { XENFEAT_DIRECT_MAPPED } else { XENFEAT_NOT_DIRECT_MAPPED };
    u32::from(domain.is_privileged()) << XENFEAT_DOM0
        | 1 << XENFEAT_WRITABLE_PAGE_TABLES
        | 1 << XENFEAT_AUTO_TRANSLATED_PHYSMAP
        | 1 << XENFEAT_ARM_SMCCC_SUPPORTED
        | 1 << mapping
}

/// Writes a C string into a field of `N` bytes. Out of line, so that the calls without text need no room for one.
#[inline(never)]
fn text<H: Hw, const N: usize>(call: &Call<'_, H>, text: &str) -> Result<(), XenError> {
    let mut field = [0; N];
    // The last byte stays zero.
    for (to, from) in field.iter_mut().take(N - 1).zip(text.bytes()) {
        *to = from;
    }
    call.write(1, &field)
}

/// `hvm_op(cmd, arg)`. A guest reads its own parameters and sets only how it wants to be told of events.
#[inline(never)]
pub fn hvm<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let command = HvmOp::try_from(call.arg32(0)).map_err(XenError::from)?;
    let arg: HvmParam = call.read(1)?;
    if call.domain.resolve(arg.domid) != call.domain.id {
        return Err(XenError::Perm.into());
    }
    match (command, Param::from_raw(arg.index)) {
        (HvmOp::GetParam, _) => {
            let value = param(call.domain, arg.index)?.load(Ordering::Relaxed);
            call.write(1, &HvmParam { value, ..arg })?;
        }
        // Events always arrive as the PPI that the device tree names, so there is nothing to switch.
        (HvmOp::SetParam, Some(Param::CallbackIrq)) => set_param(call.domain, arg.index, arg.value)?,
        // The toolstack's.
        (HvmOp::SetParam, Some(_)) => return Err(XenError::Perm.into()),
        (HvmOp::SetParam, None) => return Err(XenError::Inval.into()),
    }
    Ok(0)
}

/// Sets a parameter of a domain.
pub fn set_param<H: Hw>(domain: &Domain<H>, index: u32, value: u64) -> Result<(), XenError> {
    param(domain, index).map(|param| param.store(value, Ordering::Relaxed))
}

fn param<H: Hw>(domain: &Domain<H>, index: u32) -> Result<&AtomicU64, XenError> {
    domain.params.get(index as usize).ok_or(XenError::Inval)
}
