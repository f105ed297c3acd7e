//! `GNTTABOP_copy`: bytes from page to page, where either may be granted by a peer.
//!
//! Both pages are pinned before a byte moves, and no lock is held while bytes move. Neighbours in a batch that
//! name the same page share one pin.

use hypercall_abi::grant::{Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GrantStatus};
use hypercall_abi::ids::{DomId, GrantRef};

use super::{Batch, Peers, active};
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::frame::FrameRef;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::memory::copy_frames;
use crate::p2m::IPA_PAGES;

pub(super) fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut batch = Batch::new::<Copy>(call);
    let (mut source, mut dest) = (Side::new(false), Side::new(true));
    while let Some(at) = batch.next(call) {
        let at = at?;
        let arg: Copy = batch.read(call, at)?;
        let status = copy_one(call, &mut source, &mut dest, &arg).err().unwrap_or(GrantStatus::Okay);
        let status_at = at.add(core::mem::offset_of!(Copy, status) as u64);
        batch.array.write(call.domain, status_at, &status.raw())?;
        if batch.pauses(call) {
            break;
        }
    }
    batch.finish(call)
}

fn copy_one<H: Hw>(
    call: &Call<'_, H>,
    source: &mut Side<H>,
    dest: &mut Side<H>,
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

/// One side of the copies of a batch, with the page that the last one used.
struct Side<H: Hw> {
    write: bool,
    peers: Peers<H>,
    page: Option<Page<H>>,
}

/// What the guest asked for, and what holds it.
struct Page<H: Hw> {
    name: (u64, DomId, bool),
    hold: Hold<H>,
}

enum Hold<H: Hw> {
    /// A page of the caller.
    Own(FrameRef),
    /// A use of a grant; it ends when this is dropped.
    Granted { granter: H::Shared<Domain<H>>, gref: GrantRef, frame: Pa, write: bool },
}

impl<H: Hw> Side<H> {
    const fn new(write: bool) -> Self {
        Side { write, peers: Peers::new(), page: None }
    }

    /// The frame that `ptr` names, held until the next call or the end.
    fn pin(&mut self, call: &Call<'_, H>, ptr: &CopyPtr, granted: bool) -> Result<Pa, GrantStatus> {
        let name = (ptr.u, ptr.domid, granted);
        if let Some(page) = &self.page
            && page.name == name
        {
            return Ok(page.hold.frame());
        }
        self.page = None;
        let hold = if granted { self.pin_granted(call, ptr)? } else { self.pin_own(call, ptr)? };
        let frame = hold.frame();
        self.page = Some(Page { name, hold });
        Ok(frame)
    }

    fn pin_own(&self, call: &Call<'_, H>, ptr: &CopyPtr) -> Result<Hold<H>, GrantStatus> {
        // Frame numbers are for the caller's own memory only, whoever it is.
        if ptr.domid != DomId::SELF {
            return Err(GrantStatus::PermissionDenied);
        }
        if ptr.u >= IPA_PAGES {
            return Err(GrantStatus::BadPage);
        }
        let page = call.domain.p2m.pin(Ipa::from_number(ptr.u), self.write).map_err(|_| GrantStatus::BadPage)?;
        Ok(Hold::Own(page))
    }

    fn pin_granted(&mut self, call: &Call<'_, H>, ptr: &CopyPtr) -> Result<Hold<H>, GrantStatus> {
        #[allow(clippy::cast_possible_truncation, reason = "the reference is the low half of the union")]
        let gref = GrantRef(ptr.u as u32);
        let granter = self.peers.get(call, call.domain.resolve(ptr.domid))?;
        let frame = active::begin(granter, gref, call.domain.id, self.write)?;
        Ok(Hold::Granted { granter: granter.clone(), gref, frame, write: self.write })
    }
}

impl<H: Hw> Hold<H> {
    fn frame(&self) -> Pa {
        match self {
            Hold::Own(page) => page.pa(),
            Hold::Granted { frame, .. } => *frame,
        }
    }
}

impl<H: Hw> Drop for Hold<H> {
    fn drop(&mut self) {
        if let Hold::Granted { granter, gref, frame, write } = self {
            active::end(granter, *gref, *frame, *write);
        }
    }
}
