//! Why the toolstack cannot do what it was asked: one line that names the cause and the key, file or device.

use alloc::string::String;
use core::fmt;

use dom0_core::config::ConfigError;
use dom0_core::domain::DomainError;
use dom0_core::image::ImageError;
use dom0_core::plan::PlanError;
use dom0_core::pool::PoolError;
use hypercall_abi::control::{MAX_WEIGHT, PlatformInfo};
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;

use crate::disks::FileError;
use crate::hal::RingError;

/// Why something cannot be done.
#[derive(Debug)]
pub enum Error {
    /// The configuration is wrong.
    Config(ConfigError),
    /// The configuration file cannot be read.
    ConfigFile(String, FileError),
    /// A file that a key names cannot be read.
    File(&'static str, String, FileError),
    /// The kernel is none that can be started.
    Kernel(String, ImageError),
    /// It does not fit the memory, or the partial device tree is wrong.
    Plan(PlanError),
    /// The register refuses: a name that is taken, a domain that does not exist.
    Register(DomainError),
    /// The machine has too little free memory: MiB wanted and MiB free.
    Memory(u64, u64),
    /// More vCPUs than a domain of this machine can have.
    Vcpus(u32, PlatformInfo),
    /// The microkernel refuses: what was tried, and its answer.
    Hypervisor(&'static str, XenError),
    /// The store refuses: what was tried, and its answer.
    Store(&'static str, xenstore::Error),
    /// A console cannot be opened.
    Console(RingError),
    /// A back end could not open what its device stands for: the key, the device and the reason.
    Device(&'static str, String, String),
    /// The domain does not exist any more.
    Gone(DomId),
    /// A CPU pool does not allow it, or a vCPU could run nowhere.
    Pool(PoolError),
    /// A weight that there is not.
    Weight(u32),
    /// A cap that there is not, and the most that there is for this domain.
    Cap(u32, u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(error) => error.fmt(f),
            Error::ConfigFile(path, error) => write!(f, "{path}: {error}"),
            Error::File(key, path, error) => write!(f, "key '{key}': '{path}': {error}"),
            Error::Kernel(path, error) => write!(f, "key 'kernel': '{path}': {error}"),
            Error::Plan(error) => error.fmt(f),
            Error::Register(error) => error.fmt(f),
            Error::Memory(wanted, free) => {
                write!(f, "key 'memory': the domain needs {wanted} MiB and the machine has {free} MiB free")
            }
            Error::Vcpus(wanted, PlatformInfo { max_vcpus, gic_version, .. }) => {
                write!(
                    f,
                    "key 'vcpus': {wanted} are too many: with this machine's GICv{gic_version} it is {max_vcpus} at most"
                )
            }
            Error::Hypervisor(what, error) => write!(f, "{what}: the hypervisor answers {error}"),
            Error::Store(what, error) => write!(f, "{what}: xenstore answers {}", error.wire_name()),
            Error::Console(error) => write!(f, "console: {error}"),
            Error::Device(key, device, reason) => write!(f, "key '{key}': {device}: {reason}"),
            Error::Pool(error) => error.fmt(f),
            Error::Weight(weight) => write!(f, "weight {weight} is not between 1 and {MAX_WEIGHT}"),
            Error::Cap(cap, most) => write!(f, "cap {cap} is not between 0 and {most}, 100 for each vCPU"),
            Error::Gone(domid) => write!(f, "domain {domid} does not exist"),
        }
    }
}

impl core::error::Error for Error {}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Error::Config(error)
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        Error::Plan(error)
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        Error::Pool(error)
    }
}

impl From<DomainError> for Error {
    fn from(error: DomainError) -> Self {
        Error::Register(error)
    }
}
