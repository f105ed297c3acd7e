//! `GNTTABOP_unmap_grant_ref`: mappings go first, then the TLBs are told once for many, then the uses end.

use heapless::Vec;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{GrantStatus, UnmapGrantRef};
use hypercall_abi::ids::{GrantHandle, GuestPtr};

use super::maptrack::Map;
use super::{Batch, active};
use crate::domain::Domain;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::kernel::Kernel;
use crate::p2m::{Mapping, P2mError, Removal};

/// Mappings that share one round of TLB invalidations.
const ROUND: usize = 8;

/// Mappings that are out of the tables, but not yet out of all TLBs.
struct Round<'a, H: Hw> {
    kernel: &'static Kernel<H>,
    user: &'a Domain<H>,
    removal: Removal<'a, H>,
    /// Handles that are claimed, but not yet released.
    claimed: Vec<GrantHandle, ROUND>,
    granter: Option<H::Shared<Domain<H>>>,
}

pub(super) fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut batch = Batch::new::<UnmapGrantRef>(call);
    rounds(call, &mut batch)?;
    batch.finish(call)
}

/// When this returns, all uses that it took have ended.
fn rounds<H: Hw>(call: &mut Call<'_, H>, batch: &mut Batch<H>) -> Result<(), XenError> {
    let user = call.domain;
    let mut round =
        Round { kernel: call.kernel, user, removal: user.p2m.removal(), claimed: Vec::new(), granter: None };
    let mut arg = UnmapGrantRef::default();
    while let Some(at) = batch.next(call) {
        let at = at?;
        batch.read(call, at, &mut arg)?;
        let status = round.take(&arg).err().unwrap_or(GrantStatus::Okay);
        batch.answer(call, at, core::mem::offset_of!(UnmapGrantRef, status), status)?;
        if batch.pauses(call) {
            break;
        }
    }
    Ok(())
}

/// `GNTTABOP_unmap_and_replace` (handle at 16, status at 20 of 24 bytes): page tables of x86 only.
pub(super) fn and_replace<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut batch = Batch::new::<UnmapAndReplace>(call);
    while let Some(at) = batch.next(call) {
        batch.answer(call, at?, core::mem::offset_of!(UnmapAndReplace, status), GrantStatus::GeneralError)?;
        if batch.pauses(call) {
            break;
        }
    }
    batch.finish(call)
}

/// `struct gnttab_unmap_and_replace` (Xen public/grant_table.h), of which only the status is written.
#[repr(C)]
struct UnmapAndReplace {
    host_addr: u64,
    new_addr: GuestPtr,
    handle: GrantHandle,
    status: i16,
}

const _: () = assert!(size_of::<UnmapAndReplace>() == 24);

impl<H: Hw> Round<'_, H> {
    /// Takes one mapping out of the tables.
    fn take(&mut self, arg: &UnmapGrantRef) -> Result<(), GrantStatus> {
        if self.claimed.is_full() {
            self.finish();
        }
        let mut maps = self.user.grants.maps.lock();
        let map = maps.get(arg.handle).ok_or(GrantStatus::BadHandle)?;
        if arg.host_addr == 0 {
            return Ok(());
        }
        if arg.host_addr != map.ipa.raw() {
            return Err(GrantStatus::GeneralError);
        }
        // From here on the handle is ours alone: a second call with it finds nothing.
        maps.claim(arg.handle);
        drop(maps);
        let is_ours = |found: Mapping| {
            if found.kind.is_grant() && found.pa == map.frame { Ok(()) } else { Err(P2mError::Absent) }
        };
        // Nothing else removes a grant's mapping; should it be gone, the use ends all the same.
        let _ = self.removal.take(map.ipa, is_ours);
        // There is room: a full round was finished above.
        let _ = self.claimed.push(arg.handle);
        Ok(())
    }

    /// Waits for the TLBs, and only then lets the frames go and the granters know.
    fn finish(&mut self) {
        self.removal.flush();
        for handle in &self.claimed {
            let map = self.user.grants.maps.lock().release(*handle);
            if let Some(map) = map {
                end_use(self.kernel, &mut self.granter, &map);
            }
        }
        self.claimed.clear();
    }
}

impl<H: Hw> Drop for Round<'_, H> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Ends the use behind a mapping that no TLB knows any more. The granter may be gone; its page is not.
pub(super) fn end_use<H: Hw>(kernel: &Kernel<H>, kept: &mut Option<H::Shared<Domain<H>>>, map: &Map) {
    if kept.as_ref().is_none_or(|granter| granter.id != map.granter) {
        *kept = kernel.domains.get(map.granter);
    }
    match kept.as_ref().filter(|granter| granter.grants.serial == map.serial) {
        Some(granter) => active::end(granter, map.gref, map.frame, map.write),
        None => H::frames().put(map.frame),
    }
}
