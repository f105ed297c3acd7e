//! Access to memory that another domain can change at any time.

pub use crate::sys::raw::Shared;
