//! What can be wrong with an FDT, and where.

use core::fmt;

use dtoolkit::error::FdtParseError;
use heapless::String;

/// A fault and the node and property that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdtError {
    /// Path of the node; cut when it is longer than this.
    pub path: String<48>,
    /// The property, or the part of the file.
    pub field: &'static str,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The file itself cannot be walked.
    Broken(FdtParseError),
    /// It is not there.
    Missing,
    /// It is no whole number of entries, or a value in it makes no sense.
    Malformed,
    /// There are more than we have room for.
    TooMany,
    /// It is longer than we have room for.
    TooLong,
    /// It names something that we cannot work with.
    Unsupported,
}

impl FdtError {
    /// A fault of `field` in the node at `path`.
    pub fn new(path: &str, field: &'static str, fault: Fault) -> Self {
        let shown = path.get(..path.floor_char_boundary(48)).and_then(|cut| String::try_from(cut).ok());
        FdtError { path: shown.unwrap_or_default(), field, fault }
    }
}

impl fmt::Display for FdtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FDT: {}: {}: ", self.path, self.field)?;
        match &self.fault {
            Fault::Broken(error) => write!(f, "{error}"),
            Fault::Missing => f.write_str("missing"),
            Fault::Malformed => f.write_str("malformed"),
            Fault::TooMany => f.write_str("too many entries"),
            Fault::TooLong => f.write_str("too long"),
            Fault::Unsupported => f.write_str("not supported"),
        }
    }
}
