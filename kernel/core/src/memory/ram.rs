//! RAM that a domain is given and gives back: in the blocks of its builder, which also fills it, and extent by extent
//! when it balloons.
//!
//! The result of ballooning is the number of extents done, whatever stopped the call; a caller without the right, or
//! with arguments that make no sense, has done none (as on Xen).

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::Gfn;
use hypercall_abi::memory::Reservation;

use super::{LONGEST_LIST, PROGRESS_SHIFT, each, place, target};
use crate::addr::{GuestVa, Ipa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::frame::{FrameKind, MAX_ORDER};
use crate::guest::{self, Array};
use crate::hw::{Access, Hw};
use crate::hypercall::{Call, CallResult, Stop};
use crate::p2m::{IPA_PAGES, MapKind, P2mError, Removal};

/// Order of the largest extent (2 MiB; Xen's limit for guests, too).
const MAX_EXTENT_ORDER: u32 = 9;
/// Extents of more than 2^this pages end a round of the call each.
const LONG_ORDER: u32 = 3;

/// `XENMEM_populate_physmap`: fresh frames at the places that the extents name.
pub(super) fn populate_extents<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    extents(call, |domain, _, ipa, order| give(domain, ipa, order))
}

/// `XENMEM_decrease_reservation`: the frames at those places go back.
pub(super) fn take_extents<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    extents(call, |domain, removal, ipa, order| {
        (0..1 << order).try_for_each(|n| take(domain, removal, ipa.add(n * PAGE_SIZE), MapKind::is_ram))
    })
}

/// Changes the extents of a list until one fails.
pub(super) fn extents<H: Hw>(
    call: &mut Call<'_, H>,
    mut change: impl FnMut(&Domain<H>, &mut Removal<'_, H>, Ipa, u8) -> Result<(), XenError>,
) -> CallResult {
    let mut list = Array::<H>::new(Access::Read);
    let arg: Reservation = list.read(call.domain, GuestVa::new(call.args[1]))?;
    let nothing = Ok(call.args[0] >> PROGRESS_SHIFT);
    if arg.nr_extents > LONGEST_LIST || arg.extent_order > MAX_EXTENT_ORDER {
        return nothing;
    }
    let mut other = None;
    let Ok(domain) = target(call, arg.domid, &mut other) else { return nothing };
    let Ok(order) = u8::try_from(arg.extent_order) else { return nothing };
    let mut removal = domain.p2m.removal();
    let done = each(call, arg.nr_extents, arg.extent_order > LONG_ORDER, |call, n| {
        let at = guest::element(GuestVa::new(arg.extent_start.0), n, size_of::<Gfn>())?;
        let gfn = list.read(call.domain, at)?;
        change(domain, &mut removal, place(gfn, 1 << order)?, order)
    });
    match done {
        (_, Err(Stop::Again)) => Err(Stop::Again),
        (done, Err(Stop::Error(_)) | Ok(())) => Ok(done),
    }
}

/// Gives `pages` pages from `ipa` to a domain that is being built, in the largest blocks that are aligned, wanted,
/// allowed and free. Returns how many were given before the end or the error; the caller keeps the number small enough
/// for one stretch of work.
pub fn populate<H: Hw>(domain: &Domain<H>, ipa: Ipa, pages: u64) -> (u64, Result<(), XenError>) {
    let fits = ipa.number().checked_add(pages).is_some_and(|end| end <= IPA_PAGES);
    if !ipa.is_aligned(PAGE_SIZE) || !fits {
        return (0, Err(XenError::Inval));
    }
    let mut done = 0;
    while done < pages {
        let at = ipa.add(done * PAGE_SIZE);
        let largest = at.number().trailing_zeros().min((pages - done).ilog2()).min(u32::from(MAX_ORDER));
        let given = (0..=MAX_ORDER).rev().skip_while(|order| u32::from(*order) > largest).find_map(|order| {
            let result = give(domain, at, order);
            (result != Err(XenError::NoMem)).then_some(result.map(|()| 1 << order))
        });
        match given.unwrap_or(Err(XenError::NoMem)) {
            Ok(given) => done += given,
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// Gives a block of 2^`order` fresh pages at `ipa`, or nothing.
fn give<H: Hw>(domain: &Domain<H>, ipa: Ipa, order: u8) -> Result<(), XenError> {
    let pages = 1u64 << order;
    let block = H::frames().alloc(domain.id, FrameKind::Ram, order).map_err(|_| XenError::NoMem)?;
    // The guest may look at it with its caches off.
    H::zero_to_poc(block, pages * PAGE_SIZE);
    domain.p2m.map(ipa, block, pages, MapKind::RamRw).map_err(|error| {
        for n in 0..pages {
            H::frames().put(block.add(n * PAGE_SIZE));
        }
        error.into()
    })
}

/// Empties the place at `ipa`, if what is mapped there `may_go`. RAM goes back once no TLB knows it and nobody uses it.
#[inline]
pub(super) fn take<H: Hw>(
    domain: &Domain<H>,
    removal: &mut Removal<'_, H>,
    ipa: Ipa,
    may_go: impl FnOnce(MapKind) -> bool,
) -> Result<(), XenError> {
    removal.take(ipa, |mapping| match mapping.kind {
        kind if !may_go(kind) => Err(P2mError::Busy),
        kind if kind.is_ram() => H::frames().withdraw(mapping.pa, domain.id).map_err(|_| P2mError::Busy),
        _ => Ok(()),
    })?;
    Ok(())
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
    if va.checked_add(count).is_none() || ipa.checked_add(count).is_none() {
        return (0, Err(XenError::Fault));
    }
    let others = if access == Access::Write { Access::Read } else { Access::Write };
    let mut done = 0;
    while done < count {
        let (va, ipa) = (va.add(done), ipa.add(done));
        // No part crosses a page on either side.
        let bytes = va.left_in_page().min(ipa.left_in_page()).min(count - done);
        let inside = domain.p2m.pin(ipa, access == Access::Write).map_err(XenError::from);
        let (inside, outside) = match inside.and_then(|inside| Ok((inside, guest::pin(caller, va, others)?))) {
            Ok(pages) => pages,
            Err(error) => return (done, Err(error)),
        };
        let (here, there) = (outside.pa().add(va.offset()), inside.pa().add(ipa.offset()));
        match access {
            Access::Write => {
                copy_frames::<H>(there, here, bytes);
                H::clean_to_poc(there, bytes);
            }
            Access::Read => copy_frames::<H>(here, there, bytes),
        }
        done += bytes;
    }
    (done, Ok(()))
}

/// Copies between two pinned frames; neither range crosses its page. Ranges that overlap, which only a domain
/// that copies to itself can ask for, are copied piece by piece.
pub fn copy_frames<H: Hw>(to: Pa, from: Pa, bytes: u64) {
    let apart = to.raw().abs_diff(from.raw());
    if apart >= bytes {
        H::copy(to, from, bytes);
        return;
    }
    let mut piece = [0; 64];
    let mut done = 0;
    while done < bytes {
        let part = (bytes - done).min(piece.len() as u64);
        if let Some(piece) = usize::try_from(part).ok().and_then(|part| piece.get_mut(..part)) {
            H::read_bytes(from.add(done), piece);
            H::write_bytes(to.add(done), piece);
        }
        done += part;
    }
}
