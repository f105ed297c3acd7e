//! A guest's memory plan: from configuration and kernel head to addresses and a finished device tree.

use alloc::vec::Vec;
use core::fmt;

use crate::config::{DomainConfig, Vuart};
use crate::fdt::{GuestTree, PartialError};
use crate::image::Kernel;
use crate::layout::{self, GicVersion, Layout, LayoutError};

/// Everything that is written into a guest besides kernel and initrd, and where all of it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where everything lies.
    pub layout: Layout,
    /// The device tree, for [`Layout::dtb`].
    pub dtb: Vec<u8>,
}

/// Why a guest cannot be built as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// It does not fit.
    Layout(LayoutError),
    /// Its partial device tree is at fault.
    DeviceTree(PartialError),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(error) => error.fmt(f),
            Self::DeviceTree(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PlanError {}

/// Plans a guest. `rng_seed` are random bytes for its kernel, `partial` the contents of its `device_tree` file.
///
/// # Errors
/// A kernel that does not fit, or a bad partial device tree.
pub fn plan(
    config: &DomainConfig,
    kernel: &Kernel,
    initrd_size: Option<u64>,
    gic: GicVersion,
    rng_seed: &[u8],
    partial: Option<&[u8]>,
) -> Result<Plan, PlanError> {
    let tree = |layout: &Layout| {
        let tree = GuestTree {
            layout,
            max_vcpus: config.max_vcpus,
            gic,
            cmdline: &config.cmdline,
            vuart: config.vuart == Vuart::Sbsa,
            rng_seed,
            partial,
        };
        tree.build().map_err(PlanError::DeviceTree)
    };
    let place =
        |dtb_size| layout::place(config.memory_mib, kernel.region, initrd_size, dtb_size).map_err(PlanError::Layout);
    // The tree holds addresses that depend on its own size; but its size does not depend on them.
    let size = tree(&place(1)?)?.len() as u64;
    let layout = place(size)?;
    let dtb = tree(&layout)?;
    Ok(Plan { layout, dtb })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Ipa, Region};
    use crate::image::Format;
    use crate::layout::RAM0_BASE;

    fn kernel(size: u64) -> Kernel {
        let region = Region::new(RAM0_BASE, size).unwrap();
        Kernel { format: Format::Image, region, entry: Ipa::new(0x4000_0000), verbatim: None }
    }

    fn config(extra: &str) -> DomainConfig {
        let text = format!("name='a'\nkernel='/k'\n{extra}");
        DomainConfig::parse("a.cfg", &text, &[]).unwrap()
    }

    #[test]
    fn the_device_tree_fills_exactly_its_place() {
        let plan =
            plan(&config("memory=64\nvcpus=4"), &kernel(1 << 20), Some(5000), GicVersion::V3, &[7; 64], None).unwrap();
        assert_eq!(plan.dtb.len() as u64, plan.layout.dtb.size());
    }

    #[test]
    fn a_kernel_that_does_not_fit_is_blamed_on_memory() {
        let error = plan(&config("memory=16"), &kernel(40 << 20), None, GicVersion::V3, &[], None).unwrap_err();
        assert!(error.to_string().starts_with("key 'memory': 16 MiB is too little"), "{error}");
    }
}
