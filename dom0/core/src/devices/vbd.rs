//! The nodes of a virtual block device, its detachment, and reading it back.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hypercall_abi::ids::DomId;

use super::{Node, paths, split_device};
use crate::disk::{Access, Disk, Kind};

/// The nodes of a disk.
pub fn vbd(domid: DomId, disk: &Disk) -> Vec<Node> {
    let number = disk.vdev.number();
    let device_type = match disk.kind {
        Kind::Disk => "disk",
        Kind::Cdrom => "cdrom",
    };
    let front = [
        ("virtual-device", number.to_string()),
        ("device-type", device_type.to_string()),
        ("trusted", "1".to_string()),
    ];
    split_device(paths::VBD, domid, number, &front, &settings(domid, disk, device_type))
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
