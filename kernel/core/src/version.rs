//! `xen_version`: who this is, in the words that Xen's guests and tools expect.

use hypercall_abi::errno::XenError;
use hypercall_abi::version::{
    CAPABILITIES_LEN, CHANGESET_LEN, COMMANDLINE_LEN, COMPILE_INFO_LEN, EXTRAVERSION_LEN, FeatureInfo, VersionOp,
    XENFEAT_ARM_SMCCC_SUPPORTED, XENFEAT_AUTO_TRANSLATED_PHYSMAP, XENFEAT_DIRECT_MAPPED, XENFEAT_DOM0,
    XENFEAT_NOT_DIRECT_MAPPED, XENFEAT_WRITABLE_PAGE_TABLES,
};

use crate::addr::{GuestVa, PAGE_SIZE};
use crate::domain::Domain;
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};

/// The version of the ABI that we speak: Xen 4.17.
const VERSION: u64 = 4 << 16 | 17;

/// `xen_version(cmd, arg)`. The version itself in line, since Linux asks for it whenever it wants nothing but to be at
/// EL2 for a moment.
#[inline(always)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    match VersionOp::try_from(call.arg32(0)).map_err(XenError::from)? {
        VersionOp::Version => Ok(VERSION),
        other => about(call, other),
    }
}

#[inline(never)]
fn about<H: Hw>(call: &mut Call<'_, H>, op: VersionOp) -> CallResult {
    match op {
        VersionOp::Version => Ok(VERSION),
        VersionOp::Pagesize => Ok(PAGE_SIZE),
        VersionOp::Extraversion => text(call, ".0-xenolith", EXTRAVERSION_LEN),
        VersionOp::CompileInfo => text(call, "rustc", COMPILE_INFO_LEN),
        VersionOp::Capabilities => text(call, "xen-3.0-aarch64 ", CAPABILITIES_LEN),
        VersionOp::Changeset => text(call, env!("CARGO_PKG_VERSION"), CHANGESET_LEN),
        VersionOp::Commandline if !call.domain.is_privileged() => Err(XenError::Perm.into()),
        VersionOp::Commandline => {
            let machine = call.kernel.machine();
            text(call, machine.map_or("", |machine| machine.cmdline), COMMANDLINE_LEN)
        }
        VersionOp::PlatformParameters => bytes(call, &0u64.to_le_bytes()),
        VersionOp::GuestHandle => bytes(call, &call.domain.uuid),
        VersionOp::GetFeatures => {
            let at = GuestVa::new(call.args[1]);
            let FeatureInfo { submap_idx: 0, .. } = guest::read(call.domain, at)? else {
                return Err(XenError::Inval.into());
            };
            guest::write(call.domain, at, &FeatureInfo { submap_idx: 0, submap: features(call.domain) })?;
            Ok(0)
        }
        VersionOp::BuildId => Err(XenError::NoData.into()),
    }
}

fn features<H: Hw>(domain: &Domain<H>) -> u32 {
    let mapping = if domain.is_privileged() { XENFEAT_DIRECT_MAPPED } else { XENFEAT_NOT_DIRECT_MAPPED };
    u32::from(domain.is_privileged()) << XENFEAT_DOM0
        | 1 << XENFEAT_WRITABLE_PAGE_TABLES
        | 1 << XENFEAT_AUTO_TRANSLATED_PHYSMAP
        | 1 << XENFEAT_ARM_SMCCC_SUPPORTED
        | 1 << mapping
}

/// Writes a C string of `length` bytes. Out of line, so that the calls without text need no room for one.
#[inline(never)]
fn text<H: Hw>(call: &Call<'_, H>, text: &str, length: usize) -> CallResult {
    let mut field = [0; COMMANDLINE_LEN];
    // The last byte stays zero.
    for (to, from) in field.iter_mut().take(length - 1).zip(text.bytes()) {
        *to = from;
    }
    bytes(call, field.get(..length).unwrap_or(&field))
}

#[inline(never)]
fn bytes<H: Hw>(call: &Call<'_, H>, bytes: &[u8]) -> CallResult {
    guest::copy_out(call.domain, GuestVa::new(call.args[1]), bytes)?;
    Ok(0)
}
