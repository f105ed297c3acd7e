//! The nodes of a domain's consoles: the PV console and the ring behind the emulated UART.
//!
//! Console 0 predates XenBus: ring and port are in the guest's own directory, which it may only read.

use alloc::string::{String, ToString};
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
    let mut nodes = back_end(domid, &front, &back);
    nodes.push(Node::with(&front, "", "", Perms::readable_by(domid)));
    nodes.push(Node::plain(&front, "backend", back));
    nodes.push(Node::plain(&front, "backend-id", "0"));
    nodes.push(Node::plain(&front, "output", "pty"));
    nodes.push(Node::plain(&front, "tty", ""));
    nodes.extend(ring(&front, MagicPage::Console, port));
    nodes
}

/// The nodes of the emulated UART's ring.
pub fn vuart(domid: DomId, port: Port) -> Vec<Node> {
    let front = alloc::format!("{}/vuart/0", paths::domain(domid));
    let back = alloc::format!("{}/0", paths::backends("vuart", domid));
    let mut nodes = back_end(domid, &front, &back);
    nodes.push(Node::with(&front, "", "", Perms::readable_by(domid)));
    nodes.push(Node::plain(&front, "backend", back));
    nodes.push(Node::plain(&front, "backend-id", "0"));
    nodes.extend(ring(&front, MagicPage::Vuart, port));
    nodes
}

fn ring(front: &str, page: MagicPage, port: Port) -> [Node; 4] {
    let plain = |name: &str, value: String| Node::plain(front, name, value);
    [
        plain("limit", LIMIT.to_string()),
        plain("type", "xenconsoled".to_string()),
        plain("port", port.to_string()),
        plain("ring-ref", page.gfn().to_string()),
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
