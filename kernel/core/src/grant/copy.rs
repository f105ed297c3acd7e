//! `GNTTABOP_copy`: bytes from page to page, where either may be granted by a peer.
//!
//! Both pages are held before a byte moves. Neighbours in a batch that name the same page share one use of it, and no
//! lock is held while bytes move. A copy that is alone keeps the granter's table locked instead, for a page at most: to
//! count a use and end it again would take the lock twice, and longer than most copies.

use core::mem::offset_of;

use hypercall_abi::grant::{Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GrantStatus};
use hypercall_abi::ids::{DomId, GrantRef};

use super::batch;
use super::table::{Use, with_granted};
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
    let side = |write| Side::<H> { name: (0, 0), held: None, write };
    let (mut source, mut dest) = (side(false), side(true));
    batch(call, offset_of!(Copy, status), |call, arg: &mut Copy| {
        let from = source.turn_to(call, &arg.source, arg.flags & GNTCOPY_SOURCE_GREF != 0)?;
        let to = dest.turn_to(call, &arg.dest, arg.flags & GNTCOPY_DEST_GREF != 0)?;
        copy::<H>(arg, from, to)
    })
}

/// A copy without neighbours. If both pages are granted, one lock is as much as may be held.
#[inline(always)]
fn alone<H: Hw>(call: &Call<'_, H>, arg: &Copy) -> Done {
    let (source, dest) = (&arg.source, &arg.dest);
    let with_dest = |from| match arg.flags & GNTCOPY_DEST_GREF {
        0 => copy::<H>(arg, from, own(call, dest)?.pa()),
        _ => with_granted(call, call.domain.resolve(dest.domid), gref(dest), true, |to| copy::<H>(arg, from, to)),
    };
    match (arg.flags & GNTCOPY_SOURCE_GREF, arg.flags & GNTCOPY_DEST_GREF) {
        (0, _) => with_dest(own(call, source)?.pa()),
        (_, 0) => with_granted(call, call.domain.resolve(source.domid), gref(source), false, with_dest),
        _ => with_dest(Use::begin(call, call.domain.resolve(source.domid), gref(source), false)?.frame),
    }
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
        let held = if granted {
            Use::begin(call, call.domain.resolve(ptr.domid), gref(ptr), self.write)?
        } else {
            let frame = own(call, ptr)?.keep();
            Use { granter: None, gref: GrantRef(0), user: call.domain.id, write: self.write, frame }
        };
        Ok(self.held.insert(held).frame)
    }
}
