//! The nodes of a virtual block device, its detachment, and reading it back.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hypercall_abi::ids::DomId;
use hypercall_abi::xenbus::XenbusState;

use super::{Node, Perms, paths};
use crate::disk::{Access, Disk, Kind};

/// The nodes of a disk: front end, back end, and the toolstack's own copy. Both sides' `state` come last, so that a
/// watcher outside a transaction sees complete directories.
pub fn vbd(domid: DomId, disk: &Disk) -> Vec<Node> {
    let number = disk.vdev.number();
    let (front, back) = (paths::vbd_frontend(domid, number), paths::vbd_backend(domid, number));
    let own = paths::vbd_toolstack(domid, number);
    let device_type = match disk.kind {
        Kind::Disk => "disk",
        Kind::Cdrom => "cdrom",
    };
    let mut nodes = alloc::vec![
        Node::with(&front, "", "", Perms::front_end(domid)),
        Node::plain(&front, "backend", back.clone()),
        Node::plain(&front, "backend-id", "0"),
        Node::plain(&front, "virtual-device", number.to_string()),
        Node::plain(&front, "device-type", device_type),
        Node::plain(&front, "trusted", "1"),
        Node::with(&back, "", "", Perms::readable_by(domid)),
        Node::plain(&back, "frontend", front.clone()),
        Node::with(&own, "", "", Perms::PRIVATE),
        Node::plain(&own, "frontend", front.clone()),
        Node::plain(&own, "backend", back.clone()),
    ];
    for (name, value) in settings(domid, disk, device_type) {
        nodes.push(Node::plain(&own, name, value.clone()));
        nodes.push(Node::plain(&back, name, value));
    }
    for directory in [&own, &front, &back] {
        nodes.push(Node::plain(directory, "state", XenbusState::Initialising.as_str()));
    }
    nodes
}

/// What the back end needs to know, and what `xl block-list` shows.
fn settings(domid: DomId, disk: &Disk, device_type: &str) -> [(&'static str, String); 11] {
    let flag = |set: bool| String::from(if set { "1" } else { "0" });
    let mode = match disk.access {
        Access::ReadWrite => "w",
        Access::ReadOnly => "r",
    };
    [
        ("params", disk.target.to_string()),
        ("frontend-id", domid.to_string()),
        ("online", flag(true)),
        ("removable", flag(disk.removable)),
        ("bootable", flag(true)),
        ("dev", disk.vdev.name().to_string()),
        ("type", "phy".to_string()),
        ("mode", mode.to_string()),
        ("device-type", device_type.to_string()),
        ("discard-enable", flag(disk.discard_enabled())),
        ("specification", "xen".to_string()),
    ]
}

/// The writes that ask for a disk's removal: the front end sees the back end close, and lets go.
pub fn vbd_detach(domid: DomId, number: u32) -> [Node; 2] {
    let back = paths::vbd_backend(domid, number);
    [Node::plain(&back, "online", "0"), Node::plain(&back, "state", XenbusState::Closing.as_str())]
}

/// The paths to remove once a disk's back end is closed.
pub fn vbd_removal(domid: DomId, number: u32) -> [String; 3] {
    [paths::vbd_frontend(domid, number), paths::vbd_backend(domid, number), paths::vbd_toolstack(domid, number)]
}

/// A back end's configuration, read back from XenStore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VbdInfo {
    /// The front end's directory.
    pub frontend: String,
    /// The target, as [`crate::disk::Target::parse`] takes it.
    pub params: String,
    /// Whether the guest may write.
    pub access: Access,
    /// What the guest takes it for.
    pub kind: Kind,
    /// Whether the guest is offered discard.
    pub discard: bool,
}

/// Reads a back end's configuration through `read`, which gives a node's value by its name in the directory.
pub fn vbd_info(read: impl Fn(&str) -> Option<String>) -> Option<VbdInfo> {
    Some(VbdInfo {
        frontend: read("frontend")?,
        params: read("params")?,
        access: if read("mode").as_deref() == Some("w") { Access::ReadWrite } else { Access::ReadOnly },
        kind: if read("device-type").as_deref() == Some("cdrom") { Kind::Cdrom } else { Kind::Disk },
        discard: read("discard-enable").as_deref() == Some("1"),
    })
}
