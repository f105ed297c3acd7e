//! Ballooning: frames given to the domain and taken back, extent by extent.
//!
//! The result is the number of extents done, whatever stopped the call; a caller without the right, or with
//! arguments that make no sense, has done none (as on Xen).

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;
use hypercall_abi::memory::Reservation;

use super::{progress, set_progress, target};
use crate::addr::{GuestVa, Ipa, PAGE_SIZE};
use crate::domain::Domain;
use crate::frame::FrameKind;
use crate::guest::{self, Array};
use crate::hw::{Access, Hw};
use crate::hypercall::{Call, CallResult, Stop};
use crate::p2m::{IPA_PAGES, MapKind, P2mError, Removal};

/// Order of the largest extent (2 MiB; Xen's limit for guests, too).
const MAX_EXTENT_ORDER: u32 = 9;
/// Extents of more than 2^this pages end a round of the call each.
const LONG_ORDER: u32 = 3;

/// Which way the frames go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Fresh frames at the places that the extents name.
    Populate,
    /// The frames at those places go back.
    Decrease,
    /// Frames without a place: of no use to a domain whose map is ours, so none are given.
    Increase,
}

pub(super) fn op<H: Hw>(call: &mut Call<'_, H>, change: Change) -> CallResult {
    let arg: Reservation = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    let start = progress(call);
    if start >= arg.nr_extents
        || arg.nr_extents > u64::MAX >> super::PROGRESS_SHIFT
        || arg.extent_order > MAX_EXTENT_ORDER
    {
        return Ok(start);
    }
    let other;
    let domain: &Domain<H> = if arg.domid == DomId::SELF {
        call.domain
    } else {
        let Ok(found) = target(call, arg.domid) else { return Ok(start) };
        other = found;
        &other
    };
    let mut done = start;
    match change {
        Change::Populate => each(call, &arg, &mut done, |gfn| populate_extent(domain, gfn, arg.extent_order)),
        Change::Decrease => {
            let mut removal = domain.p2m.removal();
            each(call, &arg, &mut done, |gfn| remove_extent(domain, &mut removal, gfn, arg.extent_order))
        }
        Change::Increase => Ok(start),
    }
}

/// Does extent after extent, until one fails or the call has worked long enough.
fn each<H: Hw>(
    call: &mut Call<'_, H>,
    arg: &Reservation,
    done: &mut u64,
    mut extent: impl FnMut(u64) -> Result<(), XenError>,
) -> CallResult {
    let mut list = Array::<H>::new(Access::Read);
    while *done < arg.nr_extents {
        let Ok(at) = guest::element(GuestVa::new(arg.extent_start.0), *done, size_of::<u64>()) else { break };
        let Ok(gfn) = list.read::<u64>(call.domain, at) else { break };
        if extent(gfn).is_err() {
            break;
        }
        *done += 1;
        let long = arg.extent_order > LONG_ORDER;
        if (call.should_yield() || long) && *done < arg.nr_extents {
            set_progress(call, *done);
            return Err(Stop::Again);
        }
    }
    Ok(*done)
}

fn populate_extent<H: Hw>(domain: &Domain<H>, gfn: u64, order: u32) -> Result<(), XenError> {
    let pages = 1u64 << order;
    check(gfn, pages)?;
    let order = u8::try_from(order).map_err(|_| XenError::Inval)?;
    domain.quota.charge(pages).map_err(|_| XenError::NoMem)?;
    let Ok(block) = H::frames().alloc(domain.id, FrameKind::Ram, order) else {
        domain.quota.refund(pages);
        return Err(XenError::NoMem);
    };
    // The guest may look at it with its caches off.
    H::zero_to_poc(block, pages * PAGE_SIZE);
    domain.p2m.map(Ipa::from_number(gfn), block, pages, MapKind::RamRw).map_err(|error| {
        for n in 0..pages {
            H::frames().put(block.add(n * PAGE_SIZE));
        }
        domain.quota.refund(pages);
        error.into()
    })
}

fn remove_extent<H: Hw>(
    domain: &Domain<H>,
    removal: &mut Removal<'_, H>,
    gfn: u64,
    order: u32,
) -> Result<(), XenError> {
    let pages = 1u64 << order;
    check(gfn, pages)?;
    for n in 0..pages {
        removal.take(Ipa::from_number(gfn + n), |mapping| {
            if !mapping.kind.is_ram() {
                return Err(P2mError::Absent);
            }
            H::frames().withdraw(mapping.pa, domain.id).map_err(|_| P2mError::Busy)
        })?;
        domain.quota.refund(1);
    }
    Ok(())
}

/// An extent inside the IPA space and aligned to its size.
fn check(gfn: u64, pages: u64) -> Result<(), XenError> {
    if gfn.is_multiple_of(pages) && gfn.checked_add(pages).is_some_and(|end| end <= IPA_PAGES) {
        Ok(())
    } else {
        Err(XenError::Inval)
    }
}
