//! A machine like QEMU's `virt`, described well and badly.

extern crate std;

use std::format;
use std::string::ToString;
use std::vec::Vec;

use dtoolkit::fdt::Fdt;
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};
use kernel_core::addr::Pa;
use kernel_core::hw::IntId;
use kernel_core::machine::Range;
use vm_fdt::{Error, FdtReserveEntry, FdtWriter};

use super::walk::Place;
use super::{Dom0View, console, discover, for_dom0};

const GIC: u32 = 1;

fn range(start: u64, size: u64) -> Range {
    Range { start: Pa::new(start), size }
}

fn image() -> Range {
    range(0x4020_0000, 0x20_0000)
}

/// Nodes that every test has, with a hook for what differs.
fn machine(extra: impl Fn(&mut FdtWriter) -> Result<(), Error>) -> Result<Vec<u8>, Error> {
    let reserved = [FdtReserveEntry::new(0x4800_0000, 0x1000)?];
    let mut fdt = FdtWriter::new_with_mem_reserv(&reserved)?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", GIC)?;
    let chosen = fdt.begin_node("chosen")?;
    fdt.property_string("stdout-path", "/soc/serial@1000:115200")?;
    fdt.property_string("bootargs", "dom0_mem=64M")?;
    let module = fdt.begin_node("module@49000000")?;
    fdt.property("compatible", b"multiboot,module\0multiboot,kernel\0")?;
    fdt.property_array_u64("reg", &[0x4900_0000, 0x12345])?;
    fdt.property_string("bootargs", "quiet")?;
    fdt.end_node(module)?;
    fdt.end_node(chosen)?;
    let memory = fdt.begin_node("memory@40000000")?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[0x8000_0000, 0x4000_0000, 0x4000_0000, 0x1000_0000])?;
    fdt.end_node(memory)?;
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for mpidr in [0, 1, 0x100] {
        let cpu = fdt.begin_node(&format!("cpu@{mpidr:x}"))?;
        fdt.property_u32("reg", mpidr)?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)?;
    let psci = fdt.begin_node("psci")?;
    fdt.property_string("method", "smc")?;
    fdt.end_node(psci)?;
    let gic = fdt.begin_node("intc@8000000")?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    fdt.property_u32("phandle", GIC)?;
    fdt.property_array_u64("reg", &[0x800_0000, 0x1_0000, 0x80a_0000, 0xf6_0000])?;
    fdt.end_node(gic)?;
    let soc = fdt.begin_node("soc")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 1)?;
    fdt.property_array_u32("ranges", &[0, 0, 0x900_0000, 0x10_0000])?;
    for (name, at, intid, flags) in
        [("serial", 0x1000, 1, 4), ("virtio_mmio", 0x2000, 16, 1), ("virtio_mmio", 0x2200, 17, 1)]
    {
        let node = fdt.begin_node(&format!("{name}@{at:x}"))?;
        if name == "serial" {
            fdt.property_string("compatible", "arm,pl011")?;
        }
        fdt.property_array_u32("reg", &[at, 0x200])?;
        fdt.property_array_u32("interrupts", &[0, intid, flags])?;
        fdt.end_node(node)?;
    }
    fdt.end_node(soc)?;
    let pcie = fdt.begin_node("pcie@4010000000")?;
    fdt.property_string("device_type", "pci")?;
    fdt.property_u32("#address-cells", 3)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_array_u64("reg", &[0x40_1000_0000, 0x1000_0000])?;
    fdt.property_array_u32("ranges", &[0x200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2eff_0000])?;
    fdt.property_array_u32("interrupt-map", &[0, 0, 0, 1, GIC, 0, 0, 0, 3, 4])?;
    fdt.end_node(pcie)?;
    extra(&mut fdt)?;
    fdt.end_node(root)?;
    fdt.finish()
}

fn usual() -> Vec<u8> {
    machine(|_| Ok(())).unwrap_or_default()
}

fn refused(extra: impl Fn(&mut FdtWriter) -> Result<(), Error>) -> std::string::String {
    let blob = machine(extra).unwrap_or_default();
    match discover(&blob, range(0x4f00_0000, blob.len() as u64), image()) {
        Ok(_) => "accepted".to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_machine_is_found() {
    let blob = usual();
    let at = range(0x4f00_0000, 0x2345);
    let found = discover(&blob, at, image());
    let Ok(found) = found else { panic!("{found:?}") };
    let machine = &found.machine;
    assert_eq!(machine.ram[..], [range(0x4000_0000, 0x1000_0000), range(0x8000_0000, 0x4000_0000)]);
    assert_eq!(found.cpus[..], [0, 1, 0x100]);
    assert_eq!((machine.gicd, machine.gicr), (range(0x800_0000, 0x1_0000), range(0x80a_0000, 0xf6_0000)));
    assert_eq!(machine.dom0_image, range(0x4900_0000, 0x12345));
    assert_eq!((machine.cmdline.as_str(), machine.dom0_args.as_str()), ("dom0_mem=64M", "quiet"));
    let reserved = [range(0x4900_0000, 0x1_3000), range(0x4800_0000, 0x1000), image(), range(0x4f00_0000, 0x3000)];
    assert_eq!(machine.reserved[..], reserved);
}

#[test]
fn devices_and_interrupts_go_to_dom0_but_not_the_gic() {
    let blob = usual();
    let Ok(found) = discover(&blob, range(0x4f00_0000, 0x2000), image()) else { panic!("refused") };
    let mut devices = found.machine.devices.clone();
    devices.sort_unstable_by_key(|device| device.start);
    // The UART's page touches that of the two transports, which share one.
    let expected = [range(0x900_1000, 0x2000), range(0x1000_0000, 0x2eff_0000), range(0x40_1000_0000, 0x1000_0000)];
    assert_eq!(devices[..], expected);
    assert_eq!(found.machine.interrupts[..], [IntId(33), IntId(48), IntId(49), IntId(35)]);
    assert!(found.is_edge(48) && found.is_edge(49) && !found.is_edge(33) && !found.is_edge(35));
}

#[test]
fn the_console_is_where_stdout_path_says_through_its_bus() {
    assert_eq!(console(&usual()), Some(Pa::new(0x900_1000)));
}

#[test]
fn an_error_names_the_node_and_the_field() {
    let bad_reg = refused(|fdt| {
        let node = fdt.begin_node("memory@c0000000")?;
        fdt.property_array_u32("reg", &[1, 2, 3])?;
        fdt.end_node(node)
    });
    assert_eq!(bad_reg, "FDT: /memory@c0000000: reg: malformed");
    let overlap = refused(|fdt| {
        let node = fdt.begin_node("memory@4fff0000")?;
        fdt.property_array_u64("reg", &[0x4fff_0000, 0x2_0000])?;
        fdt.end_node(node)
    });
    assert_eq!(overlap, "FDT: /memory@4fff0000: reg: malformed");
    let interrupt = refused(|fdt| {
        let node = fdt.begin_node("device@1000")?;
        fdt.property_array_u32("interrupts", &[0, 988, 4])?;
        fdt.end_node(node)
    });
    assert_eq!(interrupt, "FDT: /device@1000: interrupts: malformed");
    let timer = refused(|fdt| {
        let node = fdt.begin_node("timer")?;
        fdt.property_string("compatible", "arm,armv8-timer")?;
        fdt.property_array_u32("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 12, 4])?;
        fdt.end_node(node)
    });
    assert_eq!(timer, "FDT: /timer: interrupts: not supported");
    let cells = refused(|fdt| {
        let node = fdt.begin_node("bus")?;
        fdt.property_u32("#address-cells", 0x4000_0000)?;
        fdt.property_array_u32("ranges", &[1, 2, 3])?;
        fdt.end_node(node)
    });
    assert_eq!(cells, "FDT: /bus: #address-cells: malformed");
}

#[test]
fn a_tree_that_is_too_deep_is_refused() {
    let deep = refused(|fdt| {
        let nodes: Result<Vec<_>, _> = (0..40).map(|_| fdt.begin_node("n")).collect();
        nodes?.into_iter().rev().try_for_each(|node| fdt.end_node(node))
    });
    assert!(deep.ends_with("depth: too many entries"), "{deep}");
}

#[test]
fn no_byte_of_the_file_can_make_the_reader_panic() {
    let blob = usual();
    let at = range(0x4f00_0000, 0x2000);
    for position in 0..blob.len() {
        for value in [0, 3, 0x7f, 0xff] {
            let mut broken = blob.clone();
            broken[position] = value;
            let _ = console(&broken);
            let _ = discover(&broken, at, image());
            let _ = for_dom0(&broken, &mut [0; 4096], &dom0());
        }
    }
    for length in 0..blob.len() {
        assert!(discover(&blob[..length], at, image()).is_err(), "cut at {length}");
    }
}

fn dom0() -> Dom0View<'static> {
    let (ram, grants) = (range(0x5000_0000, 0x400_0000), range(0x2_0000_0000, 0x100_0000));
    Dom0View { ram, arguments: "a command line that is longer than the host's", grants }
}

#[test]
fn dom0_sees_its_own_ram_command_line_and_hypervisor() -> Result<(), super::FdtError> {
    let mut room = [0; 4096];
    for_dom0(&usual(), &mut room, &dom0())?;
    let length = u32::from_be_bytes([room[4], room[5], room[6], room[7]]) as usize;
    let fdt = match Fdt::new(&room[..length]) {
        Ok(fdt) => fdt,
        Err(error) => panic!("no FDT any more: {error}"),
    };
    let mut seen = Vec::new();
    let mut hypervisor = false;
    Place::root(fdt).walk(&mut |place| {
        match place.node.name_without_address() {
            "memory" => seen.extend(place.ranges()?),
            "chosen" => {
                assert_eq!(place.node.properties().filter(|property| property.name() == "bootargs").count(), 1);
                assert_eq!(place.text("bootargs"), Some(dom0().arguments));
                assert_eq!(place.text("stdout-path"), Some("/soc/serial@1000:115200"));
            }
            "hypervisor" => {
                assert!(place.node.is_compatible("xen,xen"));
                assert!(place.ranges()?.eq([Ok(dom0().grants)]));
                assert_eq!(place.required("interrupts")?.value(), [0, 0, 0, 1, 0, 0, 0, 15, 0, 0, 0xf, 8]);
                hypervisor = true;
            }
            _ => {}
        }
        Ok(true)
    })?;
    assert_eq!((seen, hypervisor), (Vec::from([Ok(dom0().ram)]), true));
    Ok(())
}

#[test]
fn an_fdt_that_has_no_room_to_grow_is_an_error() {
    let host = usual();
    let mut room = Vec::from_iter(host.iter().map(|_| 0));
    let error = for_dom0(&host, &mut room, &dom0()).map_err(|error| error.to_string());
    assert_eq!(error, Err("FDT: (file): total size: too long".to_string()));
}
