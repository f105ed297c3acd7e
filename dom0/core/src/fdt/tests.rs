//! The tree read back with a parser, node by node, as a guest's kernel would.

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node as _, Property as _};
use proptest::prelude::*;

use super::*;
use crate::addr::Region;
use crate::layout::{GicVersion, RAM0_BASE, place};

fn layout(memory: u64, initrd: Option<u64>) -> Layout {
    place(memory, Region::new(RAM0_BASE, 1 << 20).unwrap(), initrd, 4096).unwrap()
}

fn tree(layout: &Layout) -> GuestTree<'_> {
    let (gic, cmdline) = (GicVersion::V3, "console=hvc0");
    GuestTree { layout, max_vcpus: 2, gic, cmdline, vuart: false, rng_seed: &[], partial: None }
}

fn value(node: &FdtNode<'_>, name: &str) -> Vec<u8> {
    let property = node.property(name).unwrap_or_else(|| panic!("no {name}"));
    property.value().to_vec()
}

fn cells(node: &FdtNode<'_>, name: &str) -> Vec<u32> {
    value(node, name).chunks(4).map(|cell| u32::from_be_bytes(cell.try_into().unwrap())).collect()
}

fn node<'a>(fdt: &Fdt<'a>, path: &str) -> FdtNode<'a> {
    fdt.find_node(path).unwrap_or_else(|| panic!("no {path}"))
}

#[test]
fn linux_finds_xen_and_its_interrupt() {
    let layout = layout(512, None);
    let blob = tree(&layout).build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    let xen = node(&fdt, "/hypervisor");
    assert_eq!(value(&xen, "compatible"), b"xen,xen-4.17\0xen,xen\0");
    assert_eq!(cells(&xen, "interrupts"), [1, 15, 0xf08]);
    assert_eq!(cells(&xen, "reg")[..4], [0, 0x3800_0000, 0, 0x0100_0000]);
    assert_eq!(cells(&xen, "reg")[4..8], [0, 0x6000_0000, 0, 0xa000_0000], "the first extended region");
}

#[test]
fn the_machine_is_described_as_xen_describes_it() {
    let layout = layout(512, None);
    let blob = tree(&layout).build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    assert_eq!(value(&node(&fdt, "/"), "compatible"), b"xen,xenvm-4.17\0xen,xenvm\0");
    let psci = node(&fdt, "/psci");
    assert_eq!(value(&psci, "method"), b"hvc\0");
    assert!(value(&psci, "compatible").starts_with(b"arm,psci-1.0\0"));
    let timer = node(&fdt, "/timer");
    assert_eq!(cells(&timer, "interrupts"), [1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08]);
    let gic = node(&fdt, "/interrupt-controller@3001000");
    assert_eq!(cells(&gic, "reg"), [0, 0x0300_1000, 0, 0x1_0000, 0, 0x0302_0000, 0, 0x100_0000]);
    assert_eq!(cells(&gic, "phandle"), cells(&node(&fdt, "/"), "interrupt-parent"));
    assert_eq!(cells(&node(&fdt, "/memory@40000000"), "reg"), [0, 0x4000_0000, 0, 0x2000_0000]);
}

#[test]
fn on_a_host_with_a_gicv2_the_guest_is_told_of_one() {
    let layout = layout(64, None);
    let blob = GuestTree { gic: GicVersion::V2, ..tree(&layout) }.build().unwrap();
    let gic = node(&Fdt::new(&blob).unwrap(), "/interrupt-controller@3001000");
    assert_eq!(value(&gic, "compatible"), b"arm,cortex-a15-gic\0");
    assert_eq!(cells(&gic, "reg"), [0, 0x0300_1000, 0, 0x1000, 0, 0x0300_2000, 0, 0x2000]);
}

#[test]
fn a_large_guest_has_a_second_memory_node() {
    let layout = layout(4096, None);
    let blob = tree(&layout).build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    assert_eq!(cells(&node(&fdt, "/memory@200000000"), "reg"), [2, 0, 0, 0x4000_0000]);
}

#[test]
fn there_is_a_node_for_each_vcpu_sixteen_to_a_cluster() {
    let layout = layout(64, None);
    let blob = GuestTree { max_vcpus: 18, ..tree(&layout) }.build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    assert_eq!(node(&fdt, "/cpus").children().count(), 18);
    assert_eq!(cells(&node(&fdt, "/cpus/cpu@101"), "reg"), [0x101]);
    assert_eq!(value(&node(&fdt, "/cpus/cpu@f"), "enable-method"), b"psci\0");
}

#[test]
fn chosen_tells_the_kernel_its_arguments_and_initrd() {
    let layout = layout(512, Some(0x1234));
    let blob = GuestTree { rng_seed: &[5; 64], ..tree(&layout) }.build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    let chosen = node(&fdt, "/chosen");
    assert_eq!(value(&chosen, "bootargs"), b"console=hvc0\0");
    assert_eq!(cells(&chosen, "linux,initrd-start"), [0, 0x4800_0000]);
    assert_eq!(cells(&chosen, "linux,initrd-end"), [0, 0x4800_1234]);
    assert_eq!(value(&chosen, "rng-seed"), [5; 64]);
    assert!(chosen.property("stdout-path").is_none());
}

#[test]
fn a_uart_is_there_when_asked_for() {
    let layout = layout(64, None);
    let blob = GuestTree { vuart: true, ..tree(&layout) }.build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    let uart = node(&fdt, "/sbsa-pl011");
    assert_eq!(value(&uart, "compatible"), b"arm,sbsa-uart\0");
    assert_eq!(cells(&uart, "reg"), [0, 0x2200_0000, 0, 0x1000]);
    assert_eq!(cells(&uart, "interrupts"), [0, 0, 0xf04]);
    assert_eq!(value(&node(&fdt, "/chosen"), "stdout-path"), b"/sbsa-pl011\0");
}

/// A partial tree with a device below `/passthrough`, an alias, and something that must not be copied.
fn partial_tree(with_passthrough: bool) -> Vec<u8> {
    let mut root = Node::new("");
    if with_passthrough {
        let mut passthrough = Node::new("passthrough");
        passthrough.text("compatible", "simple-bus");
        passthrough.flag("ranges");
        let mut device = Node::new("net@1000");
        device.cells("reg", &[0, 0x1000, 0, 0x100]);
        passthrough.child(device);
        root.child(passthrough);
    }
    let mut aliases = Node::new("aliases");
    aliases.text("net", "/passthrough/net@1000");
    root.child(aliases);
    root.child(Node::new("secret"));
    root.flatten()
}

#[test]
fn of_a_partial_tree_only_passthrough_and_aliases_are_taken() {
    let layout = layout(64, None);
    let partial = partial_tree(true);
    let blob = GuestTree { partial: Some(&partial), ..tree(&layout) }.build().unwrap();
    let fdt = Fdt::new(&blob).unwrap();
    assert_eq!(cells(&node(&fdt, "/passthrough/net@1000"), "reg"), [0, 0x1000, 0, 0x100]);
    assert_eq!(value(&node(&fdt, "/aliases"), "net"), b"/passthrough/net@1000\0");
    assert!(fdt.find_node("/secret").is_none());
}

#[test]
fn bad_partial_trees_are_refused_with_the_key() {
    let layout = layout(64, None);
    let refused = |partial: &[u8]| GuestTree { partial: Some(partial), ..tree(&layout) }.build().unwrap_err();
    assert_eq!(refused(&partial_tree(false)), PartialError::NoPassthrough);
    assert_eq!(refused(&vec![0; 2 << 20]), PartialError::TooLarge);
    assert!(matches!(refused(b"not a tree"), PartialError::Malformed(_)));
    assert!(refused(b"").to_string().starts_with("key 'device_tree': not a flattened device tree"));
    let mut deep = Node::new("end");
    for _ in 0..40 {
        let mut parent = Node::new("passthrough");
        parent.child(deep);
        deep = parent;
    }
    let mut root = Node::new("");
    root.child(deep);
    assert_eq!(refused(&root.flatten()), PartialError::TooDeep);
}

proptest! {
    #[test]
    fn every_tree_parses_back(
        memory in 64u64..8192, vcpus in 1u32..=128, cmdline in "[ -~]{0,200}", vuart: bool, initrd in 0u64..(32 << 20),
    ) {
        let layout = layout(memory, Some(initrd));
        let guest = GuestTree { max_vcpus: vcpus, cmdline: &cmdline, vuart, ..tree(&layout) };
        let blob = guest.build().unwrap();
        let fdt = Fdt::new(&blob).unwrap();
        prop_assert_eq!(value(&node(&fdt, "/chosen"), "bootargs"), [cmdline.as_bytes(), b"\0"].concat());
        prop_assert_eq!(node(&fdt, "/cpus").children().count(), vcpus as usize);
    }

    #[test]
    fn damaged_partial_trees_never_panic(at in 0usize..1000, byte: u8) {
        let layout = layout(64, None);
        let mut partial = partial_tree(true);
        let at = at % partial.len();
        partial[at] = byte;
        let _ = GuestTree { partial: Some(&partial), ..tree(&layout) }.build();
    }

    #[test]
    fn random_partial_trees_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let layout = layout(64, None);
        let mut partial = partial_tree(true);
        partial.truncate(40);
        partial.extend_from_slice(&bytes);
        let size = u32::try_from(partial.len()).unwrap();
        partial[4..8].copy_from_slice(&size.to_be_bytes());
        let _ = GuestTree { partial: Some(&partial), ..tree(&layout) }.build();
    }
}
