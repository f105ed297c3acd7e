//! The XenStore nodes that the toolstack makes for a domain and its devices, as lists to write in one transaction.
//!
//! Guests, their drivers and scripts read these paths, so they are those of Xen's `libxl` on Arm.

mod console;
mod domain;
pub mod paths;
mod split;
#[cfg(test)]
mod tests;
mod vbd;
mod vif;

use alloc::string::String;

use hypercall_abi::ids::DomId;

pub use console::{console, vuart};
pub use domain::{DomainNodes, identity, removal};
use split::split_device;
pub use split::{detach, device_removal};
pub use vbd::{VbdInfo, vbd, vbd_info};
pub use vif::{vif, vif_info};

/// Who may do what with a node: its owner everything, one other domain may read, the rest nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Perms {
    /// The owner.
    pub owner: DomId,
    /// The domain that may read, if any.
    pub reader: Option<DomId>,
}

impl Perms {
    /// Dom0's own.
    pub const PRIVATE: Self = Self { owner: DomId::DOM0, reader: None };

    /// Dom0's, readable by `guest`.
    pub const fn readable_by(guest: DomId) -> Self {
        Self { owner: DomId::DOM0, reader: Some(guest) }
    }

    /// The guest's own. Dom0 reads everything anyway.
    pub const fn owned_by(guest: DomId) -> Self {
        Self { owner: guest, reader: None }
    }

    /// The guest's, readable by its back end in Dom0: a front end's directory.
    pub const fn front_end(guest: DomId) -> Self {
        Self { owner: guest, reader: Some(DomId::DOM0) }
    }

    /// The permissions as `XS_SET_PERMS` takes them, each ended by a zero byte (Xen docs/misc/xenstore.txt).
    pub fn wire(&self) -> String {
        match self.reader {
            Some(reader) => alloc::format!("n{}\0r{reader}\0", self.owner),
            None => alloc::format!("n{}\0", self.owner),
        }
    }
}

/// One node to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Absolute path.
    pub path: String,
    /// Its value.
    pub value: String,
    /// Permissions to set; `None` leaves those inherited from the parent.
    pub perms: Option<Perms>,
}

impl Node {
    /// A node below `base` that inherits its permissions.
    pub(crate) fn plain(base: &str, name: &str, value: impl Into<String>) -> Self {
        Self { path: alloc::format!("{base}/{name}"), value: value.into(), perms: None }
    }

    /// A node with permissions of its own; `name` may be empty, for `base` itself.
    pub(crate) fn with(base: &str, name: &str, value: impl Into<String>, perms: Perms) -> Self {
        let path = if name.is_empty() { base.into() } else { alloc::format!("{base}/{name}") };
        Self { path, value: value.into(), perms: Some(perms) }
    }
}
