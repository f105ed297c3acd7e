//! Dom0's FDT: a copy of the host's with Dom0's own RAM and command line, and a node that says where it runs.

use dtoolkit::fdt::FdtNode;
use dtoolkit::standard::{AddressSpaceProperties, NodeStandard};
use dtoolkit::{Node, Property};
use heapless::{String, Vec};
use kernel_core::machine::Range;

use super::error::{Fault, FdtError};
use super::parse;
use super::walk::{MAX_DEPTH, is_memory};

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
/// First word of the file (Devicetree 0.4, section 5.2).
pub const MAGIC: u32 = 0xd00d_feed;
/// Tokens of the structure block (section 5.4).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const END: u32 = 9;
/// Names of the properties that we write, which follow the host's in the strings block.
const NAMES: &str = "bootargs\0compatible\0device_type\0interrupts\0reg\0";

/// Writes Dom0's version of the `host`'s FDT to the start of `room`.
pub fn for_dom0(host: &[u8], room: &mut [u8], view: &Dom0View<'_>) -> Result<(), FdtError> {
    let fdt = parse(host)?;
    let header = |at: usize| {
        let word = host.get(at..).and_then(|bytes| bytes.first_chunk());
        word.map_or(0, |word| u32::from_be_bytes(*word) as usize)
    };
    // Where the strings block is, and how long.
    let strings = host.get(header(12)..).and_then(|block| block.get(..header(32))).unwrap_or(&[]);
    let mut writer = Writer { room, at: HEADER_SIZE, strings, view };
    for reservation in fdt.memory_reservations() {
        writer.bytes(&reservation.address().to_be_bytes())?;
        writer.bytes(&reservation.size().to_be_bytes())?;
    }
    writer.bytes(&[0; 16])?;
    let structure_at = writer.at;
    writer.node(fdt.root(), 0)?;
    writer.word(END)?;
    let strings_at = writer.at;
    writer.bytes(strings)?;
    writer.bytes(NAMES.as_bytes())?;
    let total = writer.at;
    writer.at = 0;
    // Version 17, which readers of version 16 understand; the boot pCPU is number 0.
    let sizes = [total - strings_at, strings_at - structure_at];
    for field in [MAGIC as usize, total, structure_at, strings_at, HEADER_SIZE, 17, 16, 0].into_iter().chain(sizes) {
        writer.word(u32::try_from(field).map_err(|_| too_long())?)?;
    }
    Ok(())
}

const HEADER_SIZE: usize = 40;

fn too_long() -> FdtError {
    FdtError::new("(file)", "total size", Fault::TooLong)
}

struct Writer<'a> {
    room: &'a mut [u8],
    at: usize,
    /// The host's names of properties.
    strings: &'a [u8],
    view: &'a Dom0View<'a>,
}

impl Writer<'_> {
    // Once in the image instead of in each of its callers.
    #[inline(never)]
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), FdtError> {
        let end = self.at + bytes.len();
        self.room.get_mut(self.at..end).ok_or_else(too_long)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    fn word(&mut self, word: u32) -> Result<(), FdtError> {
        self.bytes(&word.to_be_bytes())
    }

    /// Fills up to a whole word.
    fn pad(&mut self) -> Result<(), FdtError> {
        let missing = self.at.next_multiple_of(4) - self.at;
        self.bytes([0; 3].get(..missing).unwrap_or(&[]))
    }

    fn begin(&mut self, name: &str) -> Result<(), FdtError> {
        self.word(BEGIN_NODE)?;
        self.bytes(name.as_bytes())?;
        self.bytes(&[0])?;
        self.pad()
    }

    /// A property whose name lies at `name` in the strings block.
    fn property(&mut self, name: usize, value: &[u8]) -> Result<(), FdtError> {
        self.word(PROPERTY)?;
        self.word(u32::try_from(value.len()).map_err(|_| too_long())?)?;
        self.word(u32::try_from(name).map_err(|_| too_long())?)?;
        self.bytes(value)?;
        self.pad()
    }

    /// Where one of [`NAMES`] will lie.
    fn own(&self, name: &str) -> usize {
        self.strings.len() + NAMES.find(name).unwrap_or(0)
    }

    /// A `reg` of one range in the root's cells.
    fn reg(&mut self, cells: AddressSpaceProperties, range: Range) -> Result<(), FdtError> {
        let mut value = Vec::<u8, 16>::new();
        for (count, number) in [(cells.address_cells, range.start.raw()), (cells.size_cells, range.size)] {
            let bytes = number.to_be_bytes();
            let kept = match (count, u32::try_from(number)) {
                (2, _) => &bytes[..],
                (1, Ok(_)) => &bytes[4..],
                _ => return Err(FdtError::new("/", "#address-cells", Fault::Unsupported)),
            };
            // There is room for two numbers of eight bytes.
            let _ = value.extend_from_slice(kept);
        }
        self.property(self.own("reg"), &value)
    }

    /// A node of the host and all below it, but for what Dom0 has of its own.
    fn node(&mut self, node: FdtNode<'_>, depth: usize) -> Result<(), FdtError> {
        if depth > MAX_DEPTH {
            return Err(FdtError::new(node.name(), "depth", Fault::TooMany));
        }
        self.begin(node.name())?;
        let is_chosen = depth == 1 && node.name() == "chosen";
        for property in node.properties().filter(|property| !is_chosen || property.name() != "bootargs") {
            // The name lies in the strings block, and its place is its number.
            let name = (property.name().as_ptr() as usize).wrapping_sub(self.strings.as_ptr() as usize);
            self.property(name, property.value())?;
        }
        if is_chosen {
            let mut arguments = String::<257>::new();
            let text = arguments.push_str(self.view.arguments).and_then(|()| arguments.push('\0'));
            text.map_err(|_| FdtError::new("/chosen", "bootargs", Fault::TooLong))?;
            self.property(self.own("bootargs"), arguments.as_bytes())?;
        }
        if depth == 0 {
            self.dom0(node.address_space())?;
        }
        for child in node.children().filter(|child| depth > 0 || !is_memory(child)) {
            self.node(child, depth + 1)?;
        }
        self.word(END_NODE)
    }

    /// The nodes that are Dom0's own.
    fn dom0(&mut self, cells: AddressSpaceProperties) -> Result<(), FdtError> {
        self.begin("memory")?;
        self.property(self.own("device_type"), b"memory\0")?;
        self.reg(cells, self.view.ram)?;
        self.word(END_NODE)?;
        self.begin("hypervisor")?;
        self.property(self.own("compatible"), b"xen,xen-4.17\0xen,xen\0")?;
        self.reg(cells, self.view.grants)?;
        self.property(self.own("interrupts"), UPCALL.map(u32::to_be_bytes).as_flattened())?;
        self.word(END_NODE)
    }
}
