//! Kernel files: arm64 `Image`, the same under gzip, and ELF64.
//!
//! A kernel is some 30 MB and Dom0 reads it in pieces, so everything here is fed: [`Loader::feed`] takes a piece of the
//! file and hands out `(address, bytes)` to write into the guest. The head of the file decides where the kernel lies
//! ([`Loader::probe`]), which the device tree needs before the rest is read.

mod elf;
mod error;
mod gzip;
mod header;
mod loader;
#[cfg(test)]
mod tests;

pub use error::{ImageError, LoadError};
pub use header::{Format, Kernel};
pub use loader::Loader;
