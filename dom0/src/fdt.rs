//! Reading the machine's devices out of the device tree.

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use pv_guest_lib::addr::{Ipa, IpaRange};

/// The ranges of a node's `reg`, as far as they make sense.
pub fn reg(node: FdtNode<'static>) -> impl Iterator<Item = IpaRange> {
    node.reg().ok().flatten().into_iter().flatten().filter_map(|reg| {
        let (address, size) = (reg.address::<u64>().ok()?, reg.size::<u64>().ok()?);
        IpaRange::new(Ipa::new(address), size)
    })
}

/// The number of a node's first interrupt, from the three cells of the GIC's binding (Linux,
/// Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml).
pub fn interrupt(node: FdtNode<'static>) -> Option<u32> {
    let cells: &[u8] = node.property("interrupts")?.value_as().ok()?;
    let cell = |n: usize| Some(u32::from_be_bytes(*cells.get(n * 4..)?.first_chunk()?));
    match cell(0)? {
        0 => cell(1)?.checked_add(32),
        1 => cell(1)?.checked_add(16),
        _ => None,
    }
}

/// The UART that the machine has: registers and interrupt.
pub fn uart(fdt: &'static [u8]) -> Option<(IpaRange, u32)> {
    let fdt = Fdt::new(fdt).ok()?;
    let node = fdt.root().children().find(|node| node.is_compatible("arm,pl011"))?;
    Some((reg(node).next()?, interrupt(node)?))
}
