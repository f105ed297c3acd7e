//! What the nodes of all split devices have in common, whatever the device.

use alloc::string::String;
use alloc::vec::Vec;

use hypercall_abi::ids::DomId;
use hypercall_abi::xenbus::XenbusState;

use super::{Node, Perms, paths};

/// Names and values of a directory's nodes.
type Values<'a> = &'a [(&'static str, String)];

/// The nodes of a device: front end, back end, and the toolstack's own copy of what it told the back end. The `state` of both sides
/// comes last, so that a watcher outside a transaction sees complete directories.
pub(super) fn split_device(
    kind: &str,
    domid: DomId,
    number: u32,
    front_end: Values<'_>,
    back_end: Values<'_>,
) -> Vec<Node> {
    let (front, back) = (paths::frontend(kind, domid, number), paths::backend(kind, domid, number));
    let own = paths::device(kind, domid, number);
    let mut nodes = alloc::vec![
        Node::with(&front, "", "", Perms::front_end(domid)),
        Node::plain(&front, "backend", back.clone()),
        Node::plain(&front, "backend-id", "0"),
        Node::with(&back, "", "", Perms::readable_by(domid)),
        Node::plain(&back, "frontend", front.clone()),
        Node::with(&own, "", "", Perms::PRIVATE),
        Node::plain(&own, "frontend", front.clone()),
        Node::plain(&own, "backend", back.clone()),
    ];
    nodes.extend(front_end.iter().map(|(name, value)| Node::plain(&front, name, value.clone())));
    for (name, value) in back_end {
        nodes.push(Node::plain(&own, name, value.clone()));
        nodes.push(Node::plain(&back, name, value.clone()));
    }
    for directory in [&own, &front, &back] {
        nodes.push(Node::plain(directory, "state", XenbusState::Initialising.as_str()));
    }
    nodes
}

/// The writes that ask for a device's removal: the front end sees the back end close, and lets go.
pub fn detach(kind: &str, domid: DomId, number: u32) -> [Node; 2] {
    let back = paths::backend(kind, domid, number);
    [Node::plain(&back, "online", "0"), Node::plain(&back, "state", XenbusState::Closing.as_str())]
}

/// The paths to remove once a device's back end is closed.
pub fn device_removal(kind: &str, domid: DomId, number: u32) -> [String; 3] {
    [paths::frontend(kind, domid, number), paths::backend(kind, domid, number), paths::device(kind, domid, number)]
}
