//! The first domain: Dom0, made by the microkernel itself from the boot module.
//!
//! Its RAM is one piece and lies at the same IPA as PA, since it hands addresses to devices that know no stage 2.
//! It gets the host's FDT as it is; what concerns itself in there it asks for (`PlatformInfo`), and the registers of
//! the devices that it drives too (`DeviceMap`). All shared interrupts of the machine are its own.

use hypercall_abi::control::DomainParams;
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::VcpuId;

use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::machine::{Machine, Range};
use crate::p2m::MapKind;
use crate::vgic::GicLayout;

/// Dom0's RAM unless `dom0_mem=` says otherwise: 256 MiB, or a quarter of a small machine's.
const DEFAULT_MEMORY: u64 = 256 << 20;
/// The least that Dom0 can do with.
const LEAST_MEMORY: u64 = 32 << 20;
/// Images start at such boundaries (Linux, Documentation/arch/arm64/booting.rst).
const ALIGNMENT: u64 = 2 << 20;
/// Room at the end of Dom0's RAM for its FDT, which may be 2 MiB at most.
const FDT_ROOM: u64 = 2 << 20;
/// Offsets in the arm64 image header.
const TEXT_OFFSET: u64 = 8;
const IMAGE_SIZE: u64 = 16;
const MAGIC: u64 = 56;
/// "ARM\x64", little endian.
const IMAGE_MAGIC: u32 = 0x644d_5241;

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

/// Takes Dom0's RAM out of the machine's, before the rest of it becomes frames. The error is for the person who boots.
pub fn take_ram<H: Hw>(machine: &mut Machine) -> Result<(), &'static str> {
    let image = machine.dom0_image;
    if image.size < 64 || !image.start.is_aligned(8) || H::load32(image.start.add(MAGIC)) != IMAGE_MAGIC {
        return Err("dom0's module is no arm64 Image: the magic at offset 56 is wrong");
    }
    let text_offset = H::load64(image.start.add(TEXT_OFFSET));
    if text_offset >= ALIGNMENT {
        return Err("dom0's module is no arm64 Image: the text offset is 2 MiB or more");
    }
    let image_size = text_offset.saturating_add(image.size.max(H::load64(image.start.add(IMAGE_SIZE))));
    let size = match machine.option("dom0_mem") {
        Some(text) => parse_size(text).unwrap_or(0),
        None => DEFAULT_MEMORY.min(machine.ram.iter().map(|bank| bank.size).sum::<u64>() / 4),
    };
    let size = size & !(ALIGNMENT - 1);
    if size < LEAST_MEMORY || size - FDT_ROOM < image_size {
        return Err("dom0_mem: not a size such as 256M, or too small for dom0's image");
    }
    machine.dom0_ram = machine.take(size, ALIGNMENT).ok_or("dom0_mem: no free piece of RAM is that long")?;
    Ok(())
}

/// How many vCPUs Dom0 is to have. The error is for the person who boots.
pub fn vcpus(machine: &Machine) -> Result<u32, &'static str> {
    let (gic, wanted) = (GicLayout::of_host(machine), machine.option("dom0_max_vcpus").unwrap_or("1"));
    let vcpus = wanted.parse().ok().filter(|vcpus| (1..=gic.max_vcpus()).contains(&(*vcpus as usize)));
    vcpus.ok_or(if gic.is_v2() {
        "dom0_max_vcpus: not a number from 1 to 8, which are all that a GICv2 knows"
    } else {
        "dom0_max_vcpus: not a number from 1 to 64"
    })
}

impl<H: Hw> Kernel<H> {
    /// Makes Dom0 with so many vCPUs in the RAM that [`take_ram`] has set aside, and starts it.
    pub fn start_dom0(&self, vcpus: u32) -> Result<(), XenError> {
        let machine = self.machine.get().ok_or(XenError::NoDev)?;
        let Range { start, size } = machine.dom0_ram;
        let pages = size / PAGE_SIZE;
        let params = DomainParams {
            vcpus,
            max_pages: pages,
            max_grant_frames: 64,
            nr_spis: H::shared_interrupts(),
            ..DomainParams::default()
        };
        let domain = self.create(&params, Some(GicLayout::of_host(machine)))?;
        H::frames().adopt(start, pages, domain.id)?;
        // Dom0 starts with its caches off.
        H::zero_to_poc(start, size);
        domain.p2m.map(Ipa::new(start.raw()), start, pages, MapKind::Ram)?;
        let entry = start.add(H::load64(machine.dom0_image.start.add(TEXT_OFFSET)));
        let fdt = start.add(size - FDT_ROOM);
        copy::<H>(machine.dom0_image, entry);
        copy::<H>(machine.fdt, fdt);
        let first = domain.vcpu(VcpuId(0)).ok_or(XenError::NoEnt)?;
        self.start_vcpu(&domain, first, entry.raw(), fdt.raw())?;
        self.log(format_args!("dom0: {} MiB at {:#x}, entry {:#x}", size >> 20, start.raw(), entry.raw()));
        self.unpause(&domain)
    }
}

/// Copies page by page into Dom0's RAM, which has room.
fn copy<H: Hw>(from: Range, to: Pa) {
    let mut done = 0;
    while done < from.size {
        let (source, target) = (from.start.add(done), to.add(done));
        let part = source.left_in_page().min(target.left_in_page()).min(from.size - done);
        H::copy(target, source, part);
        done += part;
    }
    H::clean_to_poc(to, from.size);
    H::forget_instructions();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, RAM_BASE, reset};
    use crate::hw::Memory;
    use crate::machine::Gicv2;

    /// A machine of 4 GiB with an image for Dom0, and what it takes for it.
    fn taken(cmdline: &'static str, magic: u32, text_offset: u64) -> Result<Range, &'static str> {
        reset();
        Fake::store32(RAM_BASE.add(MAGIC), magic);
        Fake::store64(RAM_BASE.add(TEXT_OFFSET), text_offset);
        Fake::store64(RAM_BASE.add(IMAGE_SIZE), 33 << 20);
        let image = Range { start: RAM_BASE, size: 0x3000 };
        let mut machine = Machine { dom0_image: image, cmdline, ..Machine::default() };
        machine.ram.push(Range { start: RAM_BASE, size: 4 << 30 }).unwrap();
        machine.reserved.push(image).unwrap();
        take_ram::<Fake>(&mut machine).map(|()| machine.dom0_ram)
    }

    #[test]
    fn dom0_gets_the_ram_it_is_to_have_in_one_piece_however_much() {
        let behind_image = RAM_BASE.add(ALIGNMENT);
        for (cmdline, size) in [("", 256 << 20), ("a dom0_mem=3G b", 3 << 30), ("dom0_mem=37889", 36 << 20)] {
            assert_eq!(taken(cmdline, IMAGE_MAGIC, 0), Ok(Range { start: behind_image, size }), "{cmdline}");
        }
        for cmdline in ["dom0_mem=", "dom0_mem=x", "dom0_mem=31M", "dom0_mem=34M"] {
            assert!(taken(cmdline, IMAGE_MAGIC, 0).is_err_and(|error| error.contains("too small")), "{cmdline}");
        }
        assert!(taken("dom0_mem=4G", IMAGE_MAGIC, 0).is_err_and(|error| error.contains("no free piece")));
    }

    #[test]
    fn dom0_has_as_many_vcpus_as_it_is_to_have_and_the_gic_knows() {
        let part = Range { start: Pa::new(0x801_0000), size: 0x2000 };
        let gicv2 = Some(Gicv2 { cpu: part, hypervisor: part, guest: part });
        let of = |cmdline, gicv2| vcpus(&Machine { cmdline, gicv2, ..Machine::default() });
        assert_eq!(
            (of("", None), of("dom0_max_vcpus=64", None), of("dom0_max_vcpus=8", gicv2)),
            (Ok(1), Ok(64), Ok(8))
        );
        for (cmdline, gicv2) in [("dom0_max_vcpus=9", gicv2), ("dom0_max_vcpus=65", None), ("dom0_max_vcpus=x", None)] {
            let most = if gicv2.is_some() { "1 to 8" } else { "1 to 64" };
            assert!(of(cmdline, gicv2).is_err_and(|error| error.contains(most)), "{cmdline}");
        }
        assert!(of("dom0_max_vcpus=0", None).is_err());
    }

    #[test]
    fn what_is_no_image_is_not_started() {
        assert!(taken("", 0, 0).is_err_and(|error| error.contains("magic")));
        assert!(taken("", IMAGE_MAGIC, ALIGNMENT).is_err_and(|error| error.contains("text offset")));
    }

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
