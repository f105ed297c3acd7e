//! A node of the FDT with its ancestors: what they say about it, and where it is when something is wrong with it.

use core::fmt;

use crate::addr::Pa;
use crate::machine::Range;
use dtoolkit::fdt::{Fdt, FdtNode, FdtProperty};
use dtoolkit::standard::Reg;
use dtoolkit::{Cells, Node, Property};
use heapless::String;

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
pub struct Place<'p, 'a> {
    /// The node.
    pub node: FdtNode<'a>,
    parent: Option<&'p Place<'p, 'a>>,
}

/// The value of a number, of which the last two cells count.
pub fn number(cells: Cells<'_>) -> u64 {
    cells.as_ref().iter().fold(0, |value, cell| value << 32 | u64::from(cell.get()))
}

impl<'a> Place<'_, 'a> {
    /// The root node.
    pub fn root(fdt: Fdt<'a>) -> Self {
        Place { node: fdt.root(), parent: None }
    }

    /// Name of the parent if that is the root (whose name is empty) or just below it.
    pub fn parent_name(&self) -> Option<&'a str> {
        self.parent.filter(|parent| parent.depth() <= 1).map(|parent| parent.node.name())
    }

    fn depth(&self) -> usize {
        self.parent.map_or(0, |parent| parent.depth() + 1)
    }

    /// Its path, as far as there is room.
    pub fn path(&self) -> String<64> {
        let mut path = self.parent.filter(|parent| parent.depth() > 0).map_or(String::new(), Place::path);
        let _ = path.push('/').and_then(|()| path.push_str(self.node.name()));
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
        let entries = self.node.reg().map_err(|_| self.error("reg", "malformed"))?;
        let physical = |reg: Reg<'_>| self.to_physical(number(reg.address), number(reg.size)).transpose();
        Ok(entries.into_iter().flatten().filter_map(physical))
    }

    /// Where the bus that this node is on has `size` bytes from `address`; `None` if it does not let them through.
    fn to_physical(&self, address: u64, size: u64) -> Result<Option<Range>, FdtError> {
        if address.checked_add(size).is_none() {
            return Err(self.error("reg", "malformed"));
        }
        let Some(bus) = self.parent.filter(|bus| bus.parent.is_some()) else {
            return Ok(Some(Range { start: Pa::new(address), size }));
        };
        // Without `ranges` nothing of the bus can be reached; with empty ones it is one with its parent.
        let Some(ranges) = bus.node.property("ranges") else { return Ok(None) };
        if ranges.value().is_empty() {
            return bus.to_physical(address, size);
        }
        let windows = bus.node.ranges().map_err(|_| bus.error("ranges", "malformed"))?;
        for window in windows.into_iter().flatten() {
            let [child, above, length] =
                [window.child_bus_address, window.parent_bus_address, window.length].map(number);
            let offset = address.wrapping_sub(child);
            if address >= child && offset <= length && size <= length - offset {
                return bus.to_physical(above.saturating_add(offset), size);
            }
        }
        Ok(None)
    }

    /// Calls `visit` with every node below this one that is not disabled.
    pub fn walk(&self, visit: &mut dyn FnMut(&Place<'_, 'a>) -> Result<(), FdtError>) -> Result<(), FdtError> {
        if self.depth() >= MAX_DEPTH {
            return Err(self.error("depth", "too many entries"));
        }
        for field in ["#address-cells", "#size-cells"] {
            if self.cell(field).is_some_and(|count| count > 3) {
                return Err(self.error(field, "malformed"));
            }
        }
        for node in self.node.children() {
            let place = Place { node, parent: Some(self) };
            if place.text("status")?.is_none_or(|status| ["okay", "ok"].contains(&status)) {
                visit(&place)?;
                place.walk(visit)?;
            }
        }
        Ok(())
    }
}
