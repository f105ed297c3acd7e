//! Reading devices out of the device tree, as far as the runtime and Dom0 need it.

use dtoolkit::fdt::FdtNode;
use dtoolkit::{Node, Property};

use crate::addr::{Ipa, IpaRange};

/// The ranges of a node's `reg`, as far as they make sense.
pub fn reg(node: FdtNode<'static>) -> impl Iterator<Item = IpaRange> {
    node.reg().ok().flatten().into_iter().flatten().filter_map(|reg| {
        let (address, size) = (reg.address::<u64>().ok()?, reg.size::<u64>().ok()?);
        IpaRange::new(Ipa::new(address), size)
    })
}

/// The number of a node's first interrupt, from the three cells of the GIC's binding (Linux,
/// Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml).
#[must_use]
pub fn interrupt(node: FdtNode<'static>) -> Option<u32> {
    let cells: &[u8] = node.property("interrupts")?.value_as().ok()?;
    let cell = |n: usize| Some(u32::from_be_bytes(*cells.get(n * 4..)?.first_chunk()?));
    match (cell(0)?, cell(1)?) {
        (0, spi) => spi.checked_add(32),
        (1, ppi) if ppi < 16 => Some(ppi + 16),
        _ => None,
    }
}
