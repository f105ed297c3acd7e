//! `GNTTABOP_map_grant_ref` and `GNTTABOP_unmap_grant_ref`: pages of peers in the caller's physical map.
//!
//! A mapping owns a use, and whoever takes it out of the tables has that use to end. So nothing is kept of it but
//! the entry in stage 2; the handle that the guest unmaps it with says by which grant it was made.

use core::mem::offset_of;

use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{
    GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP, GNTMAP_READONLY, GrantStatus, MapGrantRef, UnmapGrantRef,
};
use hypercall_abi::ids::{GrantHandle, GrantRef};

use super::batch;
use super::table::{Use, begin, granter};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::domain::Domain;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::kernel::Kernel;
use crate::p2m::{IPA_BITS, MapKind, Mapping};

const fn kind(write: bool) -> MapKind {
    if write { MapKind::GrantRw } else { MapKind::GrantRo }
}

/// Bits of a handle that say where the mapping is: the low ones of the page's number. The reference is above them.
const PLACE_BITS: u32 = 16;

/// The handle of a mapping of `gref` at `place`. It is never all ones, which guests take for none.
#[allow(clippy::cast_possible_truncation, reason = "the bits of the place are the low ones")]
fn handle(gref: GrantRef, place: Ipa) -> GrantHandle {
    GrantHandle(gref.0 << PLACE_BITS | place.number() as u32 & ((1 << PLACE_BITS) - 1))
}

/// What a handle stands for, which the guest may have made up: a reference, and a place not too far from `near`.
fn named_by(handle: GrantHandle, near: Ipa) -> (GrantRef, Ipa) {
    let mask = (1 << PLACE_BITS) - 1;
    let place = near.number() & !mask | u64::from(handle.0) & mask;
    (GrantRef(handle.0 >> PLACE_BITS), Ipa::from_number(place))
}

/// `GNTTABOP_map_grant_ref`.
#[inline(never)]
pub(super) fn map<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    batch(call, offset_of!(MapGrantRef, status), |call, arg: &mut MapGrantRef| {
        if arg.flags & (GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP) == 0 {
            return Err(GrantStatus::BadGntRef);
        }
        // Xen on Arm maps for the CPU only, too.
        if arg.flags & !GNTMAP_READONLY != GNTMAP_HOST_MAP {
            return Err(GrantStatus::GeneralError);
        }
        let ipa = Ipa::new(arg.host_addr);
        if !ipa.is_aligned(PAGE_SIZE) || arg.host_addr >> IPA_BITS != 0 {
            return Err(GrantStatus::BadVirtAddr);
        }
        let write = arg.flags & GNTMAP_READONLY == 0;
        let granter = granter(call, arg.dom)?;
        let frame = begin(&granter, call.domain.id, arg.gref, write)?;
        if call.domain.p2m.map_page(ipa, frame, kind(write)).is_err() {
            end(Use::<H> { granter: Some(granter), gref: arg.gref, user: call.domain.id, write, frame });
            return Err(GrantStatus::GeneralError);
        }
        // From here on the mapping owns the use.
        arg.handle = handle(arg.gref, ipa);
        arg.dev_bus_addr = frame.raw();
        Ok(())
    })
}

#[cold]
fn end<H: Hw>(used: Use<H>) {
    drop(used);
}

/// `GNTTABOP_unmap_grant_ref`: mappings go first, then the TLBs are told once for many, then the uses end.
#[inline(never)]
pub(super) fn unmap<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut removal = call.domain.p2m.removal();
    batch(call, offset_of!(UnmapGrantRef, status), |call, arg: &mut UnmapGrantRef| {
        if arg.host_addr == 0 {
            return Ok(());
        }
        let (gref, place) = named_by(arg.handle, Ipa::new(arg.host_addr));
        let found =
            call.domain.p2m.lookup(place).filter(|found| found.kind.is_grant()).ok_or(GrantStatus::BadHandle)?;
        let (user, write, frame) = (call.domain.id, found.kind.is_writable(), found.pa);
        // A page that belongs to nobody was granted by a domain that is gone, and its entry with it.
        let granter = call.kernel.domains.get(H::frames().owner(frame));
        if let Some(granter) = &granter {
            let entry = granter.grants.lock().entry::<H>(gref);
            entry.filter(|entry| entry.is_used(user, write, frame)).ok_or(GrantStatus::BadHandle)?;
        }
        if place.raw() != arg.host_addr {
            return Err(GrantStatus::GeneralError);
        }
        // Another vCPU may have been faster.
        let unchanged = move |now| {
            if now == found { Ok(Use::<H> { granter, gref, user, write, frame }) } else { Err(XenError::NoEnt) }
        };
        removal.take(place, unchanged).map_err(|_| GrantStatus::BadHandle)
    })
}

/// `GNTTABOP_unmap_and_replace`, whose structure is the same: page tables of x86 only.
#[inline(never)]
pub(super) fn unmap_and_replace<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    batch(call, offset_of!(UnmapGrantRef, status), |_, _: &mut UnmapGrantRef| Err(GrantStatus::GeneralError))
}

/// Ends the use behind a mapping that a dying domain had, and that no TLB knows any more.
pub fn end_mapping<H: Hw>(kernel: &Kernel<H>, user: &Domain<H>, mapping: Mapping) {
    let granter = kernel.domains.get(H::frames().owner(mapping.pa));
    let write = mapping.kind.is_writable();
    // The reference is looked for: the first one will do if the page was mapped by several.
    drop(Use::<H> { granter, gref: GrantRef(0), user: user.id, write, frame: mapping.pa });
}
