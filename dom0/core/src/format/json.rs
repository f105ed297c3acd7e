//! Pretty-printed JSON in the layout that `xl` gets from its library: four blanks, one item to a line.
//!
//! A writer of some fifty lines instead of serde: the one document that Dom0 prints is written once, in order.

use core::fmt::{self, Write};

/// Writes one document.
pub(super) struct Json<'a, W> {
    out: &'a mut W,
    depth: usize,
    /// Nothing stands in the innermost container yet.
    first: bool,
}

impl<'a, W: Write> Json<'a, W> {
    pub(super) fn new(out: &'a mut W) -> Self {
        Self { out, depth: 0, first: true }
    }

    /// Starts an item: a comma after the one before, a line, the indentation.
    fn item(&mut self) -> fmt::Result {
        if self.depth == 0 {
            return Ok(());
        }
        self.out.write_str(if self.first { "\n" } else { ",\n" })?;
        self.first = false;
        for _ in 0..self.depth {
            self.out.write_str("    ")?;
        }
        Ok(())
    }

    /// A container without a key.
    pub(super) fn nested(&mut self, brackets: [char; 2], fill: impl FnOnce(&mut Self) -> fmt::Result) -> fmt::Result {
        self.item()?;
        self.container(brackets, fill)
    }

    /// A container under a key.
    pub(super) fn under(
        &mut self,
        key: &str,
        brackets: [char; 2],
        fill: impl FnOnce(&mut Self) -> fmt::Result,
    ) -> fmt::Result {
        self.key(key)?;
        self.container(brackets, fill)
    }

    /// A number under a key.
    pub(super) fn number(&mut self, key: &str, value: u64) -> fmt::Result {
        self.key(key)?;
        write!(self.out, "{value}")
    }

    /// A string under a key.
    pub(super) fn text(&mut self, key: &str, value: &str) -> fmt::Result {
        self.key(key)?;
        self.string(value)
    }

    /// A number in a list.
    pub(super) fn element(&mut self, value: u64) -> fmt::Result {
        self.item()?;
        write!(self.out, "{value}")
    }

    fn key(&mut self, key: &str) -> fmt::Result {
        self.item()?;
        self.string(key)?;
        self.out.write_str(": ")
    }

    fn container(&mut self, [open, close]: [char; 2], fill: impl FnOnce(&mut Self) -> fmt::Result) -> fmt::Result {
        self.out.write_char(open)?;
        self.depth += 1;
        self.first = true;
        fill(self)?;
        self.depth -= 1;
        let empty = core::mem::replace(&mut self.first, false);
        if !empty {
            self.out.write_str("\n")?;
            for _ in 0..self.depth {
                self.out.write_str("    ")?;
            }
        }
        self.out.write_char(close)
    }

    fn string(&mut self, text: &str) -> fmt::Result {
        self.out.write_char('"')?;
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(self.out, "\\{c}")?,
                '\n' => self.out.write_str("\\n")?,
                '\r' => self.out.write_str("\\r")?,
                '\t' => self.out.write_str("\\t")?,
                c if c < ' ' => write!(self.out, "\\u{:04x}", u32::from(c))?,
                c => self.out.write_char(c)?,
            }
        }
        self.out.write_char('"')
    }
}

/// Brackets of a list.
pub(super) const LIST: [char; 2] = ['[', ']'];
/// Brackets of a map.
pub(super) const MAP: [char; 2] = ['{', '}'];
