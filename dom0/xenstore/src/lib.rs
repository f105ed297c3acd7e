//! XenStore: the small database through which Dom0, its back ends and the guests' front ends find each other.
//!
//! This crate is the server's logic and nothing else: no I/O, no clock, no threads. Bytes of the wire protocol
//! (Xen public/io/xs_wire.h, docs/misc/xenstore.txt) go in per connection and come out per connection, and the same
//! calls in the same order always give the same result. Who moves the bytes is the *transport*: Dom0's image today,
//! a store domain tomorrow.
//!
//! # For the transport
//!
//! ```
//! use hypercall_abi::ids::{DomId, Gfn, Port};
//! use xenstore::{Action, ConnKind, Reply, Request, Store, TxId};
//!
//! let mut store = Store::default();
//! // Each component of Dom0 has a connection of its own, and speaks through it by value.
//! let toolstack = store.connect(ConnKind::Local)?;
//! let introduce = Request::Introduce { domid: DomId(7), gfn: Gfn(0x39001), port: Port(1) };
//! store.request(toolstack, TxId::NONE, introduce)?;
//!
//! // What the store wants done comes out as actions: here, map the ring, bind the port, and connect.
//! while let Some(action) = store.take_action() {
//!     match action {
//!         Action::Introduce { domid, .. } => {
//!             let guest = store.connect(ConnKind::Domain { domid })?;
//!             // `req_cons` advances by what `input` took.
//!             let bytes = [0_u8; 5];
//!             let taken = store.input(guest, &bytes)?;
//!             assert_eq!(taken, 5);
//!         }
//!         Action::Release { .. } => {}
//!     }
//! }
//!
//! // After any call that may have caused output, serve whoever has some: the requester and those who watch.
//! while let Some(conn) = store.take_ready() {
//!     let bytes = store.output(conn);
//!     let written = bytes.len(); // as much as fits the ring
//!     store.consume(conn, written);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Store::input`] takes any fragment. It takes less than given while the client leaves too many replies unread;
//!   try again after the client made room and [`Store::output`] was served. A [`Fault`] means that the client broke
//!   the protocol: write `ERROR_PROTO` to its ring page and leave it alone until [`Store::reset`] or its end. Ring
//!   indices out of range are the transport's to notice: [`Store::disconnect`].
//! - [`Store::domain_shut_down`] when a domain stops, [`Store::domain_died`] for every domain that is destroyed,
//!   before its number is used again. What the domain owned in the store is removed then.
//!
//! # For components in the same image
//!
//! [`Store::request`] and [`Store::take_event`] do what a message would do, with the same rights, quotas, watches and
//! errors, and without the bytes. A component that uses nothing else can move into a domain of its own and send the
//! same requests over a ring. Two liberties: a directory listing is not limited to one message here, and relative
//! paths of a [`ConnKind::Local`] connection are below Dom0's home.
//!
//! # Where it differs from Xen's xenstored
//!
//! - Transactions see one consistent state, and conflict only over what they used: a node's value and permissions,
//!   its list of children if listed, a path found absent (`footprint`).
//! - Children are listed in the order of their names.
//! - A domain that does not read gets its events merged instead of being cut off after a time (`queue`).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod audit;
mod change;
mod children;
mod codec;
mod conn;
mod domains;
mod error;
mod exec;
mod footprint;
mod ids;
mod lens;
mod pages;
mod path;
mod perms;
mod queue;
mod quota;
mod request;
mod store;
mod transaction;
mod tree;
mod watch;

pub use conn::{ConnKind, Fault};
pub use error::{Error, Resource};
pub use ids::{ConnId, TxId};
pub use path::{ABS_PATH_MAX, INTRODUCE_DOMAIN, REL_PATH_MAX, RELEASE_DOMAIN, home};
pub use perms::{Access, Grant, Perms};
pub use quota::Quotas;
pub use request::{Action, Reply, Request, WatchEvent};
pub use store::Store;
