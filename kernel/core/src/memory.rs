//! `memory_op`: what a domain may do with its physical map (Xen public/memory.h), and what its builder does with it.
//!
//! The result of ballooning is the number of extents done, whatever stopped the call; a caller without the right, or
//! with arguments that make no sense, has done none (as on Xen).

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::{DomId, Gfn, GuestPtr};
use hypercall_abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, DomainArg, MEMOP_CMD_MASK, MapSpace, MemoryOp, RemoveFromPhysmap, Reservation,
};

use crate::addr::{GuestVa, Ipa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::frame::{FrameKind, FrameRef};
use crate::grant;
use crate::guest::{self, Array, READ, WRITE};
use crate::hw::{Access, Hw};
use crate::hypercall::{Call, CallResult, Stop};
use crate::p2m::{self, IPA_PAGES, MapKind, Mapping, check_range};

/// Pages on their way out of a map, with the references that it held on them.
type Removal<'a, H> = p2m::Removal<'a, H, Option<FrameRef>>;

/// Bits of the first argument below the progress of a call that was interrupted.
const PROGRESS_SHIFT: u32 = MEMOP_CMD_MASK.count_ones();
/// The longest list whose progress fits above the command.
const LONGEST_LIST: u64 = u64::MAX >> PROGRESS_SHIFT;

/// Order of the largest extent (2 MiB; Xen's limit for guests, too).
const MAX_EXTENT_ORDER: u32 = 9;

/// `memory_op(cmd, arg)`.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    match MemoryOp::try_from(call.arg32(0) & MEMOP_CMD_MASK).map_err(XenError::from)? {
        MemoryOp::PopulatePhysmap => extents(call, |domain, _, ipa, order| match order {
            0 => give_page(domain, ipa),
            _ => give(domain, ipa, order),
        }),
        MemoryOp::DecreaseReservation => extents(call, |domain, removal, ipa, order| match order {
            0 => removal.take(ipa, |found| take_back(domain, found)),
            _ => take_block(domain, removal, ipa, order),
        }),
        MemoryOp::IncreaseReservation => increase(call),
        MemoryOp::AddToPhysmap => add(call),
        MemoryOp::AddToPhysmapBatch => add_batch(call),
        MemoryOp::RemoveFromPhysmap => remove(call),
        MemoryOp::MaximumRamPage => Ok(H::frames().end().number()),
        MemoryOp::CurrentReservation => ask(call, |domain| domain.quota.owned()),
        MemoryOp::MaximumReservation => ask(call, |domain| domain.quota.max()),
        MemoryOp::MaximumGpfn => ask(call, |domain| domain.p2m.highest()),
        // For x86, or for toolstacks of Xen's own.
        _ => Err(XenError::NoSys.into()),
    }
}

/// `XENMEM_increase_reservation`: frames without a place are of no use to a domain whose map is ours, so none is given.
#[inline(never)]
fn increase<H: Hw>(call: &Call<'_, H>) -> CallResult {
    let _: Reservation = call.read(1)?;
    Ok(call.args[0] >> PROGRESS_SHIFT)
}

/// `XENMEM_remove_from_physmap`.
#[inline(never)]
fn remove<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let arg: RemoveFromPhysmap = call.read(1)?;
    empty(call.target(arg.domid, &mut None)?, place(arg.gpfn, 0)?)?;
    Ok(0)
}

#[inline(never)]
fn ask<H: Hw>(call: &Call<'_, H>, number: fn(&Domain<H>) -> u64) -> CallResult {
    let arg: DomainArg = call.read(1)?;
    Ok(number(call.target(arg.domid, &mut None)?))
}

/// Does the elements of a list from where the last round of the call has stopped, until one fails or the call has
/// worked long enough, with so many `units` for each. Returns how many are done, and what stopped it.
fn each<H: Hw>(
    call: &mut Call<'_, H>,
    count: u64,
    units: u32,
    mut element: impl FnMut(&Call<'_, H>, u64) -> Result<(), XenError>,
) -> Result<(u64, Result<(), XenError>), Stop> {
    let mut done = call.args[0] >> PROGRESS_SHIFT;
    while done < count {
        if let Err(error) = element(call, done) {
            return Ok((done, Err(error)));
        }
        done += 1;
        if call.spend(units) && done < count {
            call.args[0] = done << PROGRESS_SHIFT | call.args[0] & u64::from(MEMOP_CMD_MASK);
            return Err(Stop::Again);
        }
    }
    Ok((done, Ok(())))
}

/// Where 2^`order` pages from `gfn` on lie, which must be inside the IPA space and aligned to their number.
fn place(gfn: Gfn, order: u32) -> Result<Ipa, XenError> {
    let fits = gfn.0 < IPA_PAGES && gfn.0.trailing_zeros() >= order;
    fits.then(|| Ipa::from_number(gfn.0)).ok_or(XenError::Inval)
}

/// Changes the extents of a list until one fails.
// Apart, like the other calls, so that each saves the registers that it uses itself.
#[inline(never)]
fn extents<H: Hw>(
    call: &mut Call<'_, H>,
    mut change: impl FnMut(&Domain<H>, &mut Removal<'_, H>, Ipa, u32) -> Result<(), XenError>,
) -> CallResult {
    let arg: Reservation = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    let mut list = Array::<H, READ>::default();
    let nothing = Ok(call.args[0] >> PROGRESS_SHIFT);
    if arg.nr_extents > LONGEST_LIST || arg.extent_order > MAX_EXTENT_ORDER {
        return nothing;
    }
    let mut other = None;
    let Ok(domain) = call.target(arg.domid, &mut other) else { return nothing };
    let mut removal = domain.p2m.removal();
    let order = arg.extent_order;
    let (done, _) = each(call, arg.nr_extents, 1 << order, |call, n| {
        let at = guest::element(GuestVa::new(arg.extent_start.0), n, size_of::<Gfn>())?;
        let gfn = list.read(call.domain, at)?;
        change(domain, &mut removal, place(gfn, order)?, order)
    })?;
    Ok(done)
}

/// `XENMEM_add_to_physmap`.
#[inline(never)]
fn add<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let arg: AddToPhysmap = call.read(1)?;
    let mut other = None;
    let domain = call.target(arg.domid, &mut other)?;
    // Only the batch says whose frame a foreign one is.
    let space = MapSpace::from_raw(arg.space).filter(|space| *space != MapSpace::GmfnForeign);
    add_one(call, domain, space.ok_or(XenError::NoSys)?, DomId::INVALID, arg.idx, arg.gpfn)?;
    Ok(0)
}

/// `XENMEM_add_to_physmap_batch`.
#[inline(never)]
fn add_batch<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let arg: AddToPhysmapBatch = call.read(1)?;
    let mut other = None;
    let domain = call.target(arg.domid, &mut other)?;
    let space = MapSpace::from_raw(u32::from(arg.space)).ok_or(XenError::NoSys)?;
    if space == MapSpace::GmfnForeign && !call.domain.is_privileged() {
        return Err(XenError::Perm.into());
    }
    let count = u64::from(arg.size);
    if call.args[0] >> PROGRESS_SHIFT > count {
        return Err(XenError::IlSeq.into());
    }
    let at = |base: GuestPtr, n, size| guest::element(GuestVa::new(base.0), n, size);
    let (mut idxs, mut gpfns) = (Array::<H, READ>::default(), Array::<H, READ>::default());
    let mut errs = Array::<H, WRITE>::default();
    let (_, result) = each(call, count, 1, |call, n| {
        let idx = idxs.read(call.domain, at(arg.idxs, n, size_of::<u64>())?)?;
        let gpfn = gpfns.read(call.domain, at(arg.gpfns, n, size_of::<Gfn>())?)?;
        let result = add_one(call, domain, space, arg.foreign_domid, idx, gpfn);
        let code = result.map_or_else(|error| i32::try_from(error.raw()).unwrap_or(i32::MIN), |()| 0);
        errs.element::<i32>(call.domain, at(arg.errs, n, size_of::<i32>())?)?.write(0, &code)
    })?;
    Ok(result.map(|()| 0)?)
}

#[inline(never)]
fn add_one<H: Hw>(
    call: &Call<'_, H>,
    domain: &Domain<H>,
    space: MapSpace,
    foreign: DomId,
    idx: u64,
    gpfn: Gfn,
) -> Result<(), XenError> {
    let ipa = place(gpfn, 0)?;
    match space {
        MapSpace::SharedInfo if idx == 0 => replace(domain, ipa, domain.shared_info.pa(), MapKind::Shared),
        MapSpace::SharedInfo => Err(XenError::Inval),
        MapSpace::GrantTable => replace(domain, ipa, grant::frame_to_map(domain, idx, gpfn)?, MapKind::Shared),
        MapSpace::GmfnForeign if domain.resolve(foreign) == domain.id => Err(XenError::Inval),
        MapSpace::GmfnForeign => {
            let mut other = None;
            let owner = call.target(foreign, &mut other)?;
            let page = owner.p2m.pin(place(Gfn(idx), 0)?).map_err(|_| XenError::Inval)?;
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

/// Puts a page at `ipa` in place of what is there. RAM that is there goes back, as if ballooned out.
fn replace<H: Hw>(domain: &Domain<H>, ipa: Ipa, pa: Pa, kind: MapKind) -> Result<(), XenError> {
    match empty(domain, ipa) {
        Ok(()) | Err(XenError::NoEnt) => domain.p2m.map_page(ipa, pa, kind),
        Err(error) => Err(error),
    }
}

/// Empties the place at `ipa`. RAM goes back, mapped grants go by their handles, and devices not at all.
#[inline(never)]
fn empty<H: Hw>(domain: &Domain<H>, ipa: Ipa) -> Result<(), XenError> {
    domain.p2m.removal().take(ipa, |Mapping { pa, kind }| match kind {
        MapKind::Ram => withdraw(domain, pa),
        MapKind::Foreign => Ok(Some(H::frames().kept(pa))),
        MapKind::Shared => Ok(None),
        MapKind::GrantRw | MapKind::GrantRo | MapKind::Device => Err(XenError::Busy),
    })
}

/// Takes back RAM that is found, and nothing else.
#[inline(always)]
fn take_back<H: Hw>(domain: &Domain<H>, found: Mapping) -> Result<Option<FrameRef>, XenError> {
    if found.kind == MapKind::Ram { withdraw(domain, found.pa) } else { Err(XenError::Busy) }
}

#[cold]
fn take_block<H: Hw>(domain: &Domain<H>, removal: &mut Removal<'_, H>, ipa: Ipa, order: u32) -> Result<(), XenError> {
    (0..1 << order).try_for_each(|n| removal.take(ipa.add(n * PAGE_SIZE), |found| take_back(domain, found)))
}

/// RAM goes back once no TLB knows it and nobody uses it.
#[inline(always)]
fn withdraw<H: Hw>(domain: &Domain<H>, pa: Pa) -> Result<Option<FrameRef>, XenError> {
    H::frames().withdraw(pa, domain.p2m.owner).map(Some).ok_or(XenError::Busy)
}

/// Gives `pages` pages from `ipa` to a domain that is being built, in the largest blocks that are aligned, wanted,
/// allowed and free. Returns how many were given before the end or the error; the caller keeps the number small enough
/// for one stretch of work.
pub fn populate<H: Hw>(domain: &Domain<H>, ipa: Ipa, pages: u64) -> (u64, Result<(), XenError>) {
    if let Err(error) = check_range(ipa, pages) {
        return (0, Err(error));
    }
    let (mut done, mut most) = (0, u32::MAX);
    while done < pages {
        let at = ipa.add(done * PAGE_SIZE);
        let order = most.min(at.number().trailing_zeros()).min((pages - done).ilog2());
        match give(domain, at, order) {
            Ok(()) => done += 1 << order,
            Err(XenError::NoMem) if order > 0 => most = order - 1,
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// Gives a block of 2^`order` fresh pages at `ipa`, or nothing.
fn give<H: Hw>(domain: &Domain<H>, ipa: Ipa, order: u32) -> Result<(), XenError> {
    let pages = 1 << order;
    let (block, is_clean) = H::frames().alloc_known(domain.id, FrameKind::Ram, 1 << order)?;
    if !is_clean {
        // The guest may look at it with its caches off.
        H::zero_to_poc(block, pages * PAGE_SIZE);
    }
    H::forget_instructions();
    let mapped = domain.p2m.map(ipa, block, pages, MapKind::Ram);
    mapped.inspect_err(|_| (0..pages).for_each(|n| H::frames().put(block.add(n * PAGE_SIZE))))
}

/// The same for one page.
#[inline(always)]
fn give_page<H: Hw>(domain: &Domain<H>, ipa: Ipa) -> Result<(), XenError> {
    let page = H::frames().alloc_page(domain.id, FrameKind::Ram)?;
    H::zero_to_poc(page, PAGE_SIZE);
    H::forget_instructions();
    domain.p2m.map_page(ipa, page, MapKind::Ram).inspect_err(|_| H::frames().put(page))
}

/// Copies `count` bytes between the caller's memory at `va` and the domain's at `ipa`, which it reads or writes as
/// `access` says. What is written goes on to the point of coherency: the domain may start with its caches off. Returns
/// the bytes done.
pub fn copy_foreign<H: Hw>(
    caller: &Domain<H>,
    va: GuestVa,
    domain: &Domain<H>,
    ipa: Ipa,
    count: u64,
    access: Access,
) -> (u64, Result<(), XenError>) {
    let others = if access == Access::Write { Access::Read } else { Access::Write };
    let Some(bytes) = usize::try_from(count).ok().filter(|_| ipa.checked_add(count).is_some()) else {
        return (0, Err(XenError::Fault));
    };
    let mut done = 0;
    let copied = guest::each_part(caller, va, ipa.offset(), bytes, others, |outside, part| {
        let page = domain.p2m.pin(ipa.add(done))?;
        let (inside, bytes) = (page.pa().add(ipa.add(done).offset()), part.len() as u64);
        match access {
            Access::Write => {
                H::copy(inside, outside, bytes);
                H::clean_to_poc(inside, bytes);
            }
            Access::Read => H::copy(outside, inside, bytes),
        }
        done += bytes;
        Ok(())
    });
    if access == Access::Write {
        H::forget_instructions();
    }
    (done, copied)
}

#[cfg(test)]
mod tests;
