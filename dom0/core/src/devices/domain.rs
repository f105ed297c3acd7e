//! The nodes of a domain itself: identity, memory, vCPUs, store, control.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hypercall_abi::ids::{DomId, Port};

use super::{Node, Perms, paths};
use crate::config::DomainConfig;
use crate::layout::MagicPage;
use crate::uuid::Uuid;

/// What the nodes of a domain say.
#[derive(Debug, Clone, Copy)]
pub struct DomainNodes<'a> {
    /// Its id.
    pub domid: DomId,
    /// Its UUID.
    pub uuid: &'a Uuid,
    /// Its configuration.
    pub config: &'a DomainConfig,
    /// The guest's port of the XenStore ring.
    pub store_port: Port,
}

impl DomainNodes<'_> {
    /// All nodes, parents before children, and those of one place together: the store need not find the place again, among
    /// those of all domains.
    pub fn nodes(&self) -> Vec<Node> {
        let toolstack = paths::toolstack(self.domid);
        let mut nodes = alloc::vec![
            Node::with(&toolstack, "", "", Perms::PRIVATE),
            Node::plain(&toolstack, "device", ""),
            Node::plain(&toolstack, "type", "pvh"),
            Node::with(&paths::vm(self.uuid), "", "", Perms::readable_by(self.domid)),
        ];
        nodes.extend(vm_identity(self.uuid, &self.config.name));
        nodes.extend(self.directories());
        nodes.extend(domain_identity(self.domid, self.uuid, &self.config.name));
        let base = paths::domain(self.domid);
        let plain = |name: &str, value: String| Node::plain(&base, name, value);
        nodes.push(plain("domid", self.domid.to_string()));
        nodes.push(plain("memory/static-max", (self.config.maxmem_mib << 10).to_string()));
        nodes.push(plain("memory/target", (self.config.memory_mib << 10).to_string()));
        nodes.push(plain("memory/videoram", "0".to_string()));
        nodes.push(plain("store/port", self.store_port.to_string()));
        nodes.push(plain("store/ring-ref", MagicPage::Store.gfn().to_string()));
        for vcpu in 0..self.config.max_vcpus {
            let state = if vcpu < self.config.vcpus { "online" } else { "offline" };
            nodes.push(plain(&alloc::format!("cpu/{vcpu}/availability"), state.to_string()));
        }
        nodes
    }

    /// The guest's own directories, with who may write where: it answers below `control`, and reports below a few others.
    fn directories(&self) -> Vec<Node> {
        let base = paths::domain(self.domid);
        let own = Perms::owned_by(self.domid);
        let mut nodes = alloc::vec![Node::with(&base, "", "", Perms::readable_by(self.domid))];
        for name in ["cpu", "memory", "device", "control"] {
            nodes.push(Node::plain(&base, name, ""));
        }
        for name in [
            "device/suspend/event-channel",
            "control/shutdown",
            "control/feature-poweroff",
            "control/feature-reboot",
            "control/feature-suspend",
            "control/sysrq",
            "data",
            "drivers",
            "feature",
            "attr",
            "error",
        ] {
            nodes.push(Node::with(&base, name, "", own));
        }
        nodes.push(Node::plain(&base, "control/platform-feature-multiprocessor-suspend", "1"));
        nodes.push(Node::plain(&base, "control/platform-feature-xs_reset_watches", "1"));
        nodes
    }
}

/// The nodes that hold name and UUID; `xl rename` writes them again.
pub fn identity(domid: DomId, uuid: &Uuid, name: &str) -> Vec<Node> {
    domain_identity(domid, uuid, name).into_iter().chain(vm_identity(uuid, name)).collect()
}

fn domain_identity(domid: DomId, uuid: &Uuid, name: &str) -> [Node; 2] {
    let base = paths::domain(domid);
    [Node::plain(&base, "vm", paths::vm(uuid)), Node::plain(&base, "name", name)]
}

fn vm_identity(uuid: &Uuid, name: &str) -> [Node; 2] {
    let vm = paths::vm(uuid);
    [Node::plain(&vm, "uuid", uuid.to_string()), Node::plain(&vm, "name", name)]
}

/// The paths to remove, with all below them, when a domain is gone.
pub fn removal(domid: DomId, uuid: &Uuid) -> Vec<String> {
    let mut gone = alloc::vec![paths::domain(domid), paths::vm(uuid), paths::toolstack(domid)];
    gone.extend([paths::VBD, paths::VIF, "console", "vuart"].map(|kind| paths::backends(kind, domid)));
    gone
}
