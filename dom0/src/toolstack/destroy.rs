//! Taking a domain down: first what Dom0 holds of it, then the domain, then its traces in the store.

use dom0_core::devices::{paths, removal};
use dom0_core::domain::Handle;
use embassy_futures::yield_now;
use embassy_time::{Duration, Timer};
use hypercall_abi::ids::DomId;
use pv_guest_lib::control::{self, Progress};
use xenstore::Request;

use super::{Error, Toolstack};
use crate::notices;

/// How long the back ends are waited for between two looks.
const PATIENCE: Duration = Duration::from_micros(200);

impl Toolstack {
    /// Takes the domain down, whatever it is doing. Returns when all that it had is returned.
    pub async fn destroy(&self, handle: Handle) -> Result<(), Error> {
        self.register.borrow_mut().dying(handle)?;
        self.undo(handle).await;
        Ok(())
    }

    /// Removes all that there is of a domain, however far its making had come.
    pub(super) async fn undo(&self, handle: Handle) {
        let entry = self.register.borrow().get(handle).map(|domain| (domain.domid, domain.uuid));
        if let Some((Some(domid), uuid)) = entry {
            if let Ok(cap) = self.cap(domid) {
                // It must not run on while its devices vanish.
                let _ = control::pause(cap);
            }
            self.release_devices(domid).await;
            self.end(domid).await;
            self.pools.borrow_mut().forget(domid);
            self.hub.domain_died(domid);
            notices::forget(domid);
            for path in removal(domid, &uuid) {
                if let Err(error) = self.store.remove(&path) {
                    log::error!("xenstore: {path}: {}", error.wire_name());
                }
            }
        }
        self.register.borrow_mut().forget(handle);
    }

    /// The back ends let go of the domain's pages.
    async fn release_devices(&self, domid: DomId) {
        // Without its directory a back end ends at once.
        for kind in [paths::VBD, paths::VIF] {
            let _ = self.store.remove(&paths::backends(kind, domid));
        }
        while self.blocks.count(domid) + self.nets.count(domid) > 0 {
            Timer::after(PATIENCE).await;
        }
        self.consoles.close(domid);
        // Fails for a domain that was never introduced.
        let _ = self.store.request(Request::Release { domid });
        // The tasks of console and store let go of their pages when they come round.
        yield_now().await;
    }

    async fn end(&self, domid: DomId) {
        let Some(cap) = self.caps.borrow_mut().remove(&domid) else { return };
        loop {
            match control::destroy(cap) {
                Ok(Progress::Done) => return,
                Ok(Progress::More) => yield_now().await,
                Err(error) => {
                    log::error!("d{domid} cannot be destroyed: the hypervisor answers {error}");
                    return;
                }
            }
        }
    }
}
