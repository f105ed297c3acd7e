//! A machine like QEMU's `virt`, described well and badly.

use kernel_core::addr::Pa;
use kernel_core::machine::Range;
use vm_fdt::{Error, FdtReserveEntry, FdtWriter};

use super::{console, discover};

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

fn usual() -> &'static [u8] {
    machine(|_| Ok(())).unwrap_or_default().leak()
}

fn refused(extra: impl Fn(&mut FdtWriter) -> Result<(), Error>) -> std::string::String {
    let blob = machine(extra).unwrap_or_default().leak();
    match discover(blob, range(0x4f00_0000, blob.len() as u64), image()) {
        Ok(_) => "accepted".to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_machine_is_found() {
    let blob = usual();
    let at = range(0x4f00_0000, 0x2345);
    let machine = discover(blob, at, image());
    let Ok(machine) = machine else { panic!("{machine:?}") };
    assert_eq!(machine.ram[..], [range(0x4000_0000, 0x1000_0000), range(0x8000_0000, 0x4000_0000)]);
    assert_eq!(machine.cpus[..], [0, 1, 0x100]);
    assert_eq!((machine.gicd, &machine.gicr[..]), (range(0x800_0000, 0x1_0000), &[range(0x80a_0000, 0xf6_0000)][..]));
    assert_eq!(machine.dom0_image, range(0x4900_0000, 0x12345));
    assert_eq!(machine.cmdline, "dom0_mem=64M");
    let reserved = [range(0x4900_0000, 0x1_3000), range(0x4800_0000, 0x1000), image(), range(0x4f00_0000, 0x3000)];
    assert_eq!(machine.reserved[..], reserved);
}

#[test]
fn the_console_is_where_stdout_path_says_through_its_bus() {
    assert_eq!(console(usual()), Some(Pa::new(0x900_1000)));
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
    let text = refused(|fdt| {
        let node = fdt.begin_node("chosen")?;
        fdt.property("bootargs", b"without an end")?;
        fdt.end_node(node)
    });
    assert_eq!(text, "FDT: /chosen: bootargs: malformed");
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
            let mut broken = blob.to_vec();
            broken[position] = value;
            let broken = broken.leak();
            let _ = console(broken);
            let _ = discover(broken, at, image());
        }
    }
    for length in 0..blob.len() {
        assert!(discover(&blob[..length], at, image()).is_err(), "cut at {length}");
    }
}
