//! The shell's marks: how a program that reads the console knows where a command ended and with what status.
//!
//! Dom0's shell prints the terminal sequences that are customary for this (OSC 133, "shell integration"):
//! `D;<status>` after a command and `A` before a prompt. A terminal shows neither.

/// Begins every mark.
const START: &[u8] = b"\x1b]133;";

/// Ends every mark.
const END: u8 = 0x07;

/// One mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A command has finished with this status.
    Finished(i32),
    /// A prompt follows.
    Prompt,
    /// A mark of the standard that nothing here waits for.
    Other,
}

/// A mark and where it stands: `start..end` in the bytes searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The mark.
    pub mark: Mark,
    /// Its first byte.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
}

/// The first complete mark at or after `from`.
pub fn next(bytes: &[u8], from: usize) -> Option<Found> {
    let rest = bytes.get(from..)?;
    let start = from + find(rest, START)?;
    let body = bytes.get(start + START.len()..)?;
    let length = body.iter().position(|&byte| byte == END)?;
    let text = String::from_utf8_lossy(body.get(..length)?);
    let mark = match text.split_once(';') {
        Some(("D", status)) => status.parse().map_or(Mark::Other, Mark::Finished),
        None if text == "A" => Mark::Prompt,
        None | Some(_) => Mark::Other,
    };
    Some(Found { mark, start, end: start + START.len() + length + 1 })
}

/// What a person reads: no marks, no other terminal sequences, no carriage returns.
pub fn plain(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match (byte, rest.peek().copied()) {
            (0x1b, Some(b']')) => {
                rest.by_ref().find(|&byte| byte == END);
            }
            (0x1b, Some(b'[')) => {
                rest.next();
                rest.by_ref().find(|byte| (0x40..0x7f).contains(byte));
            }
            (0x1b, _) => {
                rest.next();
            }
            (b'\r' | 0x07, _) => {}
            (0x08, _) => {
                text.pop();
            }
            (byte, _) => text.push(byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Takes the marks out of a stream that arrives in pieces, and leaves everything else as it is.
#[derive(Debug, Default)]
pub struct Filter {
    held: Vec<u8>,
}

impl Filter {
    /// Returns what may be shown now; a piece that could be the start of a mark is held back.
    pub fn pass(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let mut shown = Vec::new();
        let mut at = 0;
        while let Some(found) = next(&self.held, at) {
            shown.extend_from_slice(&self.held[at..found.start]);
            at = found.end;
        }
        let rest = &self.held[at..];
        let keep = unfinished(rest);
        shown.extend_from_slice(&rest[..rest.len() - keep]);
        self.held = rest[rest.len() - keep..].to_vec();
        shown
    }

    /// The end of the stream: what was held back is no mark.
    pub fn finish(self) -> Vec<u8> {
        self.held
    }
}

/// No mark is longer than this; a longer start of one is not a mark.
const LONGEST: usize = 32;

/// How many bytes at the end could be a mark that has not arrived in full.
fn unfinished(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(LONGEST);
    let tail = &bytes[from..];
    let Some(escape) = tail.iter().rposition(|&byte| byte == 0x1b) else {
        return 0;
    };
    let open = &tail[escape..];
    let shared = open.len().min(START.len());
    if open[..shared] == START[..shared] { open.len() } else { 0 }
}

/// Where `needle` first stands in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::{Filter, Found, Mark, next, plain};

    const STREAM: &[u8] = b"boot\r\n\x1b]133;D;0\x07\x1b]133;A\x07xenolith# ";

    #[test]
    fn the_status_comes_before_the_prompt() {
        let first = next(STREAM, 0);
        assert_eq!(first, Some(Found { mark: Mark::Finished(0), start: 6, end: 16 }));
        assert_eq!(next(STREAM, 16).map(|found| found.mark), Some(Mark::Prompt));
        assert_eq!(next(STREAM, 24), None);
    }

    #[test]
    fn a_negative_status_is_a_status_and_nonsense_is_not() {
        assert_eq!(next(b"\x1b]133;D;-1\x07", 0).map(|found| found.mark), Some(Mark::Finished(-1)));
        assert_eq!(next(b"\x1b]133;D;x\x07", 0).map(|found| found.mark), Some(Mark::Other));
    }

    #[test]
    fn plain_text_has_no_terminal_sequences() {
        assert_eq!(plain(b"a\x1b[1;31mb\x1b[0m\x1b]133;A\x07c\x08d\r\n"), "abd\n");
    }

    #[test]
    fn the_filter_drops_marks_wherever_the_stream_is_cut() {
        for cut in 0..=STREAM.len() {
            let mut filter = Filter::default();
            let mut shown = filter.pass(&STREAM[..cut]);
            shown.extend(filter.pass(&STREAM[cut..]));
            shown.extend(filter.finish());
            assert_eq!(shown, b"boot\r\nxenolith# ", "cut at {cut}");
        }
    }
}
