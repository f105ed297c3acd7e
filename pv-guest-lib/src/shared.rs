//! Access to memory that another domain can change at any time.
//!
//! Example: `examples/grant.rs`.

pub use crate::sys::raw::Shared;
