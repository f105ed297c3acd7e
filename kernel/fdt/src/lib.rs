//! The boot FDT, the only text that EL2 parses: RAM and what is taken of it, pCPUs, the GIC, the console, boot modules.
//!
//! It comes from firmware and boot loader, who could do anything to us anyway; still a malformed one must end in an
//! error that names the node and the field, not in a panic. Devices are Dom0's business, which gets the FDT as it is.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod place;
#[cfg(test)]
mod tests;

use dtoolkit::fdt::Fdt;
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use kernel_core::addr::{PAGE_SIZE, Pa};
use kernel_core::exit::{TIMER_PPI, VTIMER_PPI};
use kernel_core::machine::{Gicv2, Machine, Range};

pub use place::FdtError;
use place::{Place, number};

/// Finds the PL011 that `/chosen/stdout-path` names, or else the first one. Errors elsewhere in the tree are left
/// for [`discover`], which can tell about them then.
pub fn console(blob: &[u8]) -> Option<Pa> {
    let fdt = Fdt::new(blob).ok()?;
    let text = |path: &str, name: &str| fdt.find_node(path)?.property(name)?.value_as::<&str>().ok();
    let stdout = text("/chosen", "stdout-path").and_then(|path| path.split(':').next());
    let wanted = stdout.and_then(|alias| text("/aliases", alias)).or(stdout);
    let (mut named, mut first) = (None, None);
    let _ = Place::root(fdt).walk(&mut |place| {
        if ["arm,pl011", "arm,sbsa-uart"].iter().any(|name| place.node.is_compatible(name)) {
            let at = place.ranges()?.next().transpose()?.map(|range| range.start);
            first = first.or(at);
            if wanted == Some(place.path().as_str()) {
                named = at;
            }
        }
        Ok(())
    });
    named.or(first)
}

/// Reads the whole FDT, which lies at `at`; `image` is where we are.
pub fn discover(blob: &'static [u8], at: Range, image: Range) -> Result<Machine, FdtError> {
    let fdt = Fdt::new(blob).map_err(|_| FdtError::new("(file)", "structure", "malformed"))?;
    let mut root = Place::root(fdt);
    let mut found = Machine { image, fdt: at, ..Machine::default() };
    root.walk(&mut |place| node(&mut found, place))?;
    for entry in fdt.memory_reservations() {
        let range = Range { start: Pa::new(entry.address()), size: entry.size() };
        reserve(&mut found, &root, "memory reservation block", range)?;
    }
    reserve(&mut found, &root, "image", image)?;
    reserve(&mut found, &root, "fdt", at)?;
    let required = [
        (!found.ram.is_empty(), "/memory", "reg"),
        (!found.gicr.is_empty() || found.gicv2.is_some(), "/", "interrupt controller (arm,gic-v3 or arm,gic-400)"),
        (!found.cpus.is_empty(), "/cpus", "cpu"),
        (fdt.find_node("/psci").is_some() || found.cpus.len() <= 1, "/psci", "method"),
        (found.dom0_image.size != 0, "/chosen", "module (multiboot,kernel)"),
    ];
    match required.iter().find(|(is_there, ..)| !is_there) {
        Some((_, path, field)) => Err(FdtError::new(path, field, "missing")),
        None => Ok(found),
    }
}

/// Notes what a node says about the machine.
fn node(found: &mut Machine, place: &Place<'static>) -> Result<(), FdtError> {
    let kind = place.node.name_without_address();
    match place.parent_name() {
        Some("") if kind == "memory" || place.text("device_type")? == Some("memory") => {
            place.ranges()?.try_for_each(|range| bank(found, place, range?))
        }
        Some("") if kind == "chosen" => {
            let ours = place.text("xen,xen-bootargs")?.filter(|text| !text.is_empty());
            found.cmdline = ours.or(place.text("bootargs")?).unwrap_or("");
            Ok(())
        }
        Some("") if kind == "psci" && place.required("method")?.value() != b"smc\0" => {
            Err(place.error("method", "not supported"))
        }
        Some("cpus") if kind == "cpu" => cpu(found, place),
        Some("reserved-memory") => place.ranges()?.try_for_each(|range| reserve(found, place, "reg", range?)),
        _ if place.node.is_compatible("multiboot,module") => module(found, place),
        _ if place.node.is_compatible("arm,armv8-timer") => timers(place),
        _ if place.node.is_compatible("arm,gic-v3") => gic(found, place),
        _ if ["arm,gic-400", "arm,cortex-a15-gic"].iter().any(|name| place.node.is_compatible(name)) => {
            gicv2(found, place)
        }
        _ => Ok(()),
    }
}

fn reserve(found: &mut Machine, place: &Place<'_>, field: &'static str, range: Range) -> Result<(), FdtError> {
    found.reserved.push(range.to_pages()).map_err(|_| place.error(field, "too many entries"))
}

fn bank(found: &mut Machine, place: &Place<'_>, range: Range) -> Result<(), FdtError> {
    let malformed = || place.error("reg", "malformed");
    let first = range.start.raw().checked_next_multiple_of(PAGE_SIZE).ok_or_else(malformed)?;
    let end = range.end().page().raw();
    if end <= first {
        return Ok(());
    }
    let bank = Range { start: Pa::new(first), size: end - first };
    if found.ram.iter().any(|other| other.overlaps(bank)) {
        return Err(malformed());
    }
    found.ram.push(bank).map_err(|_| place.error("reg", "too many entries"))?;
    found.ram.sort_unstable_by_key(|bank| bank.start);
    Ok(())
}

fn cpu(found: &mut Machine, place: &Place<'_>) -> Result<(), FdtError> {
    let reg = place.node.reg().ok().flatten().and_then(|mut reg| reg.next());
    let mpidr = number(reg.ok_or_else(|| place.error("reg", "malformed"))?.address);
    if found.cpus.push(mpidr).is_err() {
        found.unused_cpus += 1;
    }
    Ok(())
}

fn gic(found: &mut Machine, place: &Place<'_>) -> Result<(), FdtError> {
    let regions = place.cell("#redistributor-regions").unwrap_or(1);
    let mut ranges = place.ranges()?;
    found.gicd = ranges.next().transpose()?.ok_or_else(|| place.error("reg", "missing"))?;
    for range in ranges.take(regions as usize) {
        found.gicr.push(range?).map_err(|_| place.error("reg", "too many entries"))?;
    }
    if found.gicr.is_empty() { Err(place.error("reg", "missing")) } else { Ok(()) }
}

fn gicv2(found: &mut Machine, place: &Place<'_>) -> Result<(), FdtError> {
    let mut ranges = place.ranges()?;
    // One without the last two cannot be shared with guests.
    let mut part = || ranges.next().transpose()?.ok_or_else(|| place.error("reg", "missing"));
    found.gicd = part()?;
    found.gicv2 = Some(Gicv2 { cpu: part()?, hypervisor: part()?, guest: part()? });
    Ok(())
}

/// A boot module: `reg` in the cells of `/chosen`, or, as QEMU's guest-loader writes it, two and two.
fn module(found: &mut Machine, place: &Place<'_>) -> Result<(), FdtError> {
    let reg = place.required("reg")?;
    let malformed = || place.error("reg", "malformed");
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
    reserve(found, place, "reg", range)?;
    if place.node.is_compatible("multiboot,kernel") {
        if found.dom0_image.size != 0 {
            return Err(place.error("compatible", "too many entries"));
        }
        found.dom0_image = range;
    }
    Ok(())
}

/// The timer's interrupts: secure, physical, virtual, hypervisor. The last two must be where the core expects them,
/// which is where the base system architecture puts them (Arm BSA, section 3.8).
fn timers(place: &Place<'_>) -> Result<(), FdtError> {
    let unsupported = || place.error("interrupts", "not supported");
    let interrupts = place.required("interrupts")?;
    let entries = interrupts.as_prop_encoded_array([1; 3]).map_err(|_| unsupported())?;
    let numbers = entries.skip(2).take(2).map(|[_, ppi, _]| number(ppi) + 16);
    if numbers.eq([VTIMER_PPI, TIMER_PPI].map(|ppi| u64::from(ppi.0))) { Ok(()) } else { Err(unsupported()) }
}
