//! A walk over all nodes that are in use, which keeps account of paths, buses and interrupt parents.

use dtoolkit::fdt::{Fdt, FdtNode, FdtProperty};
use dtoolkit::standard::Reg;
use dtoolkit::{Cells, Node, Property};
use heapless::{String, Vec};
use kernel_core::addr::Pa;
use kernel_core::machine::Range;

use super::error::{Fault, FdtError};

/// Deeper trees are refused: the walk is recursive, and its stack is not.
pub const MAX_DEPTH: usize = 12;

/// A part of a bus's addresses that its parent sees.
#[derive(Clone, Copy, Debug)]
struct Window {
    child: u64,
    parent: u64,
    size: u64,
}

/// How the addresses of a bus become physical ones: where its windows put them.
type Windows = Vec<Window, 16>;

/// A node and what its ancestors say about it.
pub struct Place<'a> {
    /// The node.
    pub node: FdtNode<'a>,
    /// Its path.
    pub path: String<128>,
    /// Number of ancestors.
    pub depth: usize,
    /// Handle of the interrupt controller that its `interrupts` go to.
    pub interrupt_parent: Option<u32>,
    /// The windows of the bus that it is on.
    bus: Windows,
}

/// The value of a number, of which the last two cells count.
pub fn number(cells: Cells<'_>) -> u64 {
    cells.as_ref().iter().fold(0, |value, cell| value << 32 | u64::from(cell.get()))
}

/// A property of one cell.
fn cell(node: &FdtNode<'_>, name: &str) -> Option<u32> {
    node.property(name)?.value_as().ok()
}

/// Whether a child of the root is RAM.
pub fn is_memory(node: &FdtNode<'_>) -> bool {
    let is_typed = |property: FdtProperty<'_>| property.value_as::<&str>() == Ok("memory");
    node.name_without_address() == "memory" || node.property("device_type").is_some_and(is_typed)
}

impl<'a> Place<'a> {
    /// The root node.
    pub fn root(fdt: Fdt<'a>) -> Self {
        let node = fdt.root();
        let all = Window { child: 0, parent: 0, size: u64::MAX };
        let interrupt_parent = cell(&node, "interrupt-parent");
        Place { node, path: String::new(), depth: 0, interrupt_parent, bus: Windows::from_iter([all]) }
    }

    /// An error about one of its properties.
    pub fn error(&self, field: &'static str, fault: Fault) -> FdtError {
        FdtError::new(if self.path.is_empty() { "/" } else { &self.path }, field, fault)
    }

    /// A property that must be there.
    pub fn required(&self, name: &'static str) -> Result<FdtProperty<'a>, FdtError> {
        self.node.property(name).ok_or_else(|| self.error(name, Fault::Missing))
    }

    /// A property of one cell.
    pub fn cell(&self, name: &str) -> Option<u32> {
        cell(&self.node, name)
    }

    /// A property as a string; `None` if it is missing or no string.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.node.property(name)?.value_as().ok()
    }

    /// The physical ranges of the node's `reg` that its buses let through.
    pub fn ranges(&self) -> Result<impl Iterator<Item = Result<Range, FdtError>>, FdtError> {
        let entries = self.node.reg().map_err(|_| self.error("reg", Fault::Malformed))?;
        let translate = |entry: Reg<'_>| self.translate(number(entry.address), number(entry.size)).transpose();
        Ok(entries.into_iter().flatten().filter_map(translate))
    }

    fn translate(&self, address: u64, size: u64) -> Result<Option<Range>, FdtError> {
        let end = address.checked_add(size).ok_or_else(|| self.error("reg", Fault::Malformed))?;
        let window = self.bus.iter().find(|w| w.child <= address && end - w.child <= w.size);
        Ok(window.map(|w| Range { start: Pa::new(w.parent.wrapping_add(address - w.child)), size }))
    }

    /// The physical ranges behind this bus's windows (`ranges`); none if it is one with its parent.
    pub fn windows(&self) -> Result<impl Iterator<Item = Range>, FdtError> {
        let has_own = self.node.property("ranges").is_some_and(|ranges| !ranges.value().is_empty());
        let windows = if has_own { self.child_bus()? } else { Windows::new() };
        Ok(windows.into_iter().map(|window| Range { start: Pa::new(window.parent), size: window.size }))
    }

    /// The windows of the bus below this node. Without `ranges` nothing of it can be reached.
    fn child_bus(&self) -> Result<Windows, FdtError> {
        for field in ["#address-cells", "#size-cells"] {
            if self.cell(field).is_some_and(|count| count > 3) {
                return Err(self.error(field, Fault::Malformed));
            }
        }
        if self.depth == 0 || self.node.property("ranges").is_some_and(|ranges| ranges.value().is_empty()) {
            return Ok(self.bus.clone());
        }
        let entries = self.node.ranges().map_err(|_| self.error("ranges", Fault::Malformed))?;
        let mut windows = Windows::new();
        for entry in entries.into_iter().flatten() {
            let (child, size) = (number(entry.child_bus_address), number(entry.length));
            if let Some(parent) = self.translate(number(entry.parent_bus_address), size)? {
                let window = Window { child, parent: parent.start.raw(), size };
                windows.push(window).map_err(|_| self.error("ranges", Fault::TooMany))?;
            }
        }
        Ok(windows)
    }

    /// Calls `visit` with every node below this one that is not disabled; `visit` says whether to go on below it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Place<'a>) -> Result<bool, FdtError>) -> Result<(), FdtError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error("depth", Fault::TooMany));
        }
        let bus = self.child_bus()?;
        for node in self.node.children() {
            let mut path = self.path.clone();
            path.push('/')
                .and_then(|()| path.push_str(node.name()))
                .map_err(|_| self.error("name of a child", Fault::TooLong))?;
            let interrupt_parent = cell(&node, "interrupt-parent").or(self.interrupt_parent);
            let place = Place { node, path, depth: self.depth + 1, interrupt_parent, bus: bus.clone() };
            let in_use = place.text("status").is_none_or(|status| status == "okay" || status == "ok");
            if in_use && visit(&place)? {
                place.walk(visit)?;
            }
        }
        Ok(())
    }
}
