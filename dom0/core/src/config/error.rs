//! What can be wrong with a configuration, as one line `file:line: cause`.

use alloc::string::String;
use core::fmt;

use crate::disk::DiskError;
use crate::vif::VifError;

/// A configuration that is refused: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name as it was given, or [`super::COMMAND_LINE`].
    pub source: String,
    /// Line in the file, counted from 1; 0 when no single line is to blame (a missing key).
    pub line: u32,
    /// The cause.
    pub problem: Problem,
}

/// The cause of a [`ConfigError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// A character that starts no token.
    BadCharacter(char),
    /// A string that its line does not close.
    OpenString,
    /// A backslash sequence that means nothing.
    BadEscape,
    /// Something else stands where the grammar wants `expected`.
    Expected {
        /// What the grammar wants here.
        expected: &'static str,
        /// What stands here.
        found: String,
    },
    /// Lists inside lists beyond the depth that any key uses.
    TooDeep,
    /// A key that is not one of `xl.cfg`'s, or not one that is honoured.
    UnknownKey(String),
    /// A key that must be there and is not.
    Missing(&'static str),
    /// The value has the wrong type.
    WrongType {
        /// The key.
        key: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A number outside the key's range.
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The number given.
        value: u64,
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
    },
    /// A value that is of the right type but means nothing.
    BadValue {
        /// The key.
        key: &'static str,
        /// The value given.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// A disk specification that is refused.
    Disk {
        /// The specification as written.
        spec: String,
        /// Why.
        error: DiskError,
    },
    /// An interface specification that is refused.
    Vif {
        /// The specification as written.
        spec: String,
        /// Why.
        error: VifError,
    },
    /// Two disks that the guest would see under one number.
    DuplicateVdev(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.source, self.problem),
            line => write!(f, "{}:{line}: {}", self.source, self.problem),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadCharacter(c) => write!(f, "unexpected character {c:?}"),
            Self::OpenString => write!(f, "string is not closed"),
            Self::BadEscape => write!(f, "bad escape sequence in string"),
            Self::Expected { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::TooDeep => write!(f, "lists are nested too deeply"),
            Self::UnknownKey(key) => write!(f, "unknown key '{key}'"),
            Self::Missing(key) => write!(f, "key '{key}' is missing"),
            Self::WrongType { key, expected } => write!(f, "key '{key}' must be {expected}"),
            Self::OutOfRange { key, value, min, max } => {
                write!(f, "key '{key}': {value} is not between {min} and {max}")
            }
            Self::BadValue { key, value, expected } => {
                write!(f, "key '{key}': '{value}' is not {expected}")
            }
            Self::Disk { spec, error } => write!(f, "key 'disk': '{spec}': {error}"),
            Self::Vif { spec, error } => write!(f, "key 'vif': '{spec}': {error}"),
            Self::DuplicateVdev(vdev) => write!(f, "key 'disk': vdev '{vdev}' is used twice"),
        }
    }
}

impl core::error::Error for ConfigError {}
