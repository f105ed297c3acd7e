//! Special pages of the physical map: the shared information page, the grant table, other domains' RAM.

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, Gfn, GuestPtr};
use hypercall_abi::memory::{AddToPhysmap, AddToPhysmapBatch, MapSpace, RemoveFromPhysmap};

use super::{progress, set_progress, target};
use crate::addr::{GuestVa, Ipa, Pa};
use crate::domain::Domain;
use crate::grant;
use crate::guest::{self, Array};
use crate::hw::{Access, Hw};
use crate::hypercall::{Call, CallResult, Stop};
use crate::p2m::{IPA_PAGES, MapKind, P2mError};

/// `XENMEM_add_to_physmap`.
pub(super) fn add<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let arg: AddToPhysmap = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    let domain = target(call, arg.domid)?;
    match MapSpace::from_raw(arg.space) {
        // Only the batch says whose frame it is.
        Some(MapSpace::GmfnForeign) | None => Err(XenError::NoSys.into()),
        Some(space) => add_one(call, &domain, space, DomId::INVALID, arg.idx, arg.gpfn).map(|()| Ok(0))?,
    }
}

/// `XENMEM_add_to_physmap_batch`.
pub(super) fn add_batch<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let arg: AddToPhysmapBatch = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    let domain = target(call, arg.domid)?;
    let space = MapSpace::from_raw(u32::from(arg.space)).ok_or(XenError::NoSys)?;
    if space == MapSpace::GmfnForeign && !call.domain.is_privileged() {
        return Err(XenError::Perm.into());
    }
    let mut done = progress(call);
    if done > u64::from(arg.size) {
        return Err(XenError::IlSeq.into());
    }
    let (mut idxs, mut gpfns) = (Array::<H>::new(Access::Read), Array::<H>::new(Access::Read));
    let mut errs = Array::<H>::new(Access::Write);
    while done < u64::from(arg.size) {
        let idx = idxs.read::<u64>(call.domain, at(arg.idxs, done, 8)?)?;
        let gpfn = Gfn(gpfns.read::<u64>(call.domain, at(arg.gpfns, done, 8)?)?);
        let result = add_one(call, &domain, space, arg.foreign_domid, idx, gpfn);
        let code = result.map_or_else(|error| i32::try_from(error.raw()).unwrap_or(i32::MIN), |()| 0);
        errs.write(call.domain, at(arg.errs, done, 4)?, &code)?;
        done += 1;
        if call.should_yield() && done < u64::from(arg.size) {
            set_progress(call, done);
            return Err(Stop::Again);
        }
    }
    Ok(0)
}

fn at(base: GuestPtr, index: u64, size: usize) -> Result<GuestVa, XenError> {
    guest::element(GuestVa::new(base.0), index, size)
}

fn add_one<H: Hw>(
    call: &Call<'_, H>,
    domain: &Domain<H>,
    space: MapSpace,
    foreign: DomId,
    idx: u64,
    gpfn: Gfn,
) -> Result<(), XenError> {
    let ipa = check(gpfn)?;
    match space {
        MapSpace::SharedInfo if idx == 0 => replace(domain, ipa, domain.shared_info.pa(), MapKind::Shared),
        MapSpace::SharedInfo => Err(XenError::Inval),
        MapSpace::GrantTable => {
            let frame = grant::frame_to_map(domain, idx)?;
            replace(domain, ipa, frame, MapKind::Shared)?;
            grant::set_gfn(domain, idx, gpfn);
            Ok(())
        }
        MapSpace::GmfnForeign => add_foreign(call, domain, foreign, idx, ipa),
        MapSpace::DevMmio => Err(XenError::Acces),
        // Of no use where the guest cannot see machine frames; Arm has neither.
        MapSpace::Gmfn | MapSpace::GmfnRange => Err(XenError::NoSys),
    }
}

/// Maps a page of `foreign`'s RAM; the mapping holds a reference on it.
fn add_foreign<H: Hw>(
    call: &Call<'_, H>,
    domain: &Domain<H>,
    foreign: DomId,
    idx: u64,
    ipa: Ipa,
) -> Result<(), XenError> {
    if foreign == domain.id || foreign == DomId::SELF {
        return Err(XenError::Inval);
    }
    let owner = target(call, foreign)?;
    let page = owner.p2m.pin(check(Gfn(idx))?, true).map_err(|_| XenError::Inval)?;
    replace(domain, ipa, page.pa(), MapKind::Foreign)?;
    // From here on the reference goes with the mapping.
    page.keep();
    Ok(())
}

/// `XENMEM_remove_from_physmap`.
pub(super) fn remove<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let arg: RemoveFromPhysmap = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    let domain = target(call, arg.domid)?;
    clear(&domain, check(arg.gpfn)?).map_err(XenError::from)?;
    Ok(0)
}

/// Puts a page at `ipa` in place of what is there. RAM that is there goes back, as if ballooned out.
fn replace<H: Hw>(domain: &Domain<H>, ipa: Ipa, pa: Pa, kind: MapKind) -> Result<(), XenError> {
    match clear(domain, ipa) {
        Ok(()) | Err(P2mError::Absent) => {}
        Err(error) => return Err(error.into()),
    }
    domain.p2m.map(ipa, pa, 1, kind).map_err(XenError::from)
}

/// Empties the place at `ipa`. Mapped grants go by their handles, and devices not at all.
fn clear<H: Hw>(domain: &Domain<H>, ipa: Ipa) -> Result<(), P2mError> {
    let removed = domain.p2m.removal().take(ipa, |mapping| match mapping.kind {
        MapKind::RamRw | MapKind::RamRo => H::frames().withdraw(mapping.pa, domain.id).map_err(|_| P2mError::Busy),
        MapKind::Foreign | MapKind::Shared => Ok(()),
        MapKind::GrantRw | MapKind::GrantRo | MapKind::Device => Err(P2mError::Busy),
    })?;
    if removed.kind.is_ram() {
        domain.quota.refund(1);
    }
    Ok(())
}

fn check(gfn: Gfn) -> Result<Ipa, XenError> {
    if gfn.0 < IPA_PAGES { Ok(Ipa::from_number(gfn.0)) } else { Err(XenError::Inval) }
}
