//! From the FDT to the machine: RAM and what is taken of it, pCPUs, the GIC, boot modules, and Dom0's devices.

use dtoolkit::fdt::Fdt;
use heapless::{String, Vec};
use kernel_core::addr::Pa;
use kernel_core::exit::{TIMER_PPI, VTIMER_PPI};
use kernel_core::hw::{IntId, MAX_PCPUS};
use kernel_core::machine::{Machine, Range};

use super::cells::{Cells, pairs, take};
use super::error::{Fault, FdtError};
use super::walk::Place;

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
    gic: Option<u64>,
    psci: bool,
}

impl Discovered {
    /// Whether an interrupt is edge-triggered.
    pub fn is_edge(&self, intid: usize) -> bool {
        self.edges.get(intid / 32).is_some_and(|word| word >> (intid % 32) & 1 == 1)
    }
}

fn parse(blob: &[u8]) -> Result<Fdt<'_>, FdtError> {
    Fdt::new(blob).map_err(|error| FdtError::new("(file)", "structure", Fault::Broken(error)))
}

/// Finds the PL011 that `/chosen/stdout-path` names, or else the first one. Errors elsewhere in the tree are left
/// for [`discover`], which can tell about them then.
pub fn console(blob: &[u8]) -> Option<Pa> {
    let fdt = parse(blob).ok()?;
    let root = Place::root(fdt);
    let (mut stdout, mut aliases) = (None, None);
    let _ = root.walk(&mut |place| {
        match place.path.as_str() {
            "/chosen" => stdout = place.text("stdout-path").and_then(|path| path.split(':').next()),
            "/aliases" => aliases = Some(place.node),
            _ => {}
        }
        Ok(false)
    });
    let alias = aliases.and_then(|node| {
        use dtoolkit::{Node, Property};
        node.property(stdout?)?.value_as::<&str>().ok()
    });
    let wanted = alias.or(stdout);
    let (mut named, mut first) = (None, None);
    let _ = root.walk(&mut |place| {
        if place.is_compatible("arm,pl011") || place.is_compatible("arm,sbsa-uart") {
            let at = place.first_range()?.map(|range| range.start);
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
    let root = Place::root(parse(blob)?);
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
    for (address, size) in reservations(blob) {
        found.reserve(&root, "memory reservation block", Range { start: Pa::new(address), size })?;
    }
    found.reserve(&root, "image", image)?;
    found.reserve(&root, "fdt", at)?;
    Ok(found)
}

/// The memory reservation block, whose form `Fdt::new` has checked.
fn reservations(blob: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    const OFF_MEM_RSVMAP: usize = 16;
    let offset = blob.get(OFF_MEM_RSVMAP..).and_then(|bytes| take(bytes, 1)).map_or(0, |(offset, _)| offset);
    let block = usize::try_from(offset).ok().and_then(|offset| blob.get(offset..)).unwrap_or(&[]);
    pairs(block, Cells { address: 2, size: 2 }).map_while(|pair| pair.filter(|pair| *pair != (0, 0)))
}

impl Discovered {
    fn reserve(&mut self, place: &Place<'_>, field: &'static str, range: Range) -> Result<(), FdtError> {
        self.machine.reserved.push(range.to_pages()).map_err(|_| place.error(field, Fault::TooMany))
    }

    /// Nodes that describe the machine itself; `true` to go on below.
    fn machine_node(&mut self, place: &Place<'_>) -> Result<bool, FdtError> {
        if place.depth == 1 && (place.name() == "memory" || place.text("device_type") == Some("memory")) {
            place.ranges(|range| self.bank(place, range))?;
            return Ok(false);
        }
        if place.is_compatible("arm,gic-v3") {
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
            path if path.starts_with("/cpus/") && place.name() == "cpu" => self.cpu(place)?,
            path if path.starts_with("/reserved-memory/") => {
                return place
                    .ranges(|range| {
                        self.firmware.push(range).map_err(|_| place.error("reg", Fault::TooMany))?;
                        self.reserve(place, "reg", range)
                    })
                    .map(|()| false);
            }
            _ if place.is_compatible("multiboot,module") => self.module(place)?,
            _ if place.is_compatible("arm,armv8-timer") => timers(place)?,
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
        let reg = place.bytes("reg").ok_or_else(|| place.error("reg", Fault::Missing))?;
        let (mpidr, _) = take(reg, place.cells.address).ok_or_else(|| place.error("reg", Fault::Malformed))?;
        if self.cpus.push(mpidr).is_err() {
            self.unused_cpus += 1;
        }
        Ok(())
    }

    fn gic(&mut self, place: &Place<'_>) -> Result<(), FdtError> {
        let handle = place.bytes("phandle").and_then(|bytes| take(bytes, 1)).map(|(value, _)| value);
        self.gic = Some(handle.ok_or_else(|| place.error("phandle", Fault::Missing))?);
        let regions = match place.bytes("#redistributor-regions").and_then(|bytes| take(bytes, 1)) {
            Some((count, _)) => count,
            None => 1,
        };
        let mut n = 0;
        place.ranges(|range| {
            match n {
                0 => self.machine.gicd = range,
                n if n <= regions => {
                    self.redistributors.push(range).map_err(|_| place.error("reg", Fault::TooMany))?;
                }
                _ => {}
            }
            n += 1;
            Ok(())
        })?;
        self.machine.gicr = *self.redistributors.first().ok_or_else(|| place.error("reg", Fault::Missing))?;
        Ok(())
    }

    /// A boot module: `reg` in the cells of `/chosen`, or, as QEMU's guest-loader writes it, two and two.
    fn module(&mut self, place: &Place<'_>) -> Result<(), FdtError> {
        let reg = place.bytes("reg").ok_or_else(|| place.error("reg", Fault::Missing))?;
        let cells = match reg.len() {
            16 => Cells { address: 2, size: 2 },
            12 => Cells { address: 2, size: 1 },
            8 => Cells { address: 1, size: 1 },
            _ => return Err(place.error("reg", Fault::Malformed)),
        };
        let Some(Some((start, size))) = pairs(reg, cells).next() else {
            return Err(place.error("reg", Fault::Malformed));
        };
        if size == 0 || start.checked_add(size).is_none() {
            return Err(place.error("reg", Fault::Malformed));
        }
        let range = Range { start: Pa::new(start), size };
        self.reserve(place, "reg", range)?;
        if place.is_compatible("multiboot,kernel") {
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
            && (matches!(
                place.name(),
                "memory" | "cpus" | "chosen" | "psci" | "reserved-memory" | "timer" | "aliases"
            ) || place.text("device_type") == Some("memory"));
        if is_machine || place.is_compatible("arm,gic-v3") {
            return Ok(false);
        }
        place.ranges(|range| self.device(place, "reg", range))?;
        if place.text("device_type") == Some("pci") {
            for window in place.windows()? {
                self.device(place, "ranges", window)?;
            }
            self.interrupt_map(place)?;
            return Ok(false);
        }
        if place.interrupt_parent == self.gic {
            self.interrupts(place, place.bytes("interrupts").unwrap_or(&[]))?;
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

    /// `interrupts` of the GIC's binding: kind (0 is shared), number, flags.
    fn interrupts(&mut self, place: &Place<'_>, mut rest: &[u8]) -> Result<(), FdtError> {
        let broken = || place.error("interrupts", Fault::Malformed);
        while !rest.is_empty() {
            let (kind, tail) = take(rest, 1).ok_or_else(broken)?;
            let (number, tail) = take(tail, 1).ok_or_else(broken)?;
            let (flags, tail) = take(tail, 1).ok_or_else(broken)?;
            rest = tail;
            if kind == 0 {
                self.shared_interrupt(place, number, flags)?;
            }
        }
        Ok(())
    }

    fn shared_interrupt(&mut self, place: &Place<'_>, number: u64, flags: u64) -> Result<(), FdtError> {
        const EDGES: u64 = 3;
        let broken = || place.error("interrupts", Fault::Malformed);
        let intid = u32::try_from(number).ok().filter(|n| *n < 988).ok_or_else(broken)? + 32;
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
        let Some(map) = place.bytes("interrupt-map") else { return Ok(()) };
        // The GIC's own #address-cells are 2 where it has frames for MSIs below it, and 0 or absent elsewhere.
        for unit in [2, 0, 1] {
            let entry = (3 + 1 + 1 + unit + 3) * 4;
            let is_whole = map.len().is_multiple_of(entry);
            let handles =
                || map.chunks_exact(entry).map(|e| e.get(16..).and_then(|tail| take(tail, 1)).map(|(h, _)| h));
            if !is_whole || handles().any(|handle| handle != self.gic) {
                continue;
            }
            for chunk in map.chunks_exact(entry) {
                self.interrupts(place, chunk.get((5 + unit) * 4..).unwrap_or(&[]))?;
            }
            return Ok(());
        }
        Err(place.error("interrupt-map", Fault::Unsupported))
    }

    /// What must be there.
    fn check(&self) -> Result<(), FdtError> {
        let missing = |path, field| Err(FdtError::new(path, field, Fault::Missing));
        if self.machine.ram.is_empty() {
            return missing("/memory", "reg");
        }
        if self.gic.is_none() {
            return missing("/", "interrupt controller (arm,gic-v3)");
        }
        if self.cpus.is_empty() {
            return missing("/cpus", "cpu");
        }
        if self.cpus.len() > 1 && !self.psci {
            return missing("/psci", "method");
        }
        if self.machine.dom0_image.size == 0 {
            return missing("/chosen", "module (multiboot,kernel)");
        }
        Ok(())
    }
}

/// The timer's interrupts: secure, physical, virtual, hypervisor. The last two must be where the core expects them,
/// which is where the base system architecture puts them (Arm BSA, section 3.8).
fn timers(place: &Place<'_>) -> Result<(), FdtError> {
    let Some(bytes) = place.bytes("interrupts") else { return Err(place.error("interrupts", Fault::Missing)) };
    let number = |n: usize| bytes.get(n * 12 + 4..).and_then(|cells| take(cells, 1)).map(|(number, _)| number + 16);
    let expected = [VTIMER_PPI, TIMER_PPI].map(|ppi| Some(u64::from(ppi.0)));
    if [number(2), number(3)] == expected { Ok(()) } else { Err(place.error("interrupts", Fault::Unsupported)) }
}

/// A string property, which may be absent.
fn copied(place: &Place<'_>, field: &'static str) -> Result<String<256>, FdtError> {
    if place.bytes(field).is_none() {
        return Ok(String::new());
    }
    let text = place.text(field).ok_or_else(|| place.error(field, Fault::Malformed))?;
    String::try_from(text).map_err(|_| place.error(field, Fault::TooLong))
}
