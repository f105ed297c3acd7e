//! What a front end has published in the store, read as text from a stranger.

use alloc::string::{String, ToString};
use core::fmt;

/// A key that the front end wrote wrongly or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFrontEnd {
    /// The key.
    pub key: String,
    /// Its value, if there is one.
    pub value: Option<String>,
}

impl fmt::Display for BadFrontEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "the front end's {} is {value:?}", self.key),
            None => write!(f, "the front end has no {}", self.key),
        }
    }
}

impl core::error::Error for BadFrontEnd {}

/// The key's value, if the front end has written it.
///
/// # Errors
/// It cannot be understood.
pub fn optional<T: core::str::FromStr>(
    key: &str,
    lookup: &mut impl FnMut(&str) -> Option<String>,
) -> Result<Option<T>, BadFrontEnd> {
    let Some(value) = lookup(key) else {
        return Ok(None);
    };
    match value.trim().parse() {
        Ok(parsed) => Ok(Some(parsed)),
        Err(_) => Err(BadFrontEnd { key: key.to_string(), value: Some(value) }),
    }
}

/// The key's value.
///
/// # Errors
/// It is missing or cannot be understood.
pub fn required<T: core::str::FromStr>(
    key: &str,
    lookup: &mut impl FnMut(&str) -> Option<String>,
) -> Result<T, BadFrontEnd> {
    optional(key, lookup)?.ok_or_else(|| BadFrontEnd { key: key.to_string(), value: None })
}
