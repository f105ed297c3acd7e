//! Set-up, size and version of grant tables, and the exchange of two entries.

use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{GetVersion, GrantStatus, QuerySize, SetVersion, SetupTable, SwapGrantRef};
use hypercall_abi::ids::DomId;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Batch, active};
use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};

/// What the list of frames says of a page that is not mapped (`INVALID_GFN`).
const NOWHERE: u64 = u64::MAX;

/// `GNTTABOP_setup_table`: grows the table, and says where its pages are mapped.
pub(super) fn setup_table<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let (at, mut arg) = single::<H, SetupTable>(call)?;
    let status = match subject(call, arg.dom) {
        Ok(domain) => grow(call, &domain, &arg)?,
        Err(status) => status,
    };
    arg.status = status.raw();
    guest::write(call.domain, at, &arg)?;
    Ok(0)
}

fn grow<H: Hw>(call: &Call<'_, H>, domain: &Domain<H>, arg: &SetupTable) -> Result<GrantStatus, XenError> {
    let frames = usize::try_from(arg.nr_frames).map_err(|_| XenError::Inval)?;
    if domain.grants.table.lock().grow(domain.id, &domain.quota, frames).is_err() {
        return Ok(GrantStatus::GeneralError);
    }
    // The table has at most 64 pages, so this is short.
    for index in 0..frames {
        let gfn = domain.grants.table.lock().gfn(index).map_or(NOWHERE, |gfn| gfn.0);
        let at = guest::element(GuestVa::new(arg.frame_list.0), index as u64, size_of::<u64>())?;
        guest::write(call.domain, at, &gfn)?;
    }
    Ok(GrantStatus::Okay)
}

/// `GNTTABOP_query_size`.
pub(super) fn query_size<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let (at, mut arg) = single::<H, QuerySize>(call)?;
    let status = subject(call, arg.dom).map(|domain| {
        let table = domain.grants.table.lock();
        (arg.nr_frames, arg.max_nr_frames) = (table.frames(), table.max_frames());
    });
    arg.status = status.err().unwrap_or(GrantStatus::Okay).raw();
    guest::write(call.domain, at, &arg)?;
    Ok(0)
}

/// `GNTTABOP_set_version`: there is only version 1.
pub(super) fn set_version<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let (at, arg) = single::<H, SetVersion>(call)?;
    match arg.version {
        1 => {
            guest::write(call.domain, at, &arg)?;
            Ok(0)
        }
        2 => Err(XenError::NoSys.into()),
        _ => Err(XenError::Inval.into()),
    }
}

/// `GNTTABOP_get_version`.
pub(super) fn get_version<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let (at, mut arg) = single::<H, GetVersion>(call)?;
    subject(call, arg.dom).map_err(|status| match status {
        GrantStatus::BadDomain => XenError::Srch,
        _ => XenError::Perm,
    })?;
    arg.version = 1;
    guest::write(call.domain, at, &arg)?;
    Ok(0)
}

/// `GNTTABOP_swap_grant_ref`: exchanges two entries of the caller that nobody uses.
pub(super) fn swap<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut batch = Batch::new::<SwapGrantRef>(call);
    let mut arg = SwapGrantRef::default();
    while let Some(at) = batch.next(call) {
        let at = at?;
        batch.read(call, at, &mut arg)?;
        arg.status = swap_one(call.domain, &arg).err().unwrap_or(GrantStatus::Okay).raw();
        batch.array.write(call.domain, at, &arg)?;
        if batch.pauses(call) {
            break;
        }
    }
    batch.finish(call)
}

fn swap_one<H: Hw>(domain: &Domain<H>, arg: &SwapGrantRef) -> Result<(), GrantStatus> {
    let table = domain.grants.table.lock();
    let a = table.place(arg.ref_a).ok_or(GrantStatus::BadGntRef)?;
    let b = table.place(arg.ref_b).ok_or(GrantStatus::BadGntRef)?;
    if active::is_used::<H>(a) || active::is_used::<H>(b) {
        return Err(GrantStatus::Eagain);
    }
    let (word_a, word_b) = (H::load64(a.shared), H::load64(b.shared));
    H::store64(a.shared, word_b);
    H::store64(b.shared, word_a);
    Ok(())
}

/// The one structure of an operation that takes no batch.
fn single<H: Hw, T: FromBytes + IntoBytes + Immutable>(call: &Call<'_, H>) -> Result<(GuestVa, T), XenError> {
    if call.arg32(2) != 1 {
        return Err(XenError::Inval);
    }
    let at = GuestVa::new(call.args[1]);
    Ok((at, guest::read(call.domain, at)?))
}

/// The domain that is asked about: the caller, or any for a privileged caller.
fn subject<H: Hw>(call: &Call<'_, H>, id: DomId) -> Result<H::Shared<Domain<H>>, GrantStatus> {
    if call.domain.resolve(id) == call.domain.id {
        return Ok(call.domain.clone());
    }
    let domain = call.kernel.domains.get(id).filter(|domain| !domain.is_dying()).ok_or(GrantStatus::BadDomain)?;
    if call.domain.is_privileged() { Ok(domain) } else { Err(GrantStatus::PermissionDenied) }
}
