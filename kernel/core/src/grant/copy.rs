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
use crate::domain::Known;
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

/// A copy without neighbours. As on Xen it is first seen whom the pages are of, and then where they are, the source's both
/// times ahead of the destination's.
#[inline(always)]
fn alone<H: Hw>(call: &Call<'_, H>, arg: &Copy) -> Done {
    match arg.flags & (GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF) {
        GNTCOPY_SOURCE_GREF => {
            let granter = granter(call, call.domain.resolve(arg.source.domid))?;
            callers(&arg.dest)?;
            with_granted(call, &granter, gref(&arg.source), false, |from| {
                copy::<H>(arg, from, own(call, &arg.dest)?.pa())
            })
        }
        GNTCOPY_DEST_GREF => {
            callers(&arg.source)?;
            let granter = granter(call, call.domain.resolve(arg.dest.domid))?;
            let from = own(call, &arg.source)?;
            with_granted(call, &granter, gref(&arg.dest), true, |to| copy::<H>(arg, from.pa(), to))
        }
        // No table's lock is held with another's.
        _ => of_a_kind(call, arg),
    }
}

/// A copy between two granted pages, or two of the caller's own.
#[cold]
fn of_a_kind<H: Hw>(call: &Call<'_, H>, arg: &Copy) -> Done {
    turn_and_copy(call, arg, &mut Side::new(false), &mut Side::new(true))
}

/// A copy between pages that are held.
#[inline(always)]
fn between<H: Hw>(call: &Call<'_, H>, arg: &Copy, source: &mut Side<H>, dest: &mut Side<H>) -> Done {
    let (granted, also) = grants(arg);
    match (source.frame(&arg.source, granted), dest.frame(&arg.dest, also)) {
        (Some(from), Some(to)) => copy::<H>(arg, from, to),
        _ => turn_and_copy(call, arg, source, dest),
    }
}

/// The same if not both are held yet, in the order of a copy without neighbours.
#[inline(never)]
fn turn_and_copy<H: Hw>(call: &Call<'_, H>, arg: &Copy, source: &mut Side<H>, dest: &mut Side<H>) -> Done {
    let (granted, also) = grants(arg);
    let (granter, other) = (source.granter(call, &arg.source, granted)?, dest.granter(call, &arg.dest, also)?);
    let from = source.turn_to(call, &arg.source, granted, granter)?;
    copy::<H>(arg, from, dest.turn_to(call, &arg.dest, also, other)?)
}

/// Whether the source is granted, and the destination.
const fn grants(arg: &Copy) -> (bool, bool) {
    (arg.flags & GNTCOPY_SOURCE_GREF != 0, arg.flags & GNTCOPY_DEST_GREF != 0)
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

/// Frame numbers are for the caller's own memory only, whoever it is.
fn callers(ptr: &CopyPtr) -> Done {
    if ptr.domid == DomId::SELF { Ok(()) } else { Err(GrantStatus::PermissionDenied) }
}

/// The caller's own page that `ptr` names by the number of its frame.
#[inline(always)]
fn own<H: Hw>(call: &Call<'_, H>, ptr: &CopyPtr) -> Result<FrameRef, GrantStatus> {
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

    /// The frame that `ptr` names, if it is held already.
    #[inline(always)]
    fn frame(&self, ptr: &CopyPtr, granted: bool) -> Option<Pa> {
        self.held.as_ref().filter(|_| self.name == name(ptr, granted)).map(|held| held.frame)
    }

    /// Who grants the page; nobody if it is the caller's own.
    fn granter(&self, call: &Call<'_, H>, ptr: &CopyPtr, granted: bool) -> Result<Known<H>, GrantStatus> {
        if granted { granter(call, call.domain.resolve(ptr.domid)).map(Some) } else { callers(ptr).map(|()| None) }
    }

    /// The frame that `ptr` names, held until the next call or the end.
    #[inline(never)]
    fn turn_to(
        &mut self,
        call: &Call<'_, H>,
        ptr: &CopyPtr,
        granted: bool,
        granter: Known<H>,
    ) -> Result<Pa, GrantStatus> {
        if let Some(frame) = self.frame(ptr, granted) {
            return Ok(frame);
        }
        (self.held, self.name) = (None, name(ptr, granted));
        let frame = match &granter {
            Some(granter) => begin(granter, call.domain.id, gref(ptr), self.write)?,
            None => own(call, ptr)?.keep(),
        };
        let used = Use { granter, gref: gref(ptr), user: call.domain.id, write: self.write, frame };
        Ok(self.held.insert(used).frame)
    }
}

/// What the guest calls a page.
fn name(ptr: &CopyPtr, granted: bool) -> (u64, u32) {
    (ptr.u, u32::from(ptr.domid.0) | u32::from(granted) << 16)
}
