//! The first domain: Dom0, made by the microkernel itself from the boot module.
//!
//! Its RAM is one piece and lies at the same IPA as PA, since it hands addresses to devices that know no stage 2.
//! The devices that the microkernel does not use are mapped the same way, and their interrupts routed.

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::VcpuId;

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::frame::FrameKind;
use crate::hw::{Hw, PcpuId};
use crate::kernel::Kernel;
use crate::lifecycle::Blueprint;
use crate::machine::{Machine, Range};
use crate::p2m::{MapKind, P2mError};
use crate::vgic::GicLayout;

/// Dom0's RAM unless `dom0_mem=` says otherwise: 256 MiB, or a quarter of a small machine's.
const DEFAULT_MEMORY: u64 = 256 << 20;
/// The least that Dom0 can do with.
const LEAST_MEMORY: u64 = 32 << 20;
/// Images start at such boundaries (Linux, Documentation/arch/arm64/booting.rst).
const ALIGNMENT: u64 = 2 << 20;
/// Room at the end of Dom0's RAM for its FDT, which may be 2 MiB at most.
const FDT_ROOM: u64 = 2 << 20;
/// Size of the window for grants.
const WINDOW: u64 = 4 << 30;
/// Size of the region for its own grant table.
const SPECIAL: u64 = 16 << 20;
/// Where the window starts must be a multiple of this.
const WINDOW_ALIGNMENT: u64 = 1 << 30;
/// Shared interrupts of Dom0's GIC: QEMU's `virt` has 256, and most boards fewer.
const SPIS: u32 = 288;
/// Offsets in the arm64 image header.
const TEXT_OFFSET: u64 = 8;
const IMAGE_SIZE: u64 = 16;
const MAGIC: u64 = 56;
/// "ARM\x64", little endian.
const IMAGE_MAGIC: u32 = 0x644d_5241;

/// Where Dom0 and its parts lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dom0Layout {
    /// Its RAM.
    pub ram: Range,
    /// Where its FDT goes; [`Dom0Layout::fdt_room`] bytes are free there.
    pub fdt: Pa,
    /// Bytes free at `fdt`.
    pub fdt_room: u64,
    /// Its entry point.
    pub entry: Pa,
    /// An empty piece of its IPA space for its grant table and shared page: what `/hypervisor` in its FDT names as
    /// `reg`, as Xen's Dom0 has it (Linux, Documentation/devicetree/bindings/arm/xen.txt).
    pub special: Ipa,
    /// Its length.
    pub special_size: u64,
    /// An empty piece of its IPA space, for pages that others grant it.
    pub window: Ipa,
    /// The window's length.
    pub window_size: u64,
}

/// Why Dom0 cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dom0Error {
    /// The boot loader passed no module.
    NoModule,
    /// The module is no arm64 image.
    NotAnImage,
    /// `dom0_mem=` is no size, or too small for the image.
    BadMemory,
    /// No free piece of RAM is long enough.
    NoMemory,
    /// A kernel object could not be made.
    Failed(XenError),
}

impl core::fmt::Display for Dom0Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Dom0Error::NoModule => f.write_str("the boot loader passed no kernel module (multiboot,kernel) for dom0"),
            Dom0Error::NotAnImage => f.write_str("dom0's module is no arm64 Image: the magic at offset 56 is wrong"),
            Dom0Error::BadMemory => f.write_str("dom0_mem: not a size such as 256M, or too small for dom0's image"),
            Dom0Error::NoMemory => f.write_str("dom0_mem: no free piece of RAM is that long"),
            Dom0Error::Failed(error) => write!(f, "dom0 cannot be made: {error}"),
        }
    }
}

impl From<P2mError> for Dom0Error {
    fn from(error: P2mError) -> Self {
        Dom0Error::Failed(error.into())
    }
}

impl From<XenError> for Dom0Error {
    fn from(error: XenError) -> Self {
        Dom0Error::Failed(error)
    }
}

/// A size such as `64M`, `1G` or `4096K`; no suffix is KiB, as in Xen.
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'G' | b'g' => (text.get(..text.len() - 1)?, 30),
        b'M' | b'm' => (text.get(..text.len() - 1)?, 20),
        b'K' | b'k' => (text.get(..text.len() - 1)?, 10),
        _ => (text, 10),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl<H: Hw> Kernel<H> {
    /// Makes Dom0 and copies its image. The boot code then puts an FDT at [`Dom0Layout::fdt`] and calls
    /// [`Kernel::start_dom0`].
    pub fn build_dom0(&self) -> Result<Dom0Layout, Dom0Error> {
        let machine = self.machine().ok_or(Dom0Error::NoModule)?;
        let image = read_header::<H>(machine.dom0_image)?;
        let size = self.dom0_memory(machine, image.size)?;
        let cpus = match machine.option("dom0_max_vcpus") {
            Some(text) => text.parse().map_err(|_| Dom0Error::Failed(XenError::Inval))?,
            None => 1,
        };
        let domain = self.create(&Blueprint {
            uuid: [0; 16],
            vcpus: cpus,
            max_pages: size / PAGE_SIZE,
            max_grant_frames: 64,
            max_ports: 0,
            vuart: false,
            gic: GicLayout::of_host(machine.gicd, machine.gicr),
            spis: SPIS,
            direct_mapped: true,
            privileged: true,
        })?;
        let ram = self.dom0_ram(&domain, size)?;
        let entry = ram.start.add(image.text_offset);
        copy::<H>(machine.dom0_image, entry);
        for device in &machine.devices {
            let at = Ipa::new(device.start.raw());
            domain.p2m.map(at, device.start, device.pages(), MapKind::Device)?;
        }
        let top = machine.ram.iter().map(|bank| bank.end().raw()).max().unwrap_or(0);
        let behind_ram = top.next_multiple_of(WINDOW_ALIGNMENT);
        let layout = Dom0Layout {
            ram,
            fdt: ram.end().add(0u64.wrapping_sub(FDT_ROOM)),
            fdt_room: FDT_ROOM,
            entry,
            special: Ipa::new(behind_ram),
            special_size: SPECIAL,
            window: Ipa::new(behind_ram + WINDOW_ALIGNMENT),
            window_size: WINDOW,
        };
        self.set_dom0_layout(layout);
        Ok(layout)
    }

    /// Lets Dom0 run; its FDT is in place.
    pub fn start_dom0(&self) -> Result<(), Dom0Error> {
        let layout = self.dom0_layout().ok_or(Dom0Error::NoModule)?;
        let domain = self.domains.get(hypercall_abi::ids::DomId::DOM0).ok_or(Dom0Error::NoModule)?;
        H::clean_to_poc(layout.ram.start, layout.ram.size);
        if let Some(machine) = self.machine() {
            for intid in &machine.interrupts {
                domain.dist.link(intid.0);
                H::enable_interrupt(*intid, PcpuId(0));
            }
        }
        let first = domain.vcpu(VcpuId(0)).ok_or(Dom0Error::NoModule)?;
        self.start_vcpu(&domain, first, layout.entry.raw(), layout.fdt.raw())?;
        self.unpause(&domain)?;
        Ok(())
    }

    fn dom0_memory(&self, machine: &Machine, image_size: u64) -> Result<u64, Dom0Error> {
        let size = match machine.option("dom0_mem") {
            Some(text) => parse_size(text).ok_or(Dom0Error::BadMemory)?,
            None => DEFAULT_MEMORY.min(H::frames().total_pages() * PAGE_SIZE / 4),
        };
        let size = size & !(ALIGNMENT - 1);
        if size < LEAST_MEMORY || size - FDT_ROOM < image_size {
            return Err(Dom0Error::BadMemory);
        }
        Ok(size)
    }

    /// One piece of RAM for Dom0. The allocator deals in powers of two; what is too much of a block goes back.
    fn dom0_ram(&self, domain: &Domain<H>, size: u64) -> Result<Range, Dom0Error> {
        let pages = size / PAGE_SIZE;
        let order = u8::try_from(pages.next_power_of_two().trailing_zeros()).map_err(|_| Dom0Error::BadMemory)?;
        let start = H::frames().alloc(domain.id, FrameKind::Ram, order).map_err(|_| Dom0Error::NoMemory)?;
        for extra in pages..1 << order {
            H::frames().put(start.add(extra * PAGE_SIZE));
        }
        domain.quota.charge(pages).map_err(|_| Dom0Error::BadMemory)?;
        H::zero(start, size);
        domain.p2m.map(Ipa::new(start.raw()), start, pages, MapKind::RamRw)?;
        Ok(Range { start, size })
    }
}

struct ImageHeader {
    text_offset: u64,
    size: u64,
}

fn read_header<H: Hw>(image: Range) -> Result<ImageHeader, Dom0Error> {
    if image.size < 64 {
        return Err(if image.size == 0 { Dom0Error::NoModule } else { Dom0Error::NotAnImage });
    }
    if H::load32(image.start.add(MAGIC)) != IMAGE_MAGIC {
        return Err(Dom0Error::NotAnImage);
    }
    let text_offset = H::load64(image.start.add(TEXT_OFFSET));
    let declared = H::load64(image.start.add(IMAGE_SIZE));
    if text_offset >= ALIGNMENT {
        return Err(Dom0Error::NotAnImage);
    }
    Ok(ImageHeader { text_offset, size: text_offset.saturating_add(declared.max(image.size)) })
}

/// Copies the module page by page; both ranges were checked against RAM by the boot code and by `dom0_memory`.
fn copy<H: Hw>(from: Range, to: Pa) {
    let mut done = 0;
    while done < from.size {
        let (source, target) = (from.start.add(done), to.add(done));
        let part = source.left_in_page().min(target.left_in_page()).min(from.size - done);
        H::copy(target, source, part);
        done += part;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_xen_reads_them() {
        assert_eq!(parse_size("256M"), Some(256 << 20));
        assert_eq!(parse_size("1g"), Some(1 << 30));
        assert_eq!(parse_size("2048"), Some(2 << 20));
        assert_eq!(parse_size("4k"), Some(4096));
        for wrong in ["", "M", "-1M", "12T", "99999999999999999999"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }
}
