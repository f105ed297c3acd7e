//! The line being edited: printable ASCII, so that one byte is one column.

use alloc::string::String;

/// Text and cursor.
#[derive(Default)]
pub(super) struct Buffer {
    text: String,
    cursor: usize,
    /// Set when characters went away, which the terminal must be told.
    shortened: bool,
}

impl Buffer {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or("")
    }

    pub(super) fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or("")
    }

    /// Columns from the cursor to the end.
    pub(super) fn behind(&self) -> usize {
        self.text.len().saturating_sub(self.cursor)
    }

    /// Takes printable ASCII only; the key decoder lets nothing else through.
    pub(super) fn insert(&mut self, c: char) {
        if (' '..='~').contains(&c) && self.text.is_char_boundary(self.cursor) {
            self.text.insert(self.cursor, c);
            self.cursor += 1;
        }
    }

    pub(super) fn move_to(&mut self, cursor: usize) {
        self.cursor = cursor.min(self.text.len());
    }

    /// Removes from `start` to before `end` and leaves the cursor at `start`.
    pub(super) fn remove(&mut self, start: usize, end: usize) {
        let end = end.min(self.text.len());
        if start < end {
            self.text.drain(start..end);
            self.shortened = true;
        }
        self.move_to(start);
    }

    /// Where the word before the cursor starts.
    pub(super) fn word_start(&self) -> usize {
        let word_end = self.before().trim_end_matches(' ').len();
        self.before().get(..word_end).and_then(|text| text.rfind(' ')).map_or(0, |blank| blank + 1)
    }

    pub(super) fn set(&mut self, text: String) {
        self.cursor = text.len();
        self.text = text;
    }

    pub(super) fn clear(&mut self) {
        self.set(String::new());
    }

    pub(super) fn take_shortened(&mut self) -> bool {
        core::mem::take(&mut self.shortened)
    }
}
