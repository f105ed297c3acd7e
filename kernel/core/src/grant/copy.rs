//! `GNTTABOP_copy`: bytes from page to page, where either may be granted by a peer.
//!
//! Both pages are held before a byte moves. Neighbours in a batch that name the same page share one use of it, and no
//! lock is held while bytes move. A copy that is alone keeps the granter's table locked instead, for a page at most: to
//! count a use and end it again would take the lock twice, and longer than most copies.

use core::mem::offset_of;

use hypercall_abi::grant::{Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GrantStatus};
use hypercall_abi::ids::{DomId, GrantRef};

use super::batch;
use super::table::{Use, begin, granter, with_granted};
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::frame::FrameRef;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::p2m::IPA_PAGES;

/// What a copy may come to.
type Done = Result<(), GrantStatus>;

/// `GNTTABOP_copy`.
#[inline(never)]
pub(super) fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    if call.arg32(2) == 1 {
        return batch(call, offset_of!(Copy, status), |call, arg: &mut Copy| alone(call, arg));
    }
    several(call)
}

#[inline(never)]
fn several<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let (mut source, mut dest) = (Side::new(false), Side::new(true));
    batch(call, offset_of!(Copy, status), |call, arg: &mut Copy| between(call, arg, &mut source, &mut dest))
}

/// A copy without neighbours.
#[inline(always)]
fn alone<H: Hw>(call: &Call<'_, H>, arg: &Copy) -> Done {
    let (granted, other, write) = match arg.flags & (GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF) {
        GNTCOPY_SOURCE_GREF => (&arg.source, &arg.dest, false),
        GNTCOPY_DEST_GREF => (&arg.dest, &arg.source, true),
        // No table's lock is held with another's.
        _ => return of_a_kind(call, arg),
    };
    with_granted(call, call.domain.resolve(granted.domid), gref(granted), write, |page| {
        let own = own(call, other)?;
        let (from, to) = if write { (own.pa(), page) } else { (page, own.pa()) };
        copy::<H>(arg, from, to)
    })
}

/// A copy between two granted pages, or two of the caller's own.
#[cold]
fn of_a_kind<H: Hw>(call: &Call<'_, H>, arg: &Copy) -> Done {
    between(call, arg, &mut Side::new(false), &mut Side::new(true))
}

/// A copy between pages that are held.
#[inline(always)]
fn between<H: Hw>(call: &Call<'_, H>, arg: &Copy, source: &mut Side<H>, dest: &mut Side<H>) -> Done {
    let from = source.turn_to(call, &arg.source, arg.flags & GNTCOPY_SOURCE_GREF != 0)?;
    let to = dest.turn_to(call, &arg.dest, arg.flags & GNTCOPY_DEST_GREF != 0)?;
    copy::<H>(arg, from, to)
}

/// Moves the bytes.
#[inline(always)]
fn copy<H: Hw>(arg: &Copy, from: Pa, to: Pa) -> Done {
    let len = u64::from(arg.len);
    let (from_offset, to_offset) = (u64::from(arg.source.offset), u64::from(arg.dest.offset));
    if from_offset + len > PAGE_SIZE || to_offset + len > PAGE_SIZE {
        return Err(GrantStatus::BadCopyArg);
    }
    H::copy(to.add(to_offset), from.add(from_offset), len);
    Ok(())
}

/// The reference that a pointer is: the low half of the union.
#[allow(clippy::cast_possible_truncation, reason = "the low half")]
const fn gref(ptr: &CopyPtr) -> GrantRef {
    GrantRef(ptr.u as u32)
}

/// The caller's own page that `ptr` names by the number of its frame.
#[inline(always)]
fn own<H: Hw>(call: &Call<'_, H>, ptr: &CopyPtr) -> Result<FrameRef, GrantStatus> {
    // Frame numbers are for the caller's own memory only, whoever it is.
    if ptr.domid != DomId::SELF {
        return Err(GrantStatus::PermissionDenied);
    }
    if ptr.u >= IPA_PAGES {
        return Err(GrantStatus::BadPage);
    }
    call.domain.p2m.pin(Ipa::from_number(ptr.u)).map_err(|_| GrantStatus::BadPage)
}

/// One side of the copies of a batch, with the page that the last one used.
struct Side<H: Hw> {
    /// What the guest called the page at hand.
    name: (u64, u32),
    held: Option<Use<H>>,
    write: bool,
}

impl<H: Hw> Side<H> {
    fn new(write: bool) -> Self {
        Side { name: (0, 0), held: None, write }
    }

    /// The frame that `ptr` names, held until the next call or the end.
    #[inline(always)]
    fn turn_to(&mut self, call: &Call<'_, H>, ptr: &CopyPtr, granted: bool) -> Result<Pa, GrantStatus> {
        let name = (ptr.u, u32::from(ptr.domid.0) | u32::from(granted) << 16);
        match &self.held {
            Some(held) if self.name == name => Ok(held.frame),
            _ => {
                self.name = name;
                self.take(call, ptr, granted)
            }
        }
    }

    // Kept apart, so that neighbours that name the same page pay for two comparisons only.
    #[inline(never)]
    fn take(&mut self, call: &Call<'_, H>, ptr: &CopyPtr, granted: bool) -> Result<Pa, GrantStatus> {
        self.held = None;
        let (granter, frame) = if granted {
            let granter = granter(call, call.domain.resolve(ptr.domid))?;
            let frame = begin(&granter, call.domain.id, gref(ptr), self.write)?;
            (Some(granter), frame)
        } else {
            (None, own(call, ptr)?.keep())
        };
        let used = Use { granter, gref: gref(ptr), user: call.domain.id, write: self.write, frame };
        Ok(self.held.insert(used).frame)
    }
}
