//! The head of an arm64 `Image` (Linux Documentation/arch/arm64/booting.rst), and what every format boils down to.

use super::error::ImageError;
use crate::addr::{Ipa, Region};
use crate::layout::{KERNEL_ALIGN, RAM0_BASE, RAM0_SIZE};

/// Bytes of an `Image` header.
pub(super) const HEADER_LEN: usize = 64;
/// `ARM\x64` at offset 56.
const MAGIC: u32 = 0x644d_5241;
/// What old kernels, whose `image_size` is 0, mean by `text_offset`.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;

/// The kind of a kernel file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// arm64 `Image`.
    Image,
    /// ELF64.
    Elf,
}

/// A kernel as its head describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// The kind.
    pub format: Format,
    /// Memory the kernel occupies, uninitialised data included.
    pub region: Region,
    /// Where the first vCPU starts.
    pub entry: Ipa,
    /// Set when the file's bytes go to memory one to one from here: a caller may then read the file straight into the
    /// guest instead of feeding the loader.
    pub verbatim: Option<Ipa>,
}

/// Reads the little-endian `u64` at `offset`.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let field = bytes.get(offset..offset.checked_add(8)?)?;
    Some(u64::from_le_bytes(field.try_into().ok()?))
}

/// Reads the little-endian `u32` at `offset`.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// Reads the little-endian `u16` at `offset`.
pub(super) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..offset.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

/// Whether the bytes start an `Image`.
pub(super) fn is_image(head: &[u8]) -> bool {
    u32_at(head, 56) == Some(MAGIC)
}

/// Reads an `Image` header. `file_size` bounds kernels that do not know their own size.
pub(super) fn parse(head: &[u8], file_size: Option<u64>) -> Result<Kernel, ImageError> {
    let truncated = ImageError::Truncated { part: "the Image header" };
    let text_offset = u64_at(head, 8).ok_or(truncated)?;
    let image_size = u64_at(head, 16).ok_or(truncated)?;
    let (text_offset, size) = match image_size {
        0 => (OLD_TEXT_OFFSET, file_size.ok_or(ImageError::Field { field: "Image image_size", value: 0 })?),
        size => (text_offset, size),
    };
    if text_offset >= KERNEL_ALIGN {
        return Err(ImageError::Field { field: "Image text_offset", value: text_offset });
    }
    if size > RAM0_SIZE - KERNEL_ALIGN || size < HEADER_LEN as u64 {
        return Err(ImageError::Field { field: "Image image_size", value: size });
    }
    if let Some(file_size) = file_size.filter(|&file_size| file_size > size) {
        return Err(ImageError::Field { field: "Image image_size, smaller than the file", value: size.min(file_size) });
    }
    let start = Ipa::new(RAM0_BASE.get() + text_offset);
    let region = Region::clamped(start, size);
    Ok(Kernel { format: Format::Image, region, entry: start, verbatim: None })
}
