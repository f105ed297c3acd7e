//! Typed look-ups in a well-formed configuration: each names its key when the value does not suit.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use super::error::{ConfigError, Problem};
use super::syntax::{RawConfig, Setting, Value, number};

impl RawConfig {
    /// The setting of `key`, if there is one.
    pub(super) fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// A string; numbers count as strings.
    pub(super) fn text(&self, key: &'static str) -> Result<Option<&str>, ConfigError> {
        let Some(setting) = self.setting(key) else {
            return Ok(None);
        };
        match &setting.value {
            Value::Atom(text) => Ok(Some(text)),
            Value::List(_) => Err(setting.wrong_type(key, "a string")),
        }
    }

    /// A string that is not empty: the keys that name files and domains.
    pub(super) fn name(&self, key: &'static str) -> Result<Option<&str>, ConfigError> {
        match (self.text(key)?, self.setting(key)) {
            (Some(""), Some(setting)) => Err(setting.bad_value(key, "", "a name")),
            (text, _) => Ok(text),
        }
    }

    /// A number from `min` to `max`.
    pub(super) fn number(&self, key: &'static str, min: u64, max: u64) -> Result<Option<u64>, ConfigError> {
        let Some(setting) = self.setting(key) else {
            return Ok(None);
        };
        let Value::Atom(text) = &setting.value else {
            return Err(setting.wrong_type(key, "a number"));
        };
        let value = number(text.trim()).ok_or_else(|| setting.wrong_type(key, "a number"))?;
        if value < min || value > max {
            return Err(setting.error(Problem::OutOfRange { key, value, min, max }));
        }
        Ok(Some(value))
    }

    /// A number that fits 32 bits, from `min` to `max`.
    pub(super) fn number32(&self, key: &'static str, min: u32, max: u32) -> Result<Option<u32>, ConfigError> {
        let value = self.number(key, u64::from(min), u64::from(max))?;
        Ok(value.and_then(|value| u32::try_from(value).ok()))
    }

    /// A list of strings, with the setting it came from for errors about an item.
    pub(super) fn list(&self, key: &'static str) -> Result<Option<(&Setting, Vec<&str>)>, ConfigError> {
        let Some(setting) = self.setting(key) else {
            return Ok(None);
        };
        let Value::List(values) = &setting.value else {
            return Err(setting.wrong_type(key, "a list of strings"));
        };
        let mut items = Vec::with_capacity(values.len());
        for value in values {
            match value {
                Value::Atom(text) => items.push(text.as_str()),
                Value::List(_) => return Err(setting.wrong_type(key, "a list of strings")),
            }
        }
        Ok(Some((setting, items)))
    }

    /// The error of a key that must be there.
    pub(super) fn missing(&self, key: &'static str) -> ConfigError {
        ConfigError { source: self.source.clone(), line: 0, problem: Problem::Missing(key) }
    }
}

impl Setting {
    /// `problem` at this setting's place.
    pub(super) fn error(&self, problem: Problem) -> ConfigError {
        ConfigError { source: self.source.clone(), line: self.line, problem }
    }

    /// The value has the wrong type.
    pub(super) fn wrong_type(&self, key: &'static str, expected: &'static str) -> ConfigError {
        self.error(Problem::WrongType { key, expected })
    }

    /// The value means nothing.
    pub(super) fn bad_value(&self, key: &'static str, value: &str, expected: &'static str) -> ConfigError {
        self.error(Problem::BadValue { key, value: value.to_owned(), expected })
    }
}

/// A path as Dom0's file system takes it: one that does not start at the root is taken from the folder of the
/// configuration file, so that a folder of guests can be moved as a whole.
pub(super) fn resolve(source: &str, path: &str) -> String {
    match source.rsplit_once('/') {
        Some((folder, _)) if !path.starts_with('/') => alloc::format!("{folder}/{path}"),
        _ => path.to_owned(),
    }
}
