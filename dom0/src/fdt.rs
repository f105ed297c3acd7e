//! The devices in the device tree that Dom0 drives.

use alloc::vec::Vec;

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

/// The registers of the real-time clock, if the machine has one.
pub fn rtc(fdt: &'static [u8]) -> Option<IpaRange> {
    let fdt = Fdt::new(fdt).ok()?;
    let node = fdt.root().children().find(|node| node.is_compatible("arm,pl031"))?;
    reg(node).next()
}

/// The slots of virtio-mmio, in the order of their addresses: registers and interrupt.
pub fn virtio_slots(fdt: &'static [u8]) -> Vec<(IpaRange, u32)> {
    let Ok(fdt) = Fdt::new(fdt) else { return Vec::new() };
    let nodes = fdt.root().children().filter(|node| node.is_compatible("virtio,mmio"));
    let mut slots: Vec<_> = nodes.filter_map(|node| Some((reg(node).next()?, interrupt(node)?))).collect();
    slots.sort_by_key(|(range, _)| range.start());
    slots
}
