//! What can be wrong with a kernel file, by the name of the field.

use core::fmt;

use crate::addr::Region;

/// A kernel file that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageError {
    /// Neither an arm64 `Image`, nor gzip, nor ELF.
    UnknownFormat,
    /// The file ends early.
    Truncated {
        /// The part that is not all there.
        part: &'static str,
    },
    /// A field has a value that does not suit.
    Field {
        /// The format and field, such as `ELF e_machine`.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// The compressed data is damaged.
    Deflate,
    /// The checksum in the gzip trailer does not match.
    Checksum,
    /// The kernel writes outside the region it announced in its head.
    Outside {
        /// What the head announced.
        kernel: Region,
    },
    /// The ELF file has no segment to load.
    NoSegments,
    /// Segments of the ELF file are not in the order of their file offsets, or overlap; it cannot be streamed.
    SegmentOrder,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFormat => write!(f, "is neither an arm64 Image (plain or gzip) nor an ELF file"),
            Self::Truncated { part } => write!(f, "is truncated in {part}"),
            Self::Field { field, value } => write!(f, "has a bad {field} ({value:#x})"),
            Self::Deflate => write!(f, "has damaged gzip data"),
            Self::Checksum => write!(f, "has a gzip checksum that does not match"),
            Self::Outside { kernel } => write!(f, "has data outside the memory its header claims ({kernel})"),
            Self::NoSegments => write!(f, "has no ELF segment to load"),
            Self::SegmentOrder => write!(f, "has ELF segments that overlap in memory or are out of file order"),
        }
    }
}

impl core::error::Error for ImageError {}

/// Why loading stopped: the file is at fault, or the memory it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadError<E> {
    /// The kernel file.
    Image(ImageError),
    /// The caller's sink refused a write.
    Sink(E),
}

impl<E> From<ImageError> for LoadError<E> {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => error.fmt(f),
            Self::Sink(error) => error.fmt(f),
        }
    }
}
