//! `GNTTABOP_map_grant_ref`: a page of a peer into the caller's physical map.

use hypercall_abi::grant::{GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP, GNTMAP_READONLY, GrantStatus, MapGrantRef};

use super::maptrack::Map;
use super::{Batch, Peers, active};
use crate::addr::{Ipa, PAGE_SIZE};
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult};
use crate::p2m::{IPA_BITS, MapKind};

pub(super) fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let mut batch = Batch::new::<MapGrantRef>(call);
    let mut peers = Peers::new();
    let mut arg = MapGrantRef::default();
    while let Some(at) = batch.next(call) {
        let at = at?;
        batch.read(call, at, &mut arg)?;
        let status = map_one(call, &mut peers, &mut arg).err().unwrap_or(GrantStatus::Okay);
        arg.status = status.raw();
        batch.array.write(call.domain, at, &arg)?;
        if batch.pauses(call) {
            break;
        }
    }
    batch.finish(call)
}

fn map_one<H: Hw>(call: &Call<'_, H>, peers: &mut Peers<H>, arg: &mut MapGrantRef) -> Result<(), GrantStatus> {
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
    let user = call.domain;
    let granter = peers.get(call, arg.dom)?;
    let frame = active::begin(granter, arg.gref, user.id, write)?;
    let kind = if write { MapKind::GrantRw } else { MapKind::GrantRo };
    if user.p2m.map(ipa, frame, 1, kind).is_err() {
        active::end(granter, arg.gref, frame, write);
        return Err(GrantStatus::GeneralError);
    }
    let map = Map { granter: granter.id, serial: granter.grants.serial, gref: arg.gref, ipa, frame, write };
    let handle = user.grants.maps.lock().insert(&user.quota, map);
    let Some(handle) = handle else {
        // Nobody has the handle, so the mapping is still the one just made.
        let _ = user.p2m.removal().take(ipa, |_| Ok(()));
        active::end(granter, arg.gref, frame, write);
        return Err(GrantStatus::NoDeviceSpace);
    };
    arg.handle = handle;
    arg.dev_bus_addr = frame.raw();
    Ok(())
}
