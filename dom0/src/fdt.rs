//! The UART in the device tree.

use dtoolkit::Node;
use dtoolkit::fdt::Fdt;
use dtoolkit::standard::NodeStandard;
use pv_guest_lib::addr::IpaRange;
use pv_guest_lib::fdt::{interrupt, reg};

/// The UART that the machine has: registers and interrupt.
pub fn uart(fdt: &'static [u8]) -> Option<(IpaRange, u32)> {
    let fdt = Fdt::new(fdt).ok()?;
    let node = fdt.root().children().find(|node| node.is_compatible("arm,pl011"))?;
    Some((reg(node).next()?, interrupt(node)?))
}
