//! Grants: letting another domain use a page of ours, and using a page of another's.
//!
//! Both directions are owned values. A [`GrantedPage`] ends the access when it is dropped; if the other side
//! still has the page mapped, page and entry are given up for good, because reusing either would let the other
//! side into what comes next. A [`MappedGrant`] unmaps when it is dropped.
//!
//! Example: `examples/grant.rs`.

mod foreign;
mod own;

pub use foreign::{MapGrantError, MapRequest, MappedGrant, WindowError, set_window};
pub use own::GrantedPage;
pub(crate) use own::any;

/// What the other domain may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}
