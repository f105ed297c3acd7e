//! `GNTTABOP_cache_flush`: a back end cleans the caches over a page that a device without coherency will use.

use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{CacheFlush, GNTTAB_CACHE_CLEAN, GNTTAB_CACHE_INVAL, GNTTAB_CACHE_SOURCE_GREF};
use hypercall_abi::ids::GrantHandle;

use super::COMMAND_BITS;
use crate::addr::{GuestVa, PAGE_SIZE, Pa};
use crate::guest;
use crate::hw::Hw;
use crate::hypercall::{Call, CallResult, Stop};

/// Handles that are searched in one round.
const SEARCH: u32 = 1024;

/// One element per round; the place in the search travels above the command.
pub(super) fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    if call.arg32(2) == 0 {
        return Ok(0);
    }
    let arg: CacheFlush = guest::read(call.domain, GuestVa::new(call.args[1]))?;
    let end = u64::from(arg.offset) + u64::from(arg.length);
    if end > PAGE_SIZE || arg.op & !(GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL | GNTTAB_CACHE_SOURCE_GREF) != 0 {
        return Err(XenError::Inval.into());
    }
    if arg.op & GNTTAB_CACHE_SOURCE_GREF != 0 {
        return Err(XenError::OpNotSupp.into());
    }
    let page = Pa::new(arg.addr).page();
    if arg.length != 0 && arg.op != 0 {
        let search = u32::try_from(call.args[0] >> COMMAND_BITS).map_err(|_| XenError::Inval)?;
        match find(call, page, search) {
            Found::Yes => {}
            Found::No => return Err(XenError::Perm.into()),
            Found::SearchOn(next) => {
                call.args[0] = u64::from(next) << COMMAND_BITS | call.args[0] & ((1 << COMMAND_BITS) - 1);
                return Err(Stop::Again);
            }
        }
        // Cleaning before invalidating does what either asks for, and loses nobody's data.
        H::clean_to_poc(page.add(u64::from(arg.offset)), u64::from(arg.length));
    }
    call.args[0] &= (1 << COMMAND_BITS) - 1;
    call.args[1] = call.args[1].wrapping_add(size_of::<CacheFlush>() as u64);
    call.args[2] = u64::from(call.arg32(2)) - 1;
    if call.args[2] == 0 { Ok(0) } else { Err(Stop::Again) }
}

enum Found {
    Yes,
    No,
    SearchOn(u32),
}

/// Whether the page is the caller's own or one that it has mapped.
fn find<H: Hw>(call: &Call<'_, H>, page: Pa, from: u32) -> Found {
    if H::frames().get(page, call.domain.id).is_ok() {
        return Found::Yes;
    }
    let maps = call.domain.grants.maps.lock();
    let end = from.saturating_add(SEARCH).min(maps.used());
    let hit = (from..end).any(|n| maps.get(GrantHandle(n)).is_some_and(|map| map.frame == page));
    match (hit, end < maps.used()) {
        (true, _) => Found::Yes,
        (false, true) => Found::SearchOn(end),
        (false, false) => Found::No,
    }
}
