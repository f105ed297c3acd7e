//! A walk over all nodes that are in use, which keeps account of paths, buses and interrupt parents.

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use heapless::{String, Vec};
use kernel_core::addr::Pa;
use kernel_core::machine::Range;

use super::cells::{Cells, pairs, take};
use super::error::{Fault, FdtError};

/// Deeper trees are refused: the walk is recursive, and its stack is not.
const MAX_DEPTH: usize = 12;
/// Windows of all buses above a node.
const MAX_WINDOWS: usize = 16;

/// A part of a bus's addresses that its parent sees.
#[derive(Clone, Copy, Debug)]
struct Window {
    child: u64,
    parent: u64,
    size: u64,
}

/// How the addresses of a bus become physical ones: where its windows put them.
type Windows = Vec<Window, MAX_WINDOWS>;

/// Everything, at its own address.
const IDENTITY: Window = Window { child: 0, parent: 0, size: u64::MAX };

/// A node and what its ancestors say about it.
pub struct Place<'a> {
    /// The node.
    pub node: FdtNode<'a>,
    /// Its path.
    pub path: String<128>,
    /// Number of ancestors.
    pub depth: usize,
    /// Cells of its own `reg`.
    pub cells: Cells,
    /// Handle of the interrupt controller that its `interrupts` go to.
    pub interrupt_parent: Option<u64>,
    /// Those of the bus that it is on.
    bus: Windows,
}

impl<'a> Place<'a> {
    /// The root node.
    pub fn root(fdt: Fdt<'a>) -> Self {
        let node = fdt.root();
        let mut bus = Windows::new();
        // There is room for one.
        let _ = bus.push(IDENTITY);
        Place {
            node,
            path: String::new(),
            depth: 0,
            cells: Cells { address: 2, size: 1 },
            interrupt_parent: number(&node, "interrupt-parent"),
            bus,
        }
    }

    /// An error about one of its properties.
    pub fn error(&self, field: &'static str, fault: Fault) -> FdtError {
        FdtError::new(if self.path.is_empty() { "/" } else { &self.path }, field, fault)
    }

    /// A property's bytes.
    pub fn bytes(&self, name: &str) -> Option<&'a [u8]> {
        bytes(&self.node, name)
    }

    /// A property as a string; `None` if it is missing or no string.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        core::str::from_utf8(self.bytes(name)?.strip_suffix(&[0])?).ok()
    }

    /// Whether a string is in the node's `compatible` list.
    pub fn is_compatible(&self, with: &str) -> bool {
        self.bytes("compatible").is_some_and(|list| list.split(|byte| *byte == 0).any(|name| name == with.as_bytes()))
    }

    /// The node's name up to the `@`.
    pub fn name(&self) -> &'a str {
        self.node.name().split('@').next().unwrap_or("")
    }

    /// The cells that this node's children use.
    pub fn child_cells(&self) -> Result<Cells, FdtError> {
        let of = |field: &'static str, default: u64| match number(&self.node, field).unwrap_or(default) {
            count @ 0..=3 => usize::try_from(count).map_err(|_| self.error(field, Fault::Malformed)),
            _ => Err(self.error(field, Fault::Malformed)),
        };
        Ok(Cells { address: of("#address-cells", 2)?, size: of("#size-cells", 1)? })
    }

    /// Calls `f` with each physical range of the node's `reg` that its buses let through.
    pub fn ranges(&self, mut f: impl FnMut(Range) -> Result<(), FdtError>) -> Result<(), FdtError> {
        for pair in pairs(self.bytes("reg").unwrap_or(&[]), self.cells) {
            let (address, size) = pair.ok_or_else(|| self.error("reg", Fault::Malformed))?;
            if let Some(start) = self.translate(address, size)? {
                f(Range { start: Pa::new(start), size })?;
            }
        }
        Ok(())
    }

    /// The `reg` entries as ranges.
    pub fn first_range(&self) -> Result<Option<Range>, FdtError> {
        let mut first = None;
        self.ranges(|range| {
            first.get_or_insert(range);
            Ok(())
        })?;
        Ok(first)
    }

    fn translate(&self, address: u64, size: u64) -> Result<Option<u64>, FdtError> {
        let end = address.checked_add(size).ok_or_else(|| self.error("reg", Fault::Malformed))?;
        let window = self.bus.iter().find(|w| w.child <= address && end - w.child <= w.size);
        Ok(window.map(|w| w.parent.wrapping_add(address - w.child)))
    }

    /// The physical ranges behind this bus's windows (`ranges`); none if it is one with its parent.
    pub fn windows(&self) -> Result<impl Iterator<Item = Range>, FdtError> {
        let windows = if self.bytes("ranges").is_some_and(|bytes| !bytes.is_empty()) {
            self.child_bus()?
        } else {
            Windows::new()
        };
        Ok(windows.into_iter().map(|window| Range { start: Pa::new(window.parent), size: window.size }))
    }

    /// The windows of the bus below this node. Without `ranges` nothing of it can be reached.
    fn child_bus(&self) -> Result<Windows, FdtError> {
        if self.depth == 0 {
            return Ok(self.bus.clone());
        }
        let Some(mut rest) = self.bytes("ranges") else { return Ok(Windows::new()) };
        if rest.is_empty() {
            return Ok(self.bus.clone());
        }
        let cells = self.child_cells()?;
        let mut windows = Windows::new();
        let broken = || self.error("ranges", Fault::Malformed);
        while !rest.is_empty() {
            let (child, tail) = take(rest, cells.address).ok_or_else(broken)?;
            let (parent, tail) = take(tail, self.cells.address).ok_or_else(broken)?;
            let (size, tail) = take(tail, cells.size).ok_or_else(broken)?;
            if tail.len() == rest.len() {
                return Err(broken());
            }
            if let Some(parent) = self.translate(parent, size)? {
                let window = Window { child, parent, size };
                windows.push(window).map_err(|_| self.error("ranges", Fault::TooMany))?;
            }
            rest = tail;
        }
        Ok(windows)
    }

    /// Calls `visit` with every node below this one that is not disabled; `visit` says whether to go on below it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Place<'a>) -> Result<bool, FdtError>) -> Result<(), FdtError> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error("depth", Fault::TooMany));
        }
        let cells = self.child_cells()?;
        let bus = self.child_bus()?;
        for node in self.node.children() {
            let mut path = self.path.clone();
            path.push('/')
                .and_then(|()| path.push_str(node.name()))
                .map_err(|_| self.error("name of a child", Fault::TooLong))?;
            let place = Place {
                node,
                path,
                depth: self.depth + 1,
                cells,
                interrupt_parent: number(&node, "interrupt-parent").or(self.interrupt_parent),
                bus: bus.clone(),
            };
            let in_use = place.text("status").is_none_or(|status| status == "okay" || status == "ok");
            if in_use && visit(&place)? {
                place.walk(visit)?;
            }
        }
        Ok(())
    }
}

fn bytes<'a>(node: &FdtNode<'a>, name: &str) -> Option<&'a [u8]> {
    node.property(name)?.value_as::<&'a [u8]>().ok()
}

/// A property of one cell.
fn number(node: &FdtNode<'_>, name: &str) -> Option<u64> {
    bytes(node, name).filter(|bytes| bytes.len() == 4).and_then(|bytes| take(bytes, 1)).map(|(value, _)| value)
}
