//! What the loader tells the image, and the order in which the runtime starts.
//!
//! Example: `examples/hello.rs`.

use core::fmt;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use heapless::Vec;
use hypercall_abi::PAGE_SIZE;
use hypercall_abi::arm::GUEST_EVTCHN_PPI;

use crate::addr::{Ipa, IpaRange};
#[cfg(feature = "control")]
use crate::control;
use crate::fdt::{interrupt, reg};
use crate::irq::{self, IrqError, Mode};
use crate::mmu::MapError;
use crate::{console, evtchn, mmu, pages, sys, time};

/// Banks of RAM that are looked at.
const MAX_BANKS: usize = 8;
/// Address space that the control domain uses for its grant table: as much as Xen gives a guest (public/arch-arm.h).
#[cfg(feature = "control")]
const GRANT_REGION: u64 = 16 << 20;

/// What the device tree, or the microkernel, says about the domain.
pub struct BootInfo {
    fdt: &'static [u8],
    arguments: &'static str,
    memory: Vec<IpaRange, MAX_BANKS>,
    initrd: Option<IpaRange>,
    /// Address space that holds nothing: the grant table grows from its start, the shared information is at its end.
    region: IpaRange,
    /// The interrupt of event channels.
    upcall: u32,
    window: Option<IpaRange>,
}

/// Why the runtime cannot start.
#[derive(Debug)]
pub enum BootError {
    /// The device tree cannot be parsed.
    Fdt,
    /// A property or node that must be there is not, or makes no sense.
    Missing(&'static str),
    /// The interrupt controller does not work.
    Irq(IrqError),
    /// RAM or a special page cannot be mapped.
    Map(MapError),
    /// The hypervisor refuses a special page.
    Xen(hypercall_abi::errno::XenError),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fdt => f.write_str("the device tree cannot be parsed"),
            Self::Missing(what) => write!(f, "no {what}"),
            Self::Irq(error) => write!(f, "interrupts: {error}"),
            Self::Map(error) => write!(f, "memory: {error}"),
            Self::Xen(error) => write!(f, "a page of the hypervisor: {error}"),
        }
    }
}

impl core::error::Error for BootError {}

impl From<IrqError> for BootError {
    fn from(error: IrqError) -> Self {
        Self::Irq(error)
    }
}

impl From<MapError> for BootError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<hypercall_abi::errno::XenError> for BootError {
    fn from(error: hypercall_abi::errno::XenError) -> Self {
        Self::Xen(error)
    }
}

impl BootInfo {
    /// The device tree's bytes, to be parsed further.
    #[must_use]
    pub const fn fdt(&self) -> &'static [u8] {
        self.fdt
    }

    /// The command line (`/chosen/bootargs`).
    #[must_use]
    pub const fn arguments(&self) -> &'static str {
        self.arguments
    }

    /// The banks of RAM.
    #[must_use]
    pub fn memory(&self) -> &[IpaRange] {
        &self.memory
    }

    /// The initial RAM disk, kept out of the page pool and mapped.
    #[must_use]
    pub const fn initrd(&self) -> Option<IpaRange> {
        self.initrd
    }

    /// Random bits from the tool stack (`/chosen/rng-seed`), 0 when it gave none, as Xen's does.
    #[must_use]
    pub fn seed(&self) -> u64 {
        let tree = Fdt::new(self.fdt).ok();
        let seed = tree.and_then(|fdt| bytes(top_level(fdt, "chosen")?, "rng-seed")?.first_chunk());
        seed.copied().map_or(0, u64::from_le_bytes)
    }

    /// Address space that holds nothing, for pages of other domains. Only the control domain has it from the start.
    #[must_use]
    pub const fn window(&self) -> Option<IpaRange> {
        self.window
    }

    fn of_guest(fdt: Fdt<'static>, xen: FdtNode<'static>) -> Result<Self, BootError> {
        let chosen = top_level(fdt, "chosen");
        Ok(BootInfo {
            fdt: fdt.data(),
            arguments: chosen.and_then(|node| text(node, "bootargs")).unwrap_or(""),
            memory: memory(fdt)?,
            initrd: chosen.and_then(initrd),
            region: reg(xen).next().ok_or(BootError::Missing("grant table region"))?,
            upcall: interrupt(xen).unwrap_or(GUEST_EVTCHN_PPI),
            window: None,
        })
    }

    /// The control domain's tree is the host's, as the boot loader left it: what of the machine is the domain's own,
    /// it asks the microkernel.
    #[cfg(feature = "control")]
    fn of_control_domain(fdt: Fdt<'static>) -> Result<Self, BootError> {
        let platform = control::platform_info().map_err(|_| BootError::Missing("xen,xen"))?;
        let range =
            |start, size| IpaRange::new(Ipa::new(start), size).ok_or(BootError::Missing("sense in PlatformInfo"));
        let module = top_level(fdt, "chosen").and_then(|chosen| {
            let mut children = chosen.children();
            children.find(|node| node.is_compatible("multiboot,kernel"))
        });
        let region = range(platform.window_base, GRANT_REGION)?;
        let rest = platform.window_size.saturating_sub(GRANT_REGION);
        Ok(BootInfo {
            fdt: fdt.data(),
            arguments: module.and_then(|node| text(node, "bootargs")).unwrap_or(""),
            memory: Vec::from_iter([range(platform.dom0_base, platform.dom0_size)?]),
            initrd: None,
            region,
            upcall: GUEST_EVTCHN_PPI,
            window: Some(range(region.end().raw(), rest)?),
        })
    }
}

impl fmt::Debug for BootInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootInfo")
            .field("arguments", &self.arguments)
            .field("memory", &self.memory)
            .field("initrd", &self.initrd)
            .finish_non_exhaustive()
    }
}

/// Starts the runtime; called with the MMU on and only the image and the FDT mapped.
pub(crate) fn start(fdt: &'static [u8]) -> BootInfo {
    try_start(fdt).unwrap_or_else(|error| panic!("cannot start: {error}"))
}

fn try_start(bytes: &'static [u8]) -> Result<BootInfo, BootError> {
    let fdt = Fdt::new(bytes).map_err(|_| BootError::Fdt)?;
    let info = match fdt.root().children().find(|node| node.is_compatible("xen,xen")) {
        Some(xen) => BootInfo::of_guest(fdt, xen)?,
        #[cfg(feature = "control")]
        None => BootInfo::of_control_domain(fdt)?,
        #[cfg(not(feature = "control"))]
        None => return Err(BootError::Missing("xen,xen")),
    };
    start_memory(fdt, &info)?;
    start_interrupts(fdt)?;
    start_xen(info.region, info.upcall)?;
    Ok(info)
}

/// Maps RAM and gives what is free of it to the page pool.
fn start_memory(fdt: Fdt<'static>, info: &BootInfo) -> Result<(), BootError> {
    let image = sys::mmu::image_range();
    let tree = IpaRange::new(Ipa::new(info.fdt.as_ptr() as u64), info.fdt.len() as u64)
        .ok_or(BootError::Missing("fdt"))?
        .page_cover();
    let mut free = Vec::new();
    for bank in &info.memory {
        free.push(*bank).map_err(|_| BootError::Missing("room for banks"))?;
    }
    cut(&mut free, image)?;
    cut(&mut free, tree)?;
    #[cfg(feature = "smp")]
    sys::smp::reserve_stacks(&mut free, cpus(info.fdt).count())?;
    for range in &free {
        mmu::map_ram(*range)?;
    }
    if let Some(initrd) = info.initrd {
        cut(&mut free, initrd.page_cover())?;
    }
    for reserved in fdt.memory_reservations() {
        if let Some(range) = IpaRange::new(Ipa::new(reserved.address()), reserved.size()) {
            cut(&mut free, range.page_cover())?;
        }
    }
    if let Some(parent) = top_level(fdt, "reserved-memory") {
        for node in parent.children() {
            for range in reg(node) {
                cut(&mut free, range.page_cover())?;
            }
        }
    }
    pages::init(free);
    Ok(())
}

/// Takes `hole` out of every range.
fn cut(ranges: &mut Vec<IpaRange, { pages::MAX_RANGES }>, hole: IpaRange) -> Result<(), BootError> {
    let old = core::mem::take(ranges);
    for part in old.into_iter().flat_map(|range| range.without(hole)).filter(|part| !part.is_empty()) {
        ranges.push(part).map_err(|_| BootError::Missing("room for free ranges"))?;
    }
    Ok(())
}

fn start_interrupts(fdt: Fdt<'static>) -> Result<(), BootError> {
    let find = |names: &[&str]| fdt.root().children().find(|node| names.iter().any(|name| node.is_compatible(name)));
    let (v2, v3) = (find(&["arm,gic-400", "arm,cortex-a15-gic"]), find(&["arm,gic-v3"]));
    let mut ranges = reg(v3.or(v2).ok_or(BootError::Missing("arm,gic-v3 or arm,gic-400"))?);
    let distributor = ranges.next().ok_or(BootError::Missing("GIC distributor"))?;
    let second = ranges.next().ok_or(BootError::Missing("GIC redistributors or CPU interface"))?;
    if v3.is_some() {
        sys::gic::init(distributor, second)?
    } else {
        sys::gic::init_v2(distributor, second)?
    }
    time::init()?;
    Ok(())
}

/// Maps what the hypervisor shares with every domain, and opens the console.
fn start_xen(region: IpaRange, upcall: u32) -> Result<(), BootError> {
    let page = PAGE_SIZE as u64;
    if region.size() < 2 * page || !region.start().raw().is_multiple_of(page) || !region.size().is_multiple_of(page) {
        return Err(BootError::Missing("room in the grant table region"));
    }
    mmu::map_window(region)?;
    evtchn::init(sys::grant_table::shared_info(region)?);
    sys::grant_table::init(region);
    irq::register(upcall, Mode::Level, evtchn::upcall)?;
    console::init();
    Ok(())
}

fn memory(fdt: Fdt<'static>) -> Result<Vec<IpaRange, MAX_BANKS>, BootError> {
    let mut banks = Vec::new();
    for node in fdt.root().children() {
        if text(node, "device_type") != Some("memory") {
            continue;
        }
        for range in reg(node).filter(|range| !range.is_empty()) {
            banks.push(range).map_err(|_| BootError::Missing("room for banks"))?;
        }
    }
    if banks.is_empty() { Err(BootError::Missing("/memory")) } else { Ok(banks) }
}

/// The affinity fields (MPIDR_EL1) of the vCPUs, in the order in which Xen numbers them.
#[cfg(feature = "smp")]
pub(crate) fn cpus(fdt: &'static [u8]) -> impl Iterator<Item = u64> {
    let cpus = Fdt::new(fdt).ok().and_then(|fdt| top_level(fdt, "cpus"));
    let nodes = cpus.into_iter().flat_map(|cpus| cpus.children());
    nodes.filter(|node| text(*node, "device_type") == Some("cpu")).filter_map(|node| number(node, "reg"))
}

fn initrd(chosen: FdtNode<'static>) -> Option<IpaRange> {
    let start = number(chosen, "linux,initrd-start")?;
    let end = number(chosen, "linux,initrd-end")?;
    IpaRange::new(Ipa::new(start), end.checked_sub(start)?)
}

/// A child of the root.
fn top_level(fdt: Fdt<'static>, name: &str) -> Option<FdtNode<'static>> {
    fdt.root().children().find(|node| node.name_without_address() == name)
}

fn bytes(node: FdtNode<'static>, name: &str) -> Option<&'static [u8]> {
    node.property(name)?.value_as().ok()
}

fn text(node: FdtNode<'static>, name: &str) -> Option<&'static str> {
    let value = bytes(node, name)?;
    core::str::from_utf8(value).ok()?.split('\0').next()
}

/// A number of one or two cells.
fn number(node: FdtNode<'static>, name: &str) -> Option<u64> {
    let value = bytes(node, name)?;
    match value.len() {
        4 => Some(u64::from(u32::from_be_bytes(*value.first_chunk()?))),
        8 => Some(u64::from_be_bytes(*value.first_chunk()?)),
        _ => None,
    }
}
