//! From the FDT to the machine: RAM and what is taken of it, pCPUs, the GIC, boot modules, and Dom0's devices.

use dtoolkit::standard::NodeStandard;
use dtoolkit::{Cells, Node, Property};
use heapless::{String, Vec};
use kernel_core::addr::Pa;
use kernel_core::exit::{TIMER_PPI, VTIMER_PPI};
use kernel_core::hw::{IntId, MAX_PCPUS};
use kernel_core::machine::{Machine, Range};

use super::error::{Fault, FdtError};
use super::parse;
use super::walk::{Place, is_memory, number};

/// The machine, and what only the boot code needs to know of it.
#[derive(Debug)]
pub struct Discovered {
    /// For the core.
    pub machine: Machine,
    /// Affinities of the pCPUs, at most [`MAX_PCPUS`].
    pub cpus: Vec<u64, MAX_PCPUS>,
    /// pCPUs that are left off since there are more.
    pub unused_cpus: usize,
    /// Regions of redistributors.
    pub redistributors: Vec<Range, 8>,
    /// RAM that firmware keeps; not even mapped.
    pub firmware: Vec<Range, 16>,
    /// A bit for each interrupt that is edge-triggered.
    edges: [u32; 32],
    gic: Option<u32>,
    psci: bool,
}

impl Discovered {
    /// Whether an interrupt is edge-triggered.
    pub fn is_edge(&self, intid: usize) -> bool {
        self.edges.get(intid / 32).is_some_and(|word| word >> (intid % 32) & 1 == 1)
    }
}

/// Finds the PL011 that `/chosen/stdout-path` names, or else the first one. Errors elsewhere in the tree are left
/// for [`discover`], which can tell about them then.
pub fn console(blob: &[u8]) -> Option<Pa> {
    let fdt = parse(blob).ok()?;
    let text = |path: &str, name: &str| fdt.find_node(path)?.property(name)?.value_as::<&str>().ok();
    let stdout = text("/chosen", "stdout-path").and_then(|path| path.split(':').next());
    let wanted = stdout.and_then(|alias| text("/aliases", alias)).or(stdout);
    let (mut named, mut first) = (None, None);
    let _ = Place::root(fdt).walk(&mut |place| {
        if ["arm,pl011", "arm,sbsa-uart"].iter().any(|name| place.node.is_compatible(name)) {
            let at = place.ranges()?.next().transpose()?.map(|range| range.start);
            first = first.or(at);
            if wanted == Some(place.path.as_str()) {
                named = at;
            }
        }
        Ok(true)
    });
    named.or(first)
}

/// Reads the whole FDT, which lies at `at`; `image` is where we are.
pub fn discover(blob: &[u8], at: Range, image: Range) -> Result<Discovered, FdtError> {
    let fdt = parse(blob)?;
    let root = Place::root(fdt);
    let none = Range { start: Pa::new(0), size: 0 };
    let mut found = Discovered {
        machine: Machine {
            ram: Vec::new(),
            reserved: Vec::new(),
            image,
            dom0_image: none,
            dom0_args: String::new(),
            cmdline: String::new(),
            fdt: at,
            devices: Vec::new(),
            interrupts: Vec::new(),
            gicd: none,
            gicr: none,
        },
        cpus: Vec::new(),
        unused_cpus: 0,
        redistributors: Vec::new(),
        firmware: Vec::new(),
        edges: [0; 32],
        gic: None,
        psci: false,
    };
    root.walk(&mut |place| found.machine_node(place))?;
    found.check()?;
    root.walk(&mut |place| found.device_node(place))?;
    for entry in fdt.memory_reservations() {
        let range = Range { start: Pa::new(entry.address()), size: entry.size() };
        found.reserve(&root, "memory reservation block", range)?;
    }
    found.reserve(&root, "image", image)?;
    found.reserve(&root, "fdt", at)?;
    Ok(found)
}

impl Discovered {
    fn reserve(&mut self, place: &Place<'_>, field: &'static str, range: Range) -> Result<(), FdtError> {
        self.machine.reserved.push(range.to_pages()).map_err(|_| place.error(field, Fault::TooMany))
    }

    /// Nodes that describe the machine itself; `true` to go on below.
    fn machine_node(&mut self, place: &Place<'_>) -> Result<bool, FdtError> {
        if place.depth == 1 && is_memory(&place.node) {
            for range in place.ranges()? {
                self.bank(place, range?)?;
            }
            return Ok(false);
        }
        if place.node.is_compatible("arm,gic-v3") {
            self.gic(place)?;
            return Ok(false);
        }
        match place.path.as_str() {
            "/cpus" | "/reserved-memory" => return Ok(true),
            "/chosen" => {
                self.machine.cmdline = copied(place, "xen,xen-bootargs")?;
                if self.machine.cmdline.is_empty() {
                    self.machine.cmdline = copied(place, "bootargs")?;
                }
                return Ok(true);
            }
            "/psci" => match place.text("method") {
                Some("smc") => self.psci = true,
                Some(_) => return Err(place.error("method", Fault::Unsupported)),
                None => return Err(place.error("method", Fault::Missing)),
            },
            path if path.starts_with("/cpus/") && place.node.name_without_address() == "cpu" => self.cpu(place)?,
            path if path.starts_with("/reserved-memory/") => {
                for range in place.ranges()? {
                    let range = range?;
                    self.firmware.push(range).map_err(|_| place.error("reg", Fault::TooMany))?;
                    self.reserve(place, "reg", range)?;
                }
                return Ok(false);
            }
            _ if place.node.is_compatible("multiboot,module") => self.module(place)?,
            _ if place.node.is_compatible("arm,armv8-timer") => timers(place)?,
            _ => {}
        }
        // The GIC may lie on a bus.
        Ok(place.depth < 4)
    }

    fn bank(&mut self, place: &Place<'_>, range: Range) -> Result<(), FdtError> {
        let first = range.start.raw().next_multiple_of(kernel_core::addr::PAGE_SIZE);
        let end = range.end().page();
        if range.size == 0 || end.raw() <= first {
            return Ok(());
        }
        let bank = Range { start: Pa::new(first), size: end.raw() - first };
        if self.machine.ram.iter().any(|other| other.overlaps(bank)) {
            return Err(place.error("reg", Fault::Malformed));
        }
        self.machine.ram.push(bank).map_err(|_| place.error("reg", Fault::TooMany))?;
        self.machine.ram.sort_unstable_by_key(|bank| bank.start);
        Ok(())
    }

    fn cpu(&mut self, place: &Place<'_>) -> Result<(), FdtError> {
        place.required("reg")?;
        let reg = place.node.reg().ok().flatten().and_then(|mut reg| reg.next());
        let mpidr = number(reg.ok_or_else(|| place.error("reg", Fault::Malformed))?.address);
        if self.cpus.push(mpidr).is_err() {
            self.unused_cpus += 1;
        }
        Ok(())
    }

    fn gic(&mut self, place: &Place<'_>) -> Result<(), FdtError> {
        self.gic = Some(place.cell("phandle").ok_or_else(|| place.error("phandle", Fault::Missing))?);
        let regions = place.cell("#redistributor-regions").unwrap_or(1);
        let mut ranges = place.ranges()?;
        let missing = || place.error("reg", Fault::Missing);
        self.machine.gicd = ranges.next().transpose()?.ok_or_else(missing)?;
        for range in ranges.take(regions as usize) {
            self.redistributors.push(range?).map_err(|_| place.error("reg", Fault::TooMany))?;
        }
        self.machine.gicr = *self.redistributors.first().ok_or_else(missing)?;
        Ok(())
    }

    /// A boot module: `reg` in the cells of `/chosen`, or, as QEMU's guest-loader writes it, two and two.
    fn module(&mut self, place: &Place<'_>) -> Result<(), FdtError> {
        let reg = place.required("reg")?;
        let malformed = || place.error("reg", Fault::Malformed);
        let cells = match reg.value().len() {
            16 => [2, 2],
            12 => [2, 1],
            8 => [1, 1],
            _ => return Err(malformed()),
        };
        let mut entries = reg.as_prop_encoded_array(cells).map_err(|_| malformed())?;
        let [start, size] = entries.next().ok_or_else(malformed)?.map(number);
        if size == 0 || start.checked_add(size).is_none() {
            return Err(malformed());
        }
        let range = Range { start: Pa::new(start), size };
        self.reserve(place, "reg", range)?;
        if place.node.is_compatible("multiboot,kernel") {
            if self.machine.dom0_image.size != 0 {
                return Err(place.error("compatible", Fault::TooMany));
            }
            self.machine.dom0_image = range;
            self.machine.dom0_args = copied(place, "bootargs")?;
        }
        Ok(())
    }

    /// Nodes of devices, all of which go to Dom0; `true` to go on below.
    fn device_node(&mut self, place: &Place<'_>) -> Result<bool, FdtError> {
        let is_machine = place.depth == 1
            && (is_memory(&place.node)
                || ["cpus", "chosen", "psci", "reserved-memory", "timer", "aliases"]
                    .contains(&place.node.name_without_address()));
        if is_machine || place.node.is_compatible("arm,gic-v3") {
            return Ok(false);
        }
        for range in place.ranges()? {
            self.device(place, "reg", range?)?;
        }
        if place.text("device_type") == Some("pci") {
            for window in place.windows()? {
                self.device(place, "ranges", window)?;
            }
            self.interrupt_map(place)?;
            return Ok(false);
        }
        if place.interrupt_parent == self.gic
            && let Some(interrupts) = place.node.property("interrupts")
        {
            let entries = interrupts.as_prop_encoded_array([1; 3]);
            for entry in entries.map_err(|_| place.error("interrupts", Fault::Malformed))? {
                self.interrupt(place, entry)?;
            }
        }
        Ok(true)
    }

    /// Adds pages to Dom0's devices; joins ranges that touch, since many devices share a page or a row of pages.
    fn device(&mut self, place: &Place<'_>, field: &'static str, range: Range) -> Result<(), FdtError> {
        let mut pages = range.to_pages();
        if pages.end() < pages.start {
            return Err(place.error(field, Fault::Malformed));
        }
        let is_ram = self.machine.ram.iter().any(|bank| bank.overlaps(pages));
        if pages.size == 0 || is_ram || self.machine.gicd.overlaps(pages) || self.machine.gicr.overlaps(pages) {
            return Ok(());
        }
        let devices = &mut self.machine.devices;
        while let Some(n) = devices.iter().position(|d| d.start <= pages.end() && pages.start <= d.end()) {
            let other = devices.swap_remove(n);
            let (start, end) = (other.start.min(pages.start), other.end().max(pages.end()));
            pages = Range { start, size: end.raw() - start.raw() };
        }
        devices.push(pages).map_err(|_| place.error(field, Fault::TooMany))
    }

    /// An interrupt in the GIC's binding: kind (0 is shared), number, flags.
    fn interrupt(&mut self, place: &Place<'_>, entry: [Cells<'_>; 3]) -> Result<(), FdtError> {
        const EDGES: u64 = 3;
        let [kind, number, flags] = entry.map(number);
        if kind != 0 {
            return Ok(());
        }
        let intid = u32::try_from(number).ok().filter(|n| *n < 988);
        let intid = intid.ok_or_else(|| place.error("interrupts", Fault::Malformed))? + 32;
        if flags & EDGES != 0
            && let Some(word) = self.edges.get_mut(intid as usize / 32)
        {
            *word |= 1 << (intid % 32);
        }
        let interrupts = &mut self.machine.interrupts;
        if interrupts.contains(&IntId(intid)) {
            return Ok(());
        }
        interrupts.push(IntId(intid)).map_err(|_| place.error("interrupts", Fault::TooMany))
    }

    /// `interrupt-map` of a PCI host: unit address (3 cells), pin (1), handle, the GIC's unit address, interrupt (3).
    /// Entries for other controllers end the search, since their length is not known here.
    fn interrupt_map(&mut self, place: &Place<'_>) -> Result<(), FdtError> {
        let Some(map) = place.node.property("interrupt-map") else { return Ok(()) };
        // The GIC's own #address-cells are 2 where it has frames for MSIs below it, and 0 or absent elsewhere.
        for unit in [2, 0, 1] {
            let entries = || map.as_prop_encoded_array([3, 1, 1, unit, 1, 1, 1]);
            let gic = self.gic.map(u64::from);
            if entries().is_ok_and(|mut entries| entries.all(|[_, _, handle, ..]| Some(number(handle)) == gic)) {
                for [.., kind, number, flags] in entries().into_iter().flatten() {
                    self.interrupt(place, [kind, number, flags])?;
                }
                return Ok(());
            }
        }
        Err(place.error("interrupt-map", Fault::Unsupported))
    }

    /// What must be there.
    fn check(&self) -> Result<(), FdtError> {
        let has_psci = self.psci || self.cpus.len() <= 1;
        let required = [
            (!self.machine.ram.is_empty(), "/memory", "reg"),
            (self.gic.is_some(), "/", "interrupt controller (arm,gic-v3)"),
            (!self.cpus.is_empty(), "/cpus", "cpu"),
            (has_psci, "/psci", "method"),
            (self.machine.dom0_image.size != 0, "/chosen", "module (multiboot,kernel)"),
        ];
        match required.iter().find(|(is_there, ..)| !is_there) {
            Some((_, path, field)) => Err(FdtError::new(path, field, Fault::Missing)),
            None => Ok(()),
        }
    }
}

/// The timer's interrupts: secure, physical, virtual, hypervisor. The last two must be where the core expects them,
/// which is where the base system architecture puts them (Arm BSA, section 3.8).
fn timers(place: &Place<'_>) -> Result<(), FdtError> {
    let unsupported = || place.error("interrupts", Fault::Unsupported);
    let interrupts = place.required("interrupts")?;
    let entries = interrupts.as_prop_encoded_array([1; 3]).map_err(|_| unsupported())?;
    let mut numbers = entries.skip(2).map(|[_, ppi, _]| number(ppi) + 16);
    let expected = [VTIMER_PPI, TIMER_PPI].map(|ppi| Some(u64::from(ppi.0)));
    if [numbers.next(), numbers.next()] == expected { Ok(()) } else { Err(unsupported()) }
}

/// A string property, which may be absent.
fn copied(place: &Place<'_>, field: &'static str) -> Result<String<256>, FdtError> {
    let Some(property) = place.node.property(field) else { return Ok(String::new()) };
    let text: &str = property.value_as().map_err(|_| place.error(field, Fault::Malformed))?;
    String::try_from(text).map_err(|_| place.error(field, Fault::TooLong))
}
