//! Special pages of the physical map: the shared information page, the grant table, other domains' RAM.

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, Gfn, GuestPtr};
use hypercall_abi::memory::{AddToPhysmap, AddToPhysmapBatch, MapSpace, RemoveFromPhysmap};

use super::ram::take;
use super::{PROGRESS_SHIFT, each, place, target};
use crate::addr::{GuestVa, Ipa, Pa};
use crate::domain::Domain;
use crate::grant;
use crate::guest::{self, Array};
use crate::hw::{Access, Hw};
use crate::hypercall::{Call, CallResult};
use crate::p2m::MapKind;

/// `XENMEM_add_to_physmap`.
pub(super) fn add<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let arg: AddToPhysmap = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    let mut other = None;
    let domain = target(call, arg.domid, &mut other)?;
    // Only the batch says whose frame a foreign one is.
    let space = MapSpace::from_raw(arg.space).filter(|space| *space != MapSpace::GmfnForeign);
    add_one(call, domain, space.ok_or(XenError::NoSys)?, DomId::INVALID, arg.idx, arg.gpfn)?;
    Ok(0)
}

/// `XENMEM_add_to_physmap_batch`.
pub(super) fn add_batch<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let arg: AddToPhysmapBatch = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    let mut other = None;
    let domain = target(call, arg.domid, &mut other)?;
    let space = MapSpace::from_raw(u32::from(arg.space)).ok_or(XenError::NoSys)?;
    if space == MapSpace::GmfnForeign && !call.domain.is_privileged() {
        return Err(XenError::Perm.into());
    }
    let count = u64::from(arg.size);
    if call.args[0] >> PROGRESS_SHIFT > count {
        return Err(XenError::IlSeq.into());
    }
    let at = |base: GuestPtr, n, size| guest::element(GuestVa::new(base.0), n, size);
    let (mut idxs, mut gpfns) = (Array::<H>::new(Access::Read), Array::<H>::new(Access::Read));
    let mut errs = Array::<H>::new(Access::Write);
    let (_, result) = each(call, count, false, |call, n| {
        let idx = idxs.read(call.domain, at(arg.idxs, n, size_of::<u64>())?)?;
        let gpfn = gpfns.read(call.domain, at(arg.gpfns, n, size_of::<Gfn>())?)?;
        let result = add_one(call, domain, space, arg.foreign_domid, idx, gpfn);
        let code = result.map_or_else(|error| i32::try_from(error.raw()).unwrap_or(i32::MIN), |()| 0);
        errs.write(call.domain, at(arg.errs, n, size_of::<i32>())?, &code)
    });
    result.map(|()| 0)
}

fn add_one<H: Hw>(
    call: &Call<'_, H>,
    domain: &Domain<H>,
    space: MapSpace,
    foreign: DomId,
    idx: u64,
    gpfn: Gfn,
) -> Result<(), XenError> {
    let ipa = place(gpfn, 1)?;
    match space {
        MapSpace::SharedInfo if idx == 0 => replace(domain, ipa, domain.shared_info.pa(), MapKind::Shared),
        MapSpace::SharedInfo => Err(XenError::Inval),
        MapSpace::GrantTable => replace(domain, ipa, grant::frame_to_map(domain, idx, gpfn)?, MapKind::Shared),
        MapSpace::GmfnForeign if domain.resolve(foreign) == domain.id => Err(XenError::Inval),
        MapSpace::GmfnForeign => {
            let mut other = None;
            let owner = target(call, foreign, &mut other)?;
            let page = owner.p2m.pin(place(Gfn(idx), 1)?, true).map_err(|_| XenError::Inval)?;
            replace(domain, ipa, page.pa(), MapKind::Foreign)?;
            // From here on the reference goes with the mapping.
            page.keep();
            Ok(())
        }
        MapSpace::DevMmio => Err(XenError::Acces),
        // Of no use where the guest cannot see machine frames; Arm has neither.
        MapSpace::Gmfn | MapSpace::GmfnRange => Err(XenError::NoSys),
    }
}

/// `XENMEM_remove_from_physmap`.
pub(super) fn remove<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let arg: RemoveFromPhysmap = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    clear(target(call, arg.domid, &mut None)?, place(arg.gpfn, 1)?)?;
    Ok(0)
}

/// Puts a page at `ipa` in place of what is there. RAM that is there goes back, as if ballooned out.
fn replace<H: Hw>(domain: &Domain<H>, ipa: Ipa, pa: Pa, kind: MapKind) -> Result<(), XenError> {
    match clear(domain, ipa) {
        Ok(()) | Err(XenError::NoEnt) => Ok(domain.p2m.map(ipa, pa, 1, kind)?),
        Err(error) => Err(error),
    }
}

/// Empties the place at `ipa`. Mapped grants go by their handles, and devices not at all.
fn clear<H: Hw>(domain: &Domain<H>, ipa: Ipa) -> Result<(), XenError> {
    take(domain, &mut domain.p2m.removal(), ipa, |kind| {
        !matches!(kind, MapKind::GrantRw | MapKind::GrantRo | MapKind::Device)
    })
}
