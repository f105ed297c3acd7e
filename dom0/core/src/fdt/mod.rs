//! The guest's device tree, as Xen's toolstack builds it for Arm guests.
//!
//! `dtoolkit` serialises and parses; only `node` and `partial` know it, so that the library can be exchanged.

mod node;
mod partial;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use hypercall_abi::arm::{
    GUEST_EVTCHN_PPI, GUEST_TIMER_PHYS_NS_PPI, GUEST_TIMER_PHYS_S_PPI, GUEST_TIMER_VIRT_PPI, GUEST_VPL011_SPI,
    vcpu_affinity,
};
use node::Node;
pub use partial::PartialError;

use crate::addr::Region;
use crate::layout::{GICD, GICR, GICV2_GICC, GICV2_GICD, GRANT_TABLE, GicVersion, Layout, VPL011, extended_regions};

/// The phandle of the interrupt controller. Xen's toolstack uses this number, and partial device trees rely on it.
const GIC_PHANDLE: u32 = 65000;
/// Name of the UART's node, for `stdout-path`.
const UART_NODE: &str = "sbsa-pl011";

/// What a guest's device tree is made of.
#[derive(Debug, Clone, Copy)]
pub struct GuestTree<'a> {
    /// Where everything lies.
    pub layout: &'a Layout,
    /// vCPUs there are, online or not.
    pub max_vcpus: u32,
    /// The interrupt controller.
    pub gic: GicVersion,
    /// Kernel command line.
    pub cmdline: &'a str,
    /// Whether there is an emulated PL011.
    pub vuart: bool,
    /// Random bytes for the guest's kernel; none if empty.
    pub rng_seed: &'a [u8],
    /// A partial device tree whose `/passthrough` and `/aliases` are merged in.
    pub partial: Option<&'a [u8]>,
}

impl GuestTree<'_> {
    /// The flattened tree.
    ///
    /// # Errors
    /// Only a partial device tree can be at fault.
    pub fn build(&self) -> Result<Vec<u8>, PartialError> {
        let mut root = self.root();
        root.child(self.chosen());
        root.child(self.cpus());
        root.child(psci());
        for bank in &self.layout.banks {
            root.child(memory(*bank));
        }
        root.child(gic(self.gic));
        root.child(timer());
        root.child(self.hypervisor());
        if self.vuart {
            root.child(uart());
        }
        if let Some(blob) = self.partial {
            partial::merge(blob, &mut root)?;
        }
        Ok(root.flatten())
    }

    fn root(&self) -> Node {
        let mut node = Node::new("");
        node.text("model", "XENVM-4.17");
        node.texts("compatible", &["xen,xenvm-4.17", "xen,xenvm"]);
        node.cells("interrupt-parent", &[GIC_PHANDLE]);
        node.cells("#address-cells", &[2]);
        node.cells("#size-cells", &[2]);
        node
    }

    fn chosen(&self) -> Node {
        let mut node = Node::new("chosen");
        node.text("bootargs", self.cmdline);
        if self.vuart {
            node.text("stdout-path", &alloc::format!("/{UART_NODE}"));
        }
        if let Some(initrd) = self.layout.initrd {
            node.cells("linux,initrd-start", &halves(initrd.start().get()));
            node.cells("linux,initrd-end", &halves(initrd.end().get()));
        }
        if !self.rng_seed.is_empty() {
            node.bytes("rng-seed", self.rng_seed);
        }
        node
    }

    fn cpus(&self) -> Node {
        let mut node = Node::new("cpus");
        node.cells("#address-cells", &[1]);
        node.cells("#size-cells", &[0]);
        for vcpu in 0..self.max_vcpus {
            let affinity = vcpu_affinity(vcpu);
            let mut cpu = Node::new(alloc::format!("cpu@{affinity:x}"));
            cpu.text("device_type", "cpu");
            cpu.text("compatible", "arm,armv8");
            cpu.text("enable-method", "psci");
            cpu.cells("reg", &[affinity]);
            node.child(cpu);
        }
        node
    }

    /// The node that tells Linux it runs on Xen. `reg` 0 is room for the grant table, further ones are unused
    /// addresses for mapping foreign pages.
    fn hypervisor(&self) -> Node {
        let mut node = Node::new("hypervisor");
        node.texts("compatible", &["xen,xen-4.17", "xen,xen"]);
        let mut regions = alloc::vec![GRANT_TABLE];
        regions.extend(extended_regions(&self.layout.banks));
        node.cells("reg", &reg(&regions));
        node.cells("interrupts", &interrupt(GUEST_EVTCHN_PPI, Trigger::LevelLow));
        node
    }
}

fn psci() -> Node {
    let mut node = Node::new("psci");
    node.texts("compatible", &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]);
    node.text("method", "hvc");
    // Function numbers of PSCI 0.1, which only "arm,psci" needs (Xen public/arch-arm.h).
    node.cells("cpu_off", &[1]);
    node.cells("cpu_on", &[2]);
    node
}

fn memory(bank: Region) -> Node {
    let mut node = Node::new(at("memory", bank));
    node.text("device_type", "memory");
    node.cells("reg", &reg(&[bank]));
    node
}

fn gic(version: GicVersion) -> Node {
    // The names are those that Xen's toolstack gives.
    let (compatible, parts) = match version {
        GicVersion::V2 => ("arm,cortex-a15-gic", [GICV2_GICD, GICV2_GICC]),
        GicVersion::V3 => ("arm,gic-v3", [GICD, GICR]),
    };
    let mut node = Node::new(at("interrupt-controller", GICD));
    node.text("compatible", compatible);
    node.cells("#interrupt-cells", &[3]);
    node.cells("#address-cells", &[0]);
    node.flag("interrupt-controller");
    node.cells("reg", &reg(&parts));
    node.cells("linux,phandle", &[GIC_PHANDLE]);
    node.cells("phandle", &[GIC_PHANDLE]);
    node
}

fn timer() -> Node {
    let mut node = Node::new("timer");
    node.text("compatible", "arm,armv8-timer");
    let intids = [GUEST_TIMER_PHYS_S_PPI, GUEST_TIMER_PHYS_NS_PPI, GUEST_TIMER_VIRT_PPI];
    node.cells("interrupts", &intids.map(|intid| interrupt(intid, Trigger::LevelLow)).concat());
    node
}

fn uart() -> Node {
    let mut node = Node::new(UART_NODE);
    node.text("compatible", "arm,sbsa-uart");
    node.cells("reg", &reg(&[VPL011]));
    node.cells("interrupts", &interrupt(GUEST_VPL011_SPI, Trigger::LevelHigh));
    node.cells("current-speed", &[115_200]);
    node
}

/// `name@address`.
fn at(name: &str, region: Region) -> String {
    alloc::format!("{name}@{:x}", region.start().get())
}

/// A 64-bit number as two cells.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

/// `reg` with two cells each for address and size.
fn reg(regions: &[Region]) -> Vec<u32> {
    regions.iter().flat_map(|region| [halves(region.start().get()), halves(region.size())]).flatten().collect()
}

/// How an interrupt is signalled, in the encoding of the GIC binding.
#[derive(Clone, Copy)]
enum Trigger {
    LevelHigh = 4,
    LevelLow = 8,
}

/// `interrupts` for one interrupt: kind (0 SPI, 1 PPI), number within the kind, CPU mask and trigger.
fn interrupt(intid: u32, trigger: Trigger) -> [u32; 3] {
    let flags = (0xf << 8) | trigger as u32;
    match intid.checked_sub(32) {
        Some(spi) => [0, spi, flags],
        None => [1, intid.saturating_sub(16), flags],
    }
}
