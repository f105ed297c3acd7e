//! Further vCPUs (feature `smp`): each is off at first, and runs an executor of its own once it was started.
//!
//! ```ignore
//! static DONE: Signal<CriticalSectionRawMutex, u64> = Signal::new();
//!
//! for cpu in guest.cpus() {
//!     cpu.start(|_spawner| async { DONE.signal(compute().await) })?;
//! }
//! println!("the other says {}", DONE.wait().await);
//! ```
//!
//! A task stays on the vCPU that spawned it; to spawn on another one, send it the `SendSpawner` of a
//! [`Spawner`] (`make_send`). What is shared between vCPUs is shared between threads: the types say so, and everything
//! of this library may be used from any of them. Timers fire on the vCPU that waits; event channels notify the boot
//! vCPU unless [`EventChannel::deliver_to`](crate::evtchn::EventChannel::deliver_to) says otherwise.
//!
//! Example: `examples/cpus.rs`.

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::VcpuId;
use hypercall_abi::psci::PsciResult;

pub use crate::sys::smp::{MAX_CPUS, current};

use crate::executor::Spawner;
use crate::{boot, sys};

/// Why a vCPU does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The caller: it has been started before.
    Started,
    /// This domain: no page is free for what the vCPU shares with the hypervisor.
    NoMemory,
    /// The hypervisor refuses to turn it on (PSCI `CPU_ON`, Arm DEN0022F).
    Refused(PsciResult),
    /// The hypervisor does not take its event page (`VCPUOP_register_vcpu_info`, Xen public/vcpu.h).
    Events(XenError),
}

impl core::fmt::Display for StartError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Started => f.write_str("the vCPU has been started before"),
            Self::NoMemory => f.write_str("no page is free for a vCPU"),
            Self::Refused(result) => write!(f, "the hypervisor does not turn the vCPU on: {result:?}"),
            Self::Events(error) => write!(f, "the hypervisor does not take the vCPU's event page: {error}"),
        }
    }
}

impl core::error::Error for StartError {}

/// A vCPU of the domain other than the boot vCPU.
#[derive(Debug)]
pub struct Cpu {
    id: VcpuId,
    affinity: u64,
}

impl Cpu {
    /// The vCPUs that the device tree names, the boot vCPU and what is beyond [`MAX_CPUS`] aside.
    pub(crate) fn all(fdt: &'static [u8]) -> impl Iterator<Item = Self> {
        let ids = (0..).map(VcpuId);
        let all = ids.zip(boot::cpus(fdt)).take(MAX_CPUS).skip(1);
        all.map(|(id, affinity)| Self { id, affinity })
    }

    /// Its number, as Xen counts.
    #[must_use]
    pub const fn id(&self) -> VcpuId {
        self.id
    }

    /// Turns the vCPU on. There it calls `first` with the spawner of its own executor and runs the future as its first
    /// task; when that ends, the vCPU runs what was spawned, or sleeps.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start<S, F>(self, first: S) -> Result<(), StartError>
    where
        S: FnOnce(Spawner) -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        sys::smp::start(self.id, self.affinity, first)
    }
}
