//! What of the address space can be reached, and how.
//!
//! At start the image, the FDT and RAM are mapped; a driver maps its registers, a back end its window for
//! foreign pages. The mapping is always one to one.
//!
//! Example: `examples/device.rs`.

use crate::addr::IpaRange;

/// How a range is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Executable, read-only.
    Code,
    /// Read-only.
    Constant,
    /// Readable and writable, cacheable: RAM, and pages shared with other domains.
    Normal,
    /// Readable and writable, uncached and in order: registers.
    Device,
}

/// Why a range could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// Beyond 512 GiB.
    OutOfRange,
    /// Part of it is mapped already, in another way.
    Conflict,
    /// No page is free for a translation table.
    OutOfTables,
}

impl core::fmt::Display for MapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "beyond 512 GiB",
            Self::Conflict => "mapped already in another way",
            Self::OutOfTables => "no page is free for a translation table",
        })
    }
}

impl core::error::Error for MapError {}

/// Makes device registers reachable; the range grows to whole pages.
///
/// # Errors
/// See [`MapError`].
pub fn map_device(range: IpaRange) -> Result<(), MapError> {
    crate::sys::mmu::map_range(range.page_cover(), Memory::Device)
}

/// Makes a range reachable into which pages of other domains or of the hypervisor are put; it grows to whole
/// pages. Until a page is put there, an access faults.
///
/// # Errors
/// See [`MapError`].
pub fn map_window(range: IpaRange) -> Result<(), MapError> {
    crate::sys::mmu::map_range(range.page_cover(), Memory::Normal)
}

pub(crate) fn map_ram(range: IpaRange) -> Result<(), MapError> {
    crate::sys::mmu::map_range(range, Memory::Normal)
}
