//! Everything about a table but its uses: set-up, size, version, the exchange of two entries, caches over its pages.

use core::mem::offset_of;

use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{
    CacheFlush, GNTTAB_CACHE_CLEAN, GNTTAB_CACHE_INVAL, GNTTAB_CACHE_SOURCE_GREF, GetVersion, GrantStatus, QuerySize,
    SetVersion, SetupTable, SwapGrantRef,
};
use hypercall_abi::ids::DomId;
use zerocopy::{Immutable, IntoBytes};

use super::{batch, each};
use crate::addr::{GuestVa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};

/// `GNTTABOP_setup_table`: grows the table, and says where its pages are mapped.
#[inline(never)]
pub(super) fn setup_table<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut arg: SetupTable = call.read(1)?;
    let wanted = usize::try_from(arg.nr_frames).map_err(|_| XenError::Inval)?;
    let places = subject(call, arg.dom, &mut None).and_then(|domain| {
        let mut table = domain.grants.lock();
        table.grow::<H>(domain.id, wanted).map(|()| table.places()).map_err(|_| GrantStatus::GeneralError)
    });
    arg.status = places.as_ref().err().unwrap_or(&GrantStatus::Okay).raw();
    for (index, gfn) in (0..arg.nr_frames).zip(places.into_iter().flatten()) {
        let at = guest::element(GuestVa::new(arg.frame_list.0), u64::from(index), size_of::<u64>())?;
        guest::copy_out(call.domain, at, gfn.as_bytes())?;
    }
    answer(call, &arg)
}

/// `GNTTABOP_query_size`.
#[inline(never)]
pub(super) fn query_size<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut arg: QuerySize = call.read(1)?;
    let size = subject(call, arg.dom, &mut None).map(|domain| domain.grants.lock().size());
    arg.status = size.err().unwrap_or(GrantStatus::Okay).raw();
    (arg.nr_frames, arg.max_nr_frames) = size.unwrap_or((arg.nr_frames, arg.max_nr_frames));
    answer(call, &arg)
}

/// Writes the structure of a call that has one only.
fn answer<H: Hw, T: IntoBytes + Immutable>(call: &Call<'_, H>, arg: &T) -> CallResult {
    Ok(call.write(1, arg).map(|()| 0)?)
}

/// The domain that is asked about.
fn subject<'a, H: Hw>(
    call: &Call<'a, H>,
    id: DomId,
    other: &'a mut Option<H::Shared<Domain<H>>>,
) -> Result<&'a Domain<H>, GrantStatus> {
    call.target(id, other).map_err(|error| match error {
        XenError::Srch => GrantStatus::BadDomain,
        _ => GrantStatus::PermissionDenied,
    })
}

/// `GNTTABOP_set_version`: there is only version 1.
#[inline(never)]
pub(super) fn set_version<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let arg: SetVersion = call.read(1)?;
    match arg.version {
        1 => answer(call, &arg),
        2 => Err(XenError::NoSys.into()),
        _ => Err(XenError::Inval.into()),
    }
}

/// `GNTTABOP_get_version`.
#[inline(never)]
pub(super) fn get_version<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut arg: GetVersion = call.read(1)?;
    call.target(arg.dom, &mut None)?;
    arg.version = 1;
    answer(call, &arg)
}

/// `GNTTABOP_swap_grant_ref`: exchanges two entries of the caller that nobody uses.
#[inline(never)]
pub(super) fn swap<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    batch(call, offset_of!(SwapGrantRef, status), |call, arg: &mut SwapGrantRef| {
        let table = call.domain.grants.lock();
        let a = table.entry::<H>(arg.ref_a).ok_or(GrantStatus::BadGntRef)?;
        let b = table.entry(arg.ref_b).ok_or(GrantStatus::BadGntRef)?;
        if a.swap(&b) { Ok(()) } else { Err(GrantStatus::Eagain) }
    })
}

/// `GNTTABOP_cache_flush`: a back end cleans the caches over a page that a device without coherency will use.
#[inline(never)]
pub(super) fn cache_flush<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    each(call, size_of::<CacheFlush>(), |call, arg: &mut CacheFlush| {
        let end = u64::from(arg.offset) + u64::from(arg.length);
        if end > PAGE_SIZE || arg.op & !(GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL | GNTTAB_CACHE_SOURCE_GREF) != 0 {
            return Err(XenError::Inval);
        }
        if arg.op & GNTTAB_CACHE_SOURCE_GREF != 0 {
            return Err(XenError::OpNotSupp);
        }
        let page = Pa::new(arg.addr).page();
        if arg.length != 0 && arg.op != 0 {
            // A peer's table may have to be searched, which is enough for one round.
            call.spend(u32::MAX);
            if !may_flush(call, page) {
                return Err(XenError::Perm);
            }
            // Cleaning before invalidating does what either asks for, and loses nobody's data.
            H::clean_to_poc(page.add(u64::from(arg.offset)), u64::from(arg.length));
        }
        Ok(())
    })
}

/// Whether the page is the caller's own or one that a peer has granted it and that it uses.
fn may_flush<H: Hw>(call: &Call<'_, H>, page: Pa) -> bool {
    let (user, owner) = (call.domain.id, H::frames().owner(page));
    if owner == user {
        return H::frames().get(page, owner).is_some();
    }
    let Some(granter) = call.kernel.domains.get(owner) else { return false };
    let table = granter.grants.lock();
    table.find::<H>(|entry| [false, true].iter().any(|&write| entry.is_used(user, write, page))).is_some()
}
