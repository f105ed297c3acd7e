//! `GNTTABOP_copy`: bytes from page to page, where either may be granted by a peer.
//!
//! Both pages are pinned before a byte moves, and no lock is held while bytes move. Neighbours in a batch that
//! name the same page share one pin.

use hypercall_abi::grant::{Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GrantStatus};
use hypercall_abi::ids::{DomId, GrantRef};

use super::{Batch, Peers, active};
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::memory::copy_frames;
use crate::p2m::IPA_PAGES;

pub(super) fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut batch = Batch::new::<Copy>(call);
    let (mut source, mut dest) = (Side::<H, false>::new(), Side::<H, true>::new());
    let mut arg = Copy::default();
    while let Some(at) = batch.next(call) {
        let at = at?;
        batch.read(call, at, &mut arg)?;
        let status = copy_one(call, &mut source, &mut dest, &arg).err().unwrap_or(GrantStatus::Okay);
        batch.answer(call, at, core::mem::offset_of!(Copy, status), status)?;
        if batch.pauses(call) {
            break;
        }
    }
    batch.finish(call)
}

#[inline(always)]
fn copy_one<H: Hw>(
    call: &Call<'_, H>,
    source: &mut Side<H, false>,
    dest: &mut Side<H, true>,
    arg: &Copy,
) -> Result<(), GrantStatus> {
    let from = source.pin(call, &arg.source, arg.flags & GNTCOPY_SOURCE_GREF != 0)?;
    let to = dest.pin(call, &arg.dest, arg.flags & GNTCOPY_DEST_GREF != 0)?;
    let len = u64::from(arg.len);
    let (from_offset, to_offset) = (u64::from(arg.source.offset), u64::from(arg.dest.offset));
    if from_offset + len > PAGE_SIZE || to_offset + len > PAGE_SIZE {
        return Err(GrantStatus::BadCopyArg);
    }
    copy_frames::<H>(to.add(to_offset), from.add(from_offset), len);
    Ok(())
}

/// One side of the copies of a batch, with the page that the last one used; `WRITE` for the destination.
struct Side<H: Hw, const WRITE: bool> {
    /// What the guest called the page at hand.
    name: (u64, u32),
    frame: Pa,
    hold: Hold,
    /// The granter of the page at hand, or of an earlier one.
    peers: Peers<H>,
}

/// What keeps the page at hand.
enum Hold {
    /// There is none.
    Nothing,
    /// A reference on a page of the caller.
    Own,
    /// A use of the peer's grant.
    Grant(GrantRef),
}

impl<H: Hw, const WRITE: bool> Side<H, WRITE> {
    const fn new() -> Self {
        Side { name: (0, 0), frame: Pa::new(0), hold: Hold::Nothing, peers: Peers::new() }
    }

    /// The frame that `ptr` names, held until the next call or the end.
    #[inline(always)]
    fn pin(&mut self, call: &Call<'_, H>, ptr: &CopyPtr, granted: bool) -> Result<Pa, GrantStatus> {
        let name = (ptr.u, u32::from(ptr.domid.0) | u32::from(granted) << 16);
        if self.name != name || matches!(self.hold, Hold::Nothing) {
            self.turn_to(call, ptr, granted)?;
            self.name = name;
        }
        Ok(self.frame)
    }

    // Kept apart from `pin`, so that neighbours that name the same page pay for two comparisons only.
    #[inline(never)]
    fn turn_to(&mut self, call: &Call<'_, H>, ptr: &CopyPtr, granted: bool) -> Result<(), GrantStatus> {
        self.let_go();
        if granted {
            #[allow(clippy::cast_possible_truncation, reason = "the reference is the low half of the union")]
            let gref = GrantRef(ptr.u as u32);
            let granter = self.peers.get(call, call.domain.resolve(ptr.domid))?;
            self.frame = active::begin(granter, gref, call.domain.id, WRITE)?;
            self.hold = Hold::Grant(gref);
            return Ok(());
        }
        // Frame numbers are for the caller's own memory only, whoever it is.
        if ptr.domid != DomId::SELF {
            return Err(GrantStatus::PermissionDenied);
        }
        if ptr.u >= IPA_PAGES {
            return Err(GrantStatus::BadPage);
        }
        let page = call.domain.p2m.pin(Ipa::from_number(ptr.u), WRITE).map_err(|_| GrantStatus::BadPage)?;
        self.frame = page.keep();
        self.hold = Hold::Own;
        Ok(())
    }

    fn let_go(&mut self) {
        match (core::mem::replace(&mut self.hold, Hold::Nothing), self.peers.last()) {
            (Hold::Grant(gref), Some(granter)) => active::end(granter, gref, self.frame, WRITE),
            (Hold::Own, _) => H::frames().put(self.frame),
            // A use without its granter does not exist: the peer changes only after the page was let go.
            (Hold::Nothing | Hold::Grant(_), _) => {}
        }
    }
}

impl<H: Hw, const WRITE: bool> Drop for Side<H, WRITE> {
    fn drop(&mut self) {
        self.let_go();
    }
}
