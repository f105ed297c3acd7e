//! Control calls on a domain's memory.

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, Gfn, GrantRef};

use crate::addr::{GuestVa, Ipa};
use crate::domain::Domain;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::{grant, memory};

/// Pages that one call gives before it returns with what it has done.
const PAGES_PER_CALL: u64 = 1024;
/// Bytes that one call copies before it returns with what it has done.
const BYTES_PER_CALL: u64 = 256 * 1024;

/// `Populate`: progress in x1; `EAGAIN` while something is left.
pub fn populate<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> CallResult {
    let (ipa, pages) = (Ipa::new(call.args[1]), call.args[2]);
    let (done, result) = memory::populate(target, ipa, pages.min(PAGES_PER_CALL));
    call.args[1] = done;
    result?;
    if done < pages { Err(XenError::Again.into()) } else { Ok(0) }
}

/// `MemoryWrite`: progress in x1; `EAGAIN` while something is left.
pub fn write<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> CallResult {
    let count = call.args[3].min(BYTES_PER_CALL);
    let (ipa, from) = (Ipa::new(call.args[1]), GuestVa::new(call.args[2]));
    let (done, result) = memory::write_foreign(call.domain, from, target, ipa, count);
    progress(call, done, result)
}

/// `MemoryRead`: progress in x1; `EAGAIN` while something is left.
pub fn read<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> CallResult {
    let count = call.args[3].min(BYTES_PER_CALL);
    let (ipa, into) = (Ipa::new(call.args[1]), GuestVa::new(call.args[2]));
    let (done, result) = memory::read_foreign(call.domain, into, target, ipa, count);
    progress(call, done, result)
}

fn progress<H: Hw>(call: &mut Call<'_, H>, done: u64, result: Result<(), XenError>) -> CallResult {
    call.args[1] = done;
    result?;
    if done < call.args[3] { Err(XenError::Again.into()) } else { Ok(0) }
}

/// `GrantSeed`.
pub fn grant_seed<H: Hw>(call: &mut Call<'_, H>, target: &Domain<H>) -> Result<(), XenError> {
    let peer = DomId(u16::try_from(call.args[3]).map_err(|_| XenError::Inval)?);
    grant::seed(target, GrantRef(call.arg32(1)), Gfn(call.args[2]), call.domain.resolve(peer))
}
