//! The nodes of a domain's consoles: the PV console and the emulated UART.
//!
//! Console 0 predates XenBus: ring and port are in the guest's own directory, which it may only read.

use alloc::string::ToString;
use alloc::vec::Vec;

use hypercall_abi::ids::{DomId, Port};

use super::{Node, Perms, paths};
use crate::layout::MagicPage;

/// How many bytes of output the console keeps (libxl's `LIBXL_XENCONSOLE_LIMIT`).
const LIMIT: u32 = 1 << 20;

/// The nodes of the PV console.
pub fn console(domid: DomId, port: Port) -> Vec<Node> {
    let front = alloc::format!("{}/console", paths::domain(domid));
    let back = alloc::format!("{}/0", paths::backends("console", domid));
    let mut nodes = front_end(domid, &front, &back);
    nodes.push(Node::plain(&front, "output", "pty"));
    nodes.push(Node::plain(&front, "tty", ""));
    nodes.extend(keeper(&front));
    nodes.push(Node::plain(&front, "port", port.to_string()));
    nodes.push(Node::plain(&front, "ring-ref", MagicPage::Console.gfn().to_string()));
    nodes.extend(back_end(domid, &front, &back));
    nodes
}

/// The nodes of the emulated UART. It has no ring: whoever emulates it has what it says.
pub fn vuart(domid: DomId) -> Vec<Node> {
    let front = alloc::format!("{}/vuart/0", paths::domain(domid));
    let back = alloc::format!("{}/0", paths::backends("vuart", domid));
    let mut nodes = front_end(domid, &front, &back);
    nodes.extend(keeper(&front));
    nodes.extend(back_end(domid, &front, &back));
    nodes
}

/// Who keeps what the console says, and how much of it.
fn keeper(front: &str) -> [Node; 2] {
    [Node::plain(front, "limit", LIMIT.to_string()), Node::plain(front, "type", "xenconsoled")]
}

fn front_end(domid: DomId, front: &str, back: &str) -> Vec<Node> {
    alloc::vec![
        Node::with(front, "", "", Perms::readable_by(domid)),
        Node::plain(front, "backend", back),
        Node::plain(front, "backend-id", "0"),
    ]
}

fn back_end(domid: DomId, front: &str, back: &str) -> Vec<Node> {
    alloc::vec![
        Node::with(back, "", "", Perms::readable_by(domid)),
        Node::plain(back, "frontend", front),
        Node::plain(back, "frontend-id", domid.to_string()),
        Node::plain(back, "online", "1"),
        Node::plain(back, "protocol", "vt100"),
        Node::plain(back, "state", "1"),
    ]
}
