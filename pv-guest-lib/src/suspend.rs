//! Suspending the domain, so that it can be saved, and finding everything again when it goes on.
//!
//! `xl save` is not there on Arm; a tool stack asks through `control/shutdown`, and whoever has suspended the domain may let it
//! go on (`XEN_DOMCTL_resumedomain`). Where that is in place the tool stack may say so by an x0 of 1, as it does on x86; Xen itself
//! does not say it on Arm, and then everything is found again. Xenolith's tool stack lets no suspended domain go on.
//!
//! What is of the library itself comes back: time, events, the console, the store with its watches. Devices do not: their
//! grants mean nothing where the domain goes on, so they are closed before and connected again after.
//!
//! ```ignore
//! if shutdown::requested(&store).await? == Request::Suspend {
//!     disk_storage.close(); // and its runner has ended
//!     net::stack::close().await;
//!     match suspend::suspend().await? {
//!         Resumed::Cancelled => println!("stayed here"),
//!         Resumed::Restored => println!("somewhere else, or later"),
//!     }
//!     net::stack::reopen(&guest).await?;
//!     let (disk, runner) = Disk::connect(&store, &device, &disk_storage).await?;
//! }
//! ```
//!
//! Example: `examples/suspend.rs`.

use hypercall_abi::errno::XenError;

use crate::shutdown::{Request, ShutdownReason, requested};
use crate::xenstore::{XenStore, XsError};
use crate::{console, evtchn, grant, hypercall, sys, time, xenstore};

/// Like [`shutdown::awaited`](crate::shutdown::awaited), for a guest without devices: when the tool stack asks for a
/// suspension, the domain is suspended, and goes on to wait when it goes on.
///
/// # Errors
/// As the store refuses.
pub async fn awaited(store: &XenStore) -> Result<ShutdownReason, XsError> {
    loop {
        match requested(store).await? {
            Request::Poweroff => return Ok(ShutdownReason::Poweroff),
            Request::Reboot => return Ok(ShutdownReason::Reboot),
            Request::Suspend => match suspend().await {
                Ok(resumed) => log::info!("{resumed:?} after a suspension"),
                Err(error) => log::error!("not suspended: {error}"),
            },
            Request::Unknown => log::error!("control/shutdown asks for what this guest cannot do"),
        }
    }
}

/// How a suspended domain went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// Where it was: the suspension was cancelled, and nothing has changed.
    Cancelled,
    /// From what was saved, maybe on another machine: ports and grants of before are gone.
    Restored,
}

/// Suspends the domain (`SCHEDOP_shutdown` with `SHUTDOWN_suspend`, Xen public/sched.h) and returns when it goes on.
///
/// # Errors
/// [`XsError::Refused`] with `EBUSY` while a page is granted or another vCPU was started, with what the hypervisor answers,
/// or with what the store answers when a watch is to be set again.
pub async fn suspend() -> Result<Resumed, XsError> {
    #[cfg(feature = "smp")]
    if sys::smp::are_many() {
        return Err(XsError::Refused(XenError::Busy));
    }
    if grant::any() {
        return Err(XsError::Refused(XenError::Busy));
    }
    // Nobody's request is under way meanwhile.
    let turn = xenstore::pause().await;
    let resumed = critical_section::with(|_| {
        let resumed = if hypercall::suspend()? { Resumed::Cancelled } else { reopen()? };
        time::resume();
        Ok::<_, XenError>(resumed)
    });
    drop(turn);
    let resumed = resumed.map_err(XsError::Refused)?;
    if resumed == Resumed::Restored {
        // Each waits for its port again, which takes the mask off.
        evtchn::wake_all();
        xenstore::watch_again().await?;
    }
    Ok(resumed)
}

/// Finds again what the hypervisor and the tool stack have put elsewhere.
fn reopen() -> Result<Resumed, XenError> {
    evtchn::init(sys::grant_table::reopen()?);
    console::reopen();
    xenstore::reopen();
    Ok(Resumed::Restored)
}
