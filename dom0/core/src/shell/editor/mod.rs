//! The line editor: bytes of the serial line in, echo and finished lines out.
//!
//! Our own, because completion has to ask XenStore and the file system, which is asynchronous: a pure state machine
//! can stop at Tab and go on with the answer, where `embassy-shell` owns the loop and `noline`'s licence does not suit.

mod buffer;
mod history;
mod keys;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use buffer::Buffer;
use history::History;
use keys::{Key, Keys};

/// Longest line, in characters; more is not taken.
const MAX_LINE: usize = 1024;

/// What a byte led to, besides echo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing yet.
    None,
    /// The line is complete; the cursor stands on a fresh line.
    Line(String),
    /// Ctrl-C: the line is dropped, a new prompt is shown.
    Interrupt,
    /// Ctrl-D on an empty line.
    EndOfFile,
    /// Tab: look up candidates for this text (the line up to the cursor), then call [`Editor::complete`].
    Complete(String),
}

/// The editor of one terminal.
pub struct Editor {
    prompt: String,
    buffer: Buffer,
    history: History,
    keys: Keys,
}

impl Editor {
    /// An editor that shows `prompt` before each line.
    pub fn new(prompt: &str) -> Self {
        Self { prompt: prompt.into(), buffer: Buffer::default(), history: History::default(), keys: Keys::default() }
    }

    /// Shows the prompt and the line as far as it is typed: at the start, and after other output.
    pub fn show(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prompt.as_bytes());
        out.extend_from_slice(self.buffer.text().as_bytes());
        left(out, self.buffer.behind());
    }

    /// Clears the shown prompt and line, so that other output can go there; [`Editor::show`] brings them back.
    pub fn hide(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\x1b[K");
    }

    /// Takes a byte; what the terminal has to show goes to `out`.
    pub fn feed(&mut self, byte: u8, out: &mut Vec<u8>) -> Event {
        let Some(key) = self.keys.feed(byte) else {
            return Event::None;
        };
        match key {
            Key::Enter => return self.enter(out),
            Key::Interrupt => {
                out.extend_from_slice(b"^C\r\n");
                self.buffer.clear();
                self.history.leave();
                self.show(out);
                return Event::Interrupt;
            }
            Key::EndOfFile if self.buffer.is_empty() => return Event::EndOfFile,
            Key::Tab => return Event::Complete(self.buffer.before().into()),
            Key::Char(c) => self.insert(c, out),
            Key::ClearScreen => {
                out.extend_from_slice(b"\x1b[H\x1b[2J");
                self.show(out);
            }
            Key::Up => self.recall(|history, text| history.older(text), out),
            Key::Down => self.recall(|history, _| history.newer(), out),
            other => self.edit(other, out),
        }
        Event::None
    }

    /// Continues after [`Event::Complete`]: `word` is what was typed of the word, `candidates` what it may become. One
    /// candidate is filled in (with a blank, unless it is a folder), several are extended as far as they agree, or
    /// listed when they do not agree any further.
    pub fn complete(&mut self, word: &str, candidates: &[String], out: &mut Vec<u8>) {
        let common = common_prefix(candidates);
        let more = common.get(word.len()..).filter(|_| common.starts_with(word)).unwrap_or("");
        for c in more.chars() {
            self.insert(c, out);
        }
        match candidates {
            [] => out.push(BELL),
            [one] if !one.ends_with('/') => self.insert(' ', out),
            [_] => {}
            many if more.is_empty() => {
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(many.join("  ").as_bytes());
                out.extend_from_slice(b"\r\n");
                self.show(out);
            }
            _ => {}
        }
    }

    fn enter(&mut self, out: &mut Vec<u8>) -> Event {
        out.extend_from_slice(b"\r\n");
        let line: String = self.buffer.text().into();
        self.buffer.clear();
        self.history.add(&line);
        Event::Line(line)
    }

    fn insert(&mut self, c: char, out: &mut Vec<u8>) {
        if self.buffer.text().len() >= MAX_LINE {
            out.push(BELL);
            return;
        }
        self.buffer.insert(c);
        let mut utf8 = [0; 4];
        out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
        if self.buffer.behind() > 0 {
            out.extend_from_slice(self.buffer.after().as_bytes());
            left(out, self.buffer.behind());
        }
    }

    /// Keys that move within the line or take from it.
    fn edit(&mut self, key: Key, out: &mut Vec<u8>) {
        let cursor = self.buffer.cursor();
        match key {
            Key::Left => self.buffer.move_to(cursor.saturating_sub(1)),
            Key::Right => self.buffer.move_to(cursor + 1),
            Key::Home => self.buffer.move_to(0),
            Key::End => self.buffer.move_to(usize::MAX),
            Key::Backspace => self.buffer.remove(cursor.saturating_sub(1), cursor),
            Key::Delete | Key::EndOfFile => self.buffer.remove(cursor, cursor + 1),
            Key::KillEnd => self.buffer.remove(cursor, usize::MAX),
            Key::KillLine => self.buffer.remove(0, cursor),
            Key::KillWord => self.buffer.remove(self.buffer.word_start(), cursor),
            Key::Enter | Key::Interrupt | Key::Tab | Key::Char(_) | Key::ClearScreen | Key::Up | Key::Down => return,
        }
        left(out, cursor.saturating_sub(self.buffer.cursor()));
        right(out, self.buffer.cursor().saturating_sub(cursor));
        if self.buffer.take_shortened() {
            out.extend_from_slice(b"\x1b[K");
            out.extend_from_slice(self.buffer.after().as_bytes());
            left(out, self.buffer.behind());
        }
    }

    fn recall(&mut self, pick: impl Fn(&mut History, &str) -> Option<String>, out: &mut Vec<u8>) {
        let Some(line) = pick(&mut self.history, self.buffer.text()) else {
            out.push(BELL);
            return;
        };
        left(out, self.buffer.cursor());
        out.extend_from_slice(b"\x1b[K");
        out.extend_from_slice(line.as_bytes());
        self.buffer.set(line);
    }
}

const BELL: u8 = 0x07;

fn left(out: &mut Vec<u8>, columns: usize) {
    if columns > 0 {
        out.extend_from_slice(alloc::format!("\x1b[{columns}D").as_bytes());
    }
}

fn right(out: &mut Vec<u8>, columns: usize) {
    if columns > 0 {
        out.extend_from_slice(alloc::format!("\x1b[{columns}C").as_bytes());
    }
}

/// The longest text that all candidates start with.
fn common_prefix(candidates: &[String]) -> &str {
    let Some(first) = candidates.first() else {
        return "";
    };
    let agreed =
        |end: usize| first.get(..end).is_some_and(|head| candidates.iter().all(|other| other.starts_with(head)));
    let end = (0..=first.len()).rev().find(|&end| agreed(end)).unwrap_or(0);
    first.get(..end).unwrap_or("")
}
