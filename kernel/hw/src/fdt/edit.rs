//! Dom0's FDT: the host's, with less RAM, Dom0's own command line, and a node that says where it runs.

use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};
use heapless::Vec;
use kernel_core::machine::Range;

use super::blob::Blob;
use super::cells::Cells;
use super::error::{Fault, FdtError};
use super::walk::Place;

/// What Dom0 is told that the host's FDT does not say.
pub struct Dom0View<'a> {
    /// Its RAM.
    pub ram: Range,
    /// Its command line.
    pub arguments: &'a str,
    /// Empty IPA space for its grant table and other shared pages.
    pub grants: Range,
}

/// Interrupt specifier of the event upcall: PPI 31, as Xen writes it (docs/misc/arm/device-tree/guest.txt).
const UPCALL: [u32; 3] = [1, 15, 0xf08];
/// Tokens of the structure block (Devicetree 0.4, section 5.4).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;

/// Turns the host's FDT at the start of `room` into Dom0's.
pub fn for_dom0(room: &mut [u8], view: &Dom0View<'_>) -> Result<(), FdtError> {
    let mut blob = Blob::new(room)?;
    restrict_memory(blob.bytes_mut(), view.ram)?;
    set_arguments(&mut blob, view.arguments)?;
    add_hypervisor(&mut blob, view.grants)
}

fn parse(bytes: &[u8]) -> Result<Fdt<'_>, FdtError> {
    Fdt::new(bytes).map_err(|error| FdtError::new("(file)", "structure", Fault::Broken(error)))
}

/// Where `part`, a piece of `whole`, starts in it.
fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize)
}

/// Cuts the `/memory` nodes in `bytes` down to `ram`, in place: the first entry becomes `ram`, all others empty.
fn restrict_memory(bytes: &mut [u8], ram: Range) -> Result<(), FdtError> {
    let mut entries: Vec<(usize, usize, Cells), 16> = Vec::new();
    Place::root(parse(bytes)?).walk(&mut |place| {
        let is_memory = place.name() == "memory" || place.text("device_type") == Some("memory");
        if let (true, Some(reg)) = (is_memory, place.bytes("reg")) {
            let entry = (offset_in(bytes, reg), reg.len(), place.cells);
            entries.push(entry).map_err(|_| place.error("reg", Fault::TooMany))?;
        }
        Ok(false)
    })?;
    let mut value = Some((ram.start.raw(), ram.size));
    for (offset, length, cells) in entries {
        let mut rest = bytes.get_mut(offset..offset + length).unwrap_or_default();
        while !rest.is_empty() {
            let (address, size) = value.take().unwrap_or_default();
            let broken = || FdtError::new("/memory", "reg", Fault::Malformed);
            rest = put(rest, cells.address, address).and_then(|tail| put(tail, cells.size, size)).ok_or_else(broken)?;
            if cells.address + cells.size == 0 {
                return Err(broken());
            }
        }
    }
    Ok(())
}

/// Makes `/chosen/bootargs` Dom0's: the host's is for us.
fn set_arguments(blob: &mut Blob<'_>, arguments: &str) -> Result<(), FdtError> {
    let missing = || FdtError::new("/chosen", "bootargs", Fault::Missing);
    let name = blob.name("bootargs")?;
    let fdt = parse(blob.bytes())?;
    let chosen = fdt.find_node("/chosen").ok_or_else(missing)?;
    let old = chosen.property("bootargs").or_else(|| chosen.properties().next()).ok_or_else(missing)?;
    let value: &[u8] = old.value_as().map_err(|_| missing())?;
    // A property is a token, a length, a name, and the value in whole cells.
    let at = offset_in(blob.bytes(), value) - 12;
    let replaced = if old.name() == "bootargs" { 12 + value.len().next_multiple_of(4) } else { 0 };
    let mut new = Vec::new();
    property(&mut new, name, arguments.as_bytes(), &[0])?;
    blob.replace_structure(at, replaced, &new)
}

/// Adds `/hypervisor` in front of the root's other children.
fn add_hypervisor(blob: &mut Blob<'_>, grants: Range) -> Result<(), FdtError> {
    let compatible = blob.name("compatible")?;
    let reg = blob.name("reg")?;
    let interrupts = blob.name("interrupts")?;
    let fdt = parse(blob.bytes())?;
    let root = Place::root(fdt);
    let cells = root.child_cells()?;
    let first = root.node.children().next().ok_or_else(|| root.error("children", Fault::Missing))?;
    let at = offset_in(blob.bytes(), first.name().as_bytes()) - 4;
    let mut range = [0; 24];
    let length = (cells.address + cells.size) * 4;
    let written =
        put(&mut range, cells.address, grants.start.raw()).and_then(|tail| put(tail, cells.size, grants.size));
    written.ok_or_else(|| root.error("#address-cells", Fault::Unsupported))?;
    let mut node = Vec::new();
    push(&mut node, &BEGIN_NODE.to_be_bytes())?;
    push(&mut node, b"hypervisor\0\0")?;
    property(&mut node, compatible, b"xen,xen-4.17\0xen,xen", &[0])?;
    property(&mut node, reg, range.get(..length).unwrap_or(&[]), &[])?;
    property(&mut node, interrupts, UPCALL.map(u32::to_be_bytes).as_flattened(), &[])?;
    push(&mut node, &END_NODE.to_be_bytes())?;
    blob.replace_structure(at, 0, &node)
}

/// Room for one node of ours, command line included.
type Piece = Vec<u8, 512>;

fn push(piece: &mut Piece, bytes: &[u8]) -> Result<(), FdtError> {
    piece.extend_from_slice(bytes).map_err(|_| FdtError::new("/hypervisor", "structure", Fault::TooLong))
}

/// Appends a property whose value is `head` and `tail`.
fn property(piece: &mut Piece, name: u32, head: &[u8], tail: &[u8]) -> Result<(), FdtError> {
    let length = head.len() + tail.len();
    push(piece, &PROPERTY.to_be_bytes())?;
    push(piece, &u32::try_from(length).unwrap_or(0).to_be_bytes())?;
    push(piece, &name.to_be_bytes())?;
    push(piece, head)?;
    push(piece, tail)?;
    push(piece, [0; 3].get(..length.next_multiple_of(4) - length).unwrap_or(&[]))
}

/// Writes `value` into `count` cells; `None` if it does not fit in them.
fn put(bytes: &mut [u8], count: usize, value: u64) -> Option<&mut [u8]> {
    let (number, rest) = bytes.split_at_mut_checked(count * 4)?;
    let wide = (u128::from(value)).to_be_bytes();
    let (dropped, kept) = wide.split_at_checked(wide.len().checked_sub(number.len())?)?;
    if dropped.iter().any(|byte| *byte != 0) {
        return None;
    }
    number.copy_from_slice(kept);
    Some(rest)
}
