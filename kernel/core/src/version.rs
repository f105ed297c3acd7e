//! `xen_version`: who this is, in the words that Xen's guests and tools expect.

use hypercall_abi::errno::XenError;
use hypercall_abi::version::{
    CAPABILITIES_LEN, CHANGESET_LEN, COMMANDLINE_LEN, COMPILE_INFO_LEN, EXTRAVERSION_LEN, FeatureInfo, VersionOp,
    XENFEAT_ARM_SMCCC_SUPPORTED, XENFEAT_AUTO_TRANSLATED_PHYSMAP, XENFEAT_DIRECT_MAPPED, XENFEAT_DOM0,
    XENFEAT_NOT_DIRECT_MAPPED, XENFEAT_WRITABLE_PAGE_TABLES,
};

use crate::addr::{GuestVa, PAGE_SIZE};
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};

/// The version of the ABI that we speak: Xen 4.17.
const VERSION: u64 = 4 << 16 | 17;
const EXTRAVERSION: &str = ".0-xenolith";
const CAPABILITIES: &str = "xen-3.0-aarch64 ";

/// `xen_version(cmd, arg)`.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    match VersionOp::try_from(call.arg32(0)).map_err(XenError::from)? {
        VersionOp::Version => Ok(VERSION),
        VersionOp::Pagesize => Ok(PAGE_SIZE),
        VersionOp::Extraversion => text::<H, EXTRAVERSION_LEN>(call, EXTRAVERSION),
        VersionOp::CompileInfo => text::<H, COMPILE_INFO_LEN>(call, "rustc"),
        VersionOp::Capabilities => text::<H, CAPABILITIES_LEN>(call, CAPABILITIES),
        VersionOp::Changeset => text::<H, CHANGESET_LEN>(call, env!("CARGO_PKG_VERSION")),
        VersionOp::Commandline => {
            if !call.domain.is_privileged() {
                return Err(XenError::Perm.into());
            }
            let line = call.kernel.machine().map_or("", |machine| machine.cmdline.as_str());
            text::<H, COMMANDLINE_LEN>(call, line)
        }
        VersionOp::PlatformParameters => bytes(call, &0u64.to_le_bytes()),
        VersionOp::GuestHandle => {
            let uuid = call.domain.uuid;
            bytes(call, &uuid)
        }
        VersionOp::GetFeatures => features(call),
        VersionOp::BuildId => Err(XenError::NoData.into()),
    }
}

#[inline(never)]
fn text<H: Hw, const N: usize>(call: &Call<'_, H>, text: &str) -> CallResult {
    let mut field = [0; N];
    // The last byte stays zero, as the field is a C string.
    for (to, from) in field.iter_mut().take(N - 1).zip(text.bytes()) {
        *to = from;
    }
    bytes(call, &field)
}

#[inline(never)]
fn bytes<H: Hw>(call: &Call<'_, H>, bytes: &[u8]) -> CallResult {
    guest::copy_out(call.domain, GuestVa::new(call.args[1]), bytes)?;
    Ok(0)
}

#[inline(never)]
fn features<H: Hw>(call: &Call<'_, H>) -> CallResult {
    let at = GuestVa::new(call.args[1]);
    let mut info: FeatureInfo = guest::read(call.domain, at)?;
    let mapping = if call.domain.direct_mapped { XENFEAT_DIRECT_MAPPED } else { XENFEAT_NOT_DIRECT_MAPPED };
    let mut set = 1 << XENFEAT_WRITABLE_PAGE_TABLES
        | 1 << XENFEAT_AUTO_TRANSLATED_PHYSMAP
        | 1 << XENFEAT_ARM_SMCCC_SUPPORTED
        | 1 << mapping;
    if call.domain.is_privileged() {
        set |= 1 << XENFEAT_DOM0;
    }
    info.submap = match info.submap_idx {
        0 => set,
        _ => return Err(XenError::Inval.into()),
    };
    guest::write(call.domain, at, &info)?;
    Ok(0)
}
