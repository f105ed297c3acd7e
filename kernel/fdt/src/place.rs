//! A node of the FDT with its ancestors: what they say about it, and where it is when something is wrong with it.

use core::fmt;

use dtoolkit::fdt::{Fdt, FdtNode, FdtProperty};
use dtoolkit::{Cells, Node, Property};
use heapless::{String, Vec};
use kernel_core::addr::Pa;
use kernel_core::machine::Range;

/// Deeper trees are refused: the walk is recursive, and its stack is not.
const MAX_DEPTH: usize = 12;

/// What is wrong with an FDT, and where.
#[derive(Debug)]
pub struct FdtError {
    /// The path of a node, cut where it gets long.
    path: String<64>,
    /// The property, or the part of the file.
    field: &'static str,
    fault: &'static str,
}

impl FdtError {
    /// An error at `path`.
    pub fn new(path: &str, field: &'static str, fault: &'static str) -> Self {
        FdtError { path: String::try_from(path).unwrap_or_default(), field, fault }
    }
}

impl fmt::Display for FdtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FDT: {}: {}: {}", self.path, self.field, self.fault)
    }
}

/// A node and its ancestors.
pub struct Place<'a> {
    /// The node.
    pub node: FdtNode<'a>,
    /// The root first.
    above: Vec<FdtNode<'a>, MAX_DEPTH>,
}

/// The value of a number, of which the last two cells count.
pub fn number(cells: Cells<'_>) -> u64 {
    cells.as_ref().iter().fold(0, |value, cell| value << 32 | u64::from(cell.get()))
}

impl<'a> Place<'a> {
    /// The root node.
    pub fn root(fdt: Fdt<'a>) -> Self {
        Place { node: fdt.root(), above: Vec::new() }
    }

    /// Name of the parent; that of the root is empty.
    pub fn parent_name(&self) -> Option<&'a str> {
        self.above.last().map(|parent| parent.name())
    }

    /// Its path, as far as there is room.
    pub fn path(&self) -> String<64> {
        let mut path = String::new();
        for node in self.above.iter().skip(1).chain([&self.node]) {
            let _ = path.push('/').and_then(|()| path.push_str(node.name()));
        }
        path
    }

    /// An error about one of its properties.
    pub fn error(&self, field: &'static str, fault: &'static str) -> FdtError {
        FdtError { path: self.path(), field, fault }
    }

    /// A property that must be there.
    pub fn required(&self, name: &'static str) -> Result<FdtProperty<'a>, FdtError> {
        self.node.property(name).ok_or_else(|| self.error(name, "missing"))
    }

    /// A property of one cell.
    pub fn cell(&self, name: &str) -> Option<u32> {
        self.node.property(name)?.value_as().ok()
    }

    /// A property as a string; `None` if it is missing.
    pub fn text(&self, name: &'static str) -> Result<Option<&'a str>, FdtError> {
        self.node.property(name).map(|text| text.value_as()).transpose().map_err(|_| self.error(name, "malformed"))
    }

    /// The physical ranges of the node's `reg` that its buses let through.
    pub fn ranges(&self) -> Result<impl Iterator<Item = Result<Range, FdtError>>, FdtError> {
        let entries = self.node.reg().map_err(|_| self.error("reg", "malformed"))?.into_iter().flatten();
        Ok(entries.filter_map(|reg| self.to_physical(number(reg.address), number(reg.size)).transpose()))
    }

    /// Where the bus that this node is on has `size` bytes from `address`; `None` if it does not let them through.
    fn to_physical(&self, mut address: u64, size: u64) -> Result<Option<Range>, FdtError> {
        for bus in self.above.iter().skip(1).rev() {
            // Without `ranges` nothing of the bus can be reached; with empty ones it is one with its parent.
            let Some(ranges) = bus.property("ranges") else { return Ok(None) };
            if ranges.value().is_empty() {
                continue;
            }
            let mut windows = bus.ranges().map_err(|_| self.error("ranges above", "malformed"))?.into_iter().flatten();
            let above = windows.find_map(|window| {
                let offset = address.checked_sub(number(window.child_bus_address))?;
                let left = number(window.length).checked_sub(offset)?;
                (size <= left).then(|| number(window.parent_bus_address).saturating_add(offset))
            });
            let Some(above) = above else { return Ok(None) };
            address = above;
        }
        address.checked_add(size).ok_or_else(|| self.error("reg", "malformed"))?;
        Ok(Some(Range { start: Pa::new(address), size }))
    }

    /// Calls `visit` with every node below this one that is not disabled.
    pub fn walk(&mut self, visit: &mut dyn FnMut(&Place<'a>) -> Result<(), FdtError>) -> Result<(), FdtError> {
        for field in ["#address-cells", "#size-cells"] {
            if self.cell(field).is_some_and(|count| count > 3) {
                return Err(self.error(field, "malformed"));
            }
        }
        let node = self.node;
        self.above.push(node).map_err(|_| self.error("depth", "too many entries"))?;
        for child in node.children() {
            self.node = child;
            if self.text("status")?.is_none_or(|status| ["okay", "ok"].contains(&status)) {
                visit(self)?;
                self.walk(visit)?;
            }
        }
        self.above.pop();
        self.node = node;
        Ok(())
    }
}
