//! `GNTTABOP_copy`: bytes from page to page, where either may be granted by a peer.
//!
//! Both pages are held before a byte moves, and no lock is while bytes move. Neighbours in a batch that name the
//! same page share one use of it.

use core::mem::offset_of;

use hypercall_abi::grant::{Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GrantStatus};
use hypercall_abi::ids::{DomId, GrantRef};

use super::batch;
use super::table::Use;
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::p2m::IPA_PAGES;

/// `GNTTABOP_copy`.
pub(super) fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let side = |write| Side::<H> { name: (0, 0), held: None, write };
    let (mut source, mut dest) = (side(false), side(true));
    batch(call, offset_of!(Copy, status), |call, arg: &mut Copy| {
        let from = source.turn_to(call, &arg.source, arg.flags & GNTCOPY_SOURCE_GREF != 0)?;
        let to = dest.turn_to(call, &arg.dest, arg.flags & GNTCOPY_DEST_GREF != 0)?;
        let len = u64::from(arg.len);
        let (from_offset, to_offset) = (u64::from(arg.source.offset), u64::from(arg.dest.offset));
        if from_offset + len > PAGE_SIZE || to_offset + len > PAGE_SIZE {
            return Err(GrantStatus::BadCopyArg);
        }
        H::copy(to.add(to_offset), from.add(from_offset), len);
        Ok(())
    })
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
            #[allow(clippy::cast_possible_truncation, reason = "the reference is the low half of the union")]
            let gref = GrantRef(ptr.u as u32);
            Use::begin(call, call.domain.resolve(ptr.domid), gref, self.write)?
        } else if ptr.domid != DomId::SELF {
            // Frame numbers are for the caller's own memory only, whoever it is.
            return Err(GrantStatus::PermissionDenied);
        } else if ptr.u >= IPA_PAGES {
            return Err(GrantStatus::BadPage);
        } else {
            let page = call.domain.p2m.pin(Ipa::from_number(ptr.u)).map_err(|_| GrantStatus::BadPage)?;
            Use { granter: None, gref: GrantRef(0), user: call.domain.id, write: self.write, frame: page.keep() }
        };
        Ok(self.held.insert(held).frame)
    }
}
