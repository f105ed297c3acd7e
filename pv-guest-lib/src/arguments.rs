//! The command line as words: `name`, or `name=value`.
//!
//! Example: `examples/hello.rs`.

use core::str::FromStr;

/// The command line of the domain.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    line: &'static str,
}

impl Arguments {
    pub(crate) const fn new(line: &'static str) -> Self {
        Self { line }
    }

    /// Whether `word` stands there by itself.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.words().any(|found| found == word)
    }

    /// The value of the first word `name=value`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'static str> {
        self.words().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The value of the first word `name=value` as a number, or whatever `T` parses; `default` when there is none or it
    /// cannot be parsed.
    #[must_use]
    pub fn parsed<T: FromStr>(&self, name: &str, default: T) -> T {
        self.value(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// The words, one after the other.
    pub fn words(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.line.split_ascii_whitespace()
    }
}
