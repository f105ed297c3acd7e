//! Lines entered before, for the cursor keys.

use alloc::collections::VecDeque;
use alloc::string::String;

/// Lines that are kept.
const KEEP: usize = 100;

/// Past lines, and where in them the user is.
#[derive(Default)]
pub(super) struct History {
    lines: VecDeque<String>,
    /// How far back the user went; 0 is the line being typed.
    back: usize,
    /// The line being typed, while the user is further back.
    draft: String,
}

impl History {
    /// Remembers a line, unless it is blank or the same as the last.
    pub(super) fn add(&mut self, line: &str) {
        self.leave();
        if line.trim().is_empty() || self.lines.back().is_some_and(|last| last == line) {
            return;
        }
        if self.lines.len() == KEEP {
            self.lines.pop_front();
        }
        self.lines.push_back(line.into());
    }

    /// Back to the line being typed.
    pub(super) fn leave(&mut self) {
        self.back = 0;
        self.draft.clear();
    }

    /// One line further back; `typed` is what the user has now.
    pub(super) fn older(&mut self, typed: &str) -> Option<String> {
        let line = self.lines.get(self.lines.len().checked_sub(self.back + 1)?)?.clone();
        if self.back == 0 {
            self.draft = typed.into();
        }
        self.back += 1;
        Some(line)
    }

    /// One line forward.
    pub(super) fn newer(&mut self) -> Option<String> {
        self.back = self.back.checked_sub(1)?;
        match self.back {
            0 => Some(core::mem::take(&mut self.draft)),
            back => self.lines.get(self.lines.len().checked_sub(back)?).cloned(),
        }
    }
}
