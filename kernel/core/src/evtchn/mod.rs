//! Event channels, 2-level ABI: ports of a domain, what they are connected to, and the calls on them.
//!
//! A port is one word, so its state has no lock; two ports are connected while each names the other. Which free port
//! is next is under a lock of the domain, with nothing but the frame table's taken under it.

mod bind;
mod deliver;
mod ops;
mod port;
#[cfg(test)]
mod tests;

pub use bind::{alloc_for_uart, alloc_unbound, bind_virq, close, close_all};
pub use deliver::{is_pending, mark_vcpu_pending, send, send_global_virq, virq_port};
pub use ops::op;
pub use port::Events;
