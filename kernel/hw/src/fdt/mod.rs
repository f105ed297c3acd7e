//! The boot FDT: the only text that EL2 parses, and the only user of dtoolkit.
//!
//! It comes from firmware and boot loader, who could do anything to us anyway; still a malformed one must end in
//! an error that names the node and the field, not in a panic.

mod discover;
mod edit;
mod error;
mod walk;

pub use discover::{Discovered, console, discover};
pub use edit::{Dom0View, for_dom0};
pub use error::{Fault, FdtError};

/// Length of the FDT whose header begins with these words (magic, total size); `None` if it is none, or larger
/// than the boot protocol allows.
pub fn total_size(magic: u32, size: u32) -> Option<u64> {
    const LARGEST: u32 = 2 << 20;
    let (magic, size) = (u32::from_be(magic), u32::from_be(size));
    (magic == edit::MAGIC && (48..=LARGEST).contains(&size)).then_some(u64::from(size))
}

fn parse(blob: &[u8]) -> Result<dtoolkit::fdt::Fdt<'_>, FdtError> {
    dtoolkit::fdt::Fdt::new(blob).map_err(|error| FdtError::new("(file)", "structure", Fault::Broken(error)))
}

#[cfg(test)]
mod tests;
