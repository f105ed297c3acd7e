//! Why a file operation did not happen.

use core::fmt;

use driver_api::DiskError;

/// An error of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FatError {
    /// The disk failed.
    Disk(DiskError),
    /// The disk holds no FAT32 file system: this field of the boot sector is wrong.
    NotFat32(&'static str),
    /// The file system is damaged: this structure cannot be followed.
    Corrupt(&'static str),
    /// No such file or directory.
    NotFound,
    /// There is one of that name already.
    Exists,
    /// A component of the path is a file.
    NotADirectory,
    /// A file was expected.
    IsADirectory,
    /// The directory is not empty.
    NotEmpty,
    /// The name is empty, too long, or has a character that FAT does not allow.
    BadName,
    /// No free cluster is left, or the directory is as large as it may be.
    NoSpace,
    /// A file cannot be larger than 4 GiB less one byte.
    TooLarge,
    /// The file is open.
    Busy,
}

impl fmt::Display for FatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => fmt::Display::fmt(error, f),
            Self::NotFat32(field) => write!(f, "not a FAT32 file system: {field}"),
            Self::Corrupt(what) => write!(f, "the file system is damaged: {what}"),
            Self::NotFound => f.write_str("no such file or directory"),
            Self::Exists => f.write_str("file exists"),
            Self::NotADirectory => f.write_str("not a directory"),
            Self::IsADirectory => f.write_str("is a directory"),
            Self::NotEmpty => f.write_str("directory not empty"),
            Self::BadName => f.write_str("bad file name"),
            Self::NoSpace => f.write_str("no space left"),
            Self::TooLarge => f.write_str("file too large"),
            Self::Busy => f.write_str("file is in use"),
        }
    }
}

impl core::error::Error for FatError {}

impl From<DiskError> for FatError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}
