//! The end of a domain's grants: what it has mapped goes back to its peers, and its own table goes.

use hypercall_abi::ids::GrantHandle;

use super::unmap::end_use;
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;

/// Releases at most `budget` mappings or pages of a dying domain whose vCPUs are off all pCPUs; true when nothing
/// is left. Pages of its own that peers still map stay theirs until they unmap them.
pub fn teardown<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, budget: u32) -> bool {
    // No TLB may know a peer's page when the peer gets it back.
    domain.p2m.kill();
    let mut granter = None;
    for _ in 0..budget {
        let mut maps = domain.grants.maps.lock();
        if let Some(last) = maps.used().checked_sub(1) {
            let handle = GrantHandle(last);
            let map = maps.get(handle);
            maps.forget_last();
            drop(maps);
            if let Some(map) = map {
                end_use(kernel, &mut granter, &map);
            }
        } else if !maps.shrink(&domain.quota) {
            drop(maps);
            if !domain.grants.table.lock().shrink(&domain.quota) {
                return true;
            }
        }
    }
    false
}
