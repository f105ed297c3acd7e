//! Debian's Xen, booted in the same machine as Xenolith, with a Debian Linux as Dom0.

use std::path::PathBuf;

use crate::config::{Config, Module};

/// The prompt of Dom0's shell on Xen.
pub const PROMPT: &str = "dom0# ";

/// What Xen is booted from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Xen itself, an arm64 `Image`.
    pub hypervisor: PathBuf,
    /// Dom0's kernel.
    pub kernel: PathBuf,
    /// Dom0's initial file system.
    pub archive: PathBuf,
}

impl Peer {
    /// The machine it runs on: Dom0 gets 1 GiB, the rest is for guests.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.hypervisor.clone());
        config.smp = 1;
        config.mem = "4G".to_owned();
        config.cmdline = "dom0_mem=1024M dom0_max_vcpus=1 console=dtuart".to_owned();
        config.modules.push(Module::Kernel(self.kernel.clone(), "console=hvc0 rdinit=/init quiet".to_owned()));
        config.modules.push(Module::Ramdisk(self.archive.clone()));
        config
    }
}
