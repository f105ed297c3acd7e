//! What `#[pv_guest_lib::main]` hands to the author: the domain as one value, from which everything else is reached.
//!
//! Example: `examples/hello.rs`.

use core::fmt::Display;

use hypercall_abi::sched::ShutdownReason;

use crate::arguments::Arguments;
use crate::boot::BootInfo;
use crate::executor::Spawner;
use crate::xenstore::XenStore;
use crate::{println, shutdown, sys, xenstore};

/// The running domain.
pub struct Guest {
    boot: BootInfo,
    store: XenStore,
    spawner: Spawner,
}

impl Guest {
    /// What the loader has told: RAM, device tree, initial RAM disk.
    #[must_use]
    pub const fn boot(&self) -> &BootInfo {
        &self.boot
    }

    /// The words of the command line (`extra` in xl.cfg).
    #[must_use]
    pub const fn arguments(&self) -> Arguments {
        Arguments::new(self.boot.arguments())
    }

    /// The connection to XenStore. In a domain without one every request fails with
    /// [`XsError::NoStore`](crate::xenstore::XsError::NoStore).
    #[must_use]
    pub const fn store(&self) -> XenStore {
        self.store
    }

    /// The vCPUs that the domain has besides the one that this runs on; see [`cpus`](crate::cpus).
    #[cfg(feature = "smp")]
    pub fn cpus(&self) -> impl Iterator<Item = crate::cpus::Cpu> + use<> {
        crate::cpus::Cpu::all(self.boot.fdt())
    }

    /// To start further tasks with.
    #[must_use]
    pub const fn spawner(&self) -> Spawner {
        self.spawner
    }
}

/// What a guest's main may return, and what becomes of the domain then.
pub trait Outcome {
    /// Says what there is to say, and why the domain ends.
    fn reason(self) -> ShutdownReason;
}

/// Done: the domain powers itself off.
impl Outcome for () {
    fn reason(self) -> ShutdownReason {
        ShutdownReason::Poweroff
    }
}

/// Chosen by the author.
impl Outcome for ShutdownReason {
    fn reason(self) -> ShutdownReason {
        self
    }
}

/// A failure is printed, and the domain ends as a crash, so that `on_crash` of its xl.cfg decides what follows.
impl<T: Outcome, E: Display> Outcome for Result<T, E> {
    fn reason(self) -> ShutdownReason {
        match self {
            Ok(outcome) => outcome.reason(),
            Err(error) => {
                println!("main failed: {error}");
                ShutdownReason::Crash
            }
        }
    }
}

/// Opens the store and runs the author's main as the first task; what [`main`](crate::main) calls.
#[doc(hidden)]
pub fn start<F, O>(boot: BootInfo, main: fn(Guest) -> F) -> !
where
    F: Future<Output = O> + 'static,
    O: Outcome + 'static,
{
    sys::executor::run_first(move |spawner| async move {
        let store = xenstore::start(spawner);
        let outcome = main(Guest { boot, store, spawner }).await;
        shutdown::shutdown(outcome.reason())
    })
}
