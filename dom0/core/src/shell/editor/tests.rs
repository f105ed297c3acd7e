//! The editor against a small terminal: what the user sees is what the line holds.

use proptest::prelude::*;

use super::*;

/// A terminal of one endless row that knows the sequences the editor uses.
#[derive(Default)]
struct Screen {
    row: Vec<char>,
    column: usize,
}

impl Screen {
    fn show(&mut self, bytes: &[u8]) {
        let text = core::str::from_utf8(bytes).unwrap();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => *self = Self::default(),
                '\x07' => {}
                '\x1b' => self.sequence(&mut chars),
                c => {
                    self.row.resize(self.row.len().max(self.column + 1), ' ');
                    self.row[self.column] = c;
                    self.column += 1;
                }
            }
        }
    }

    fn sequence(&mut self, chars: &mut core::iter::Peekable<core::str::Chars<'_>>) {
        assert_eq!(chars.next(), Some('['));
        let mut number = 0;
        while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
            number = number * 10 + digit as usize;
            chars.next();
        }
        match chars.next() {
            Some('K') => self.row.truncate(self.column),
            Some('D') => self.column -= number,
            Some('C') => self.column += number,
            Some('H') => self.column = 0,
            Some('J') => self.row.clear(),
            other => panic!("unknown sequence {other:?}"),
        }
    }

    fn text(&self) -> String {
        self.row.iter().collect::<String>()
    }
}

/// Types keys and gives the lines that were entered.
fn typed(keys: &[u8]) -> Vec<String> {
    let mut editor = Editor::new("> ");
    let mut out = Vec::new();
    let mut lines = Vec::new();
    for &key in keys {
        if let Event::Line(line) = editor.feed(key, &mut out) {
            lines.push(line);
        }
    }
    lines
}

#[test]
fn a_line_ends_with_return_line_feed_or_both() {
    assert_eq!(typed(b"a\rb\nc\r\nd\r"), ["a", "b", "c", "d"]);
}

#[test]
fn keys_move_and_delete_where_the_cursor_is() {
    assert_eq!(typed(b"bc\x01a\x05d\r"), ["abcd"]);
    assert_eq!(typed(b"abXc\x1b[D\x7f\r"), ["abc"]);
    assert_eq!(typed(b"Xabc\x01\x1b[3~\r"), ["abc"]);
    assert_eq!(typed(b"one two  \x17three\r"), ["one three"]);
    assert_eq!(typed(b"one two\x01\x0b\r"), [""]);
    assert_eq!(typed(b"one two\x15three\r"), ["three"]);
    assert_eq!(typed(b"ac\x1b[1;5Db\r"), ["abc"]);
}

#[test]
fn history_goes_back_and_returns_to_the_draft() {
    assert_eq!(typed(b"one\rtwo\r\x1b[A\x1b[A\r"), ["one", "two", "one"]);
    assert_eq!(typed(b"one\rdraft\x1b[A\x1b[B!\r"), ["one", "draft!"]);
    assert_eq!(typed(b"a\ra\r\x10\x10\r"), ["a", "a", "a"]);
}

#[test]
fn control_c_drops_the_line_and_control_d_ends_an_empty_one() {
    let mut editor = Editor::new("> ");
    let mut out = Vec::new();
    editor.feed(b'x', &mut out);
    assert_eq!(editor.feed(3, &mut out), Event::Interrupt);
    assert_eq!(editor.feed(4, &mut out), Event::EndOfFile);
    editor.feed(b'y', &mut out);
    assert_eq!(editor.feed(4, &mut out), Event::None, "on a line with text it deletes instead");
}

#[test]
fn tab_fills_in_the_only_candidate_and_lists_several() {
    let mut editor = Editor::new("> ");
    let mut out = Vec::new();
    for &key in b"xl des" {
        editor.feed(key, &mut out);
    }
    assert_eq!(editor.feed(b'\t', &mut out), Event::Complete("xl des".into()));
    editor.complete("des", &["destroy".into()], &mut out);
    assert_eq!(editor.feed(b'\t', &mut out), Event::Complete("xl destroy ".into()));
    out.clear();
    editor.complete("", &["web1".into(), "web2".into()], &mut out);
    assert_eq!(out, b"web", "as far as they agree");
    out.clear();
    editor.complete("web", &["web1".into(), "web2".into()], &mut out);
    assert_eq!(out, b"\r\nweb1  web2\r\n> xl destroy web");
}

#[test]
fn a_folder_is_completed_without_a_blank() {
    let mut editor = Editor::new("> ");
    let mut out = Vec::new();
    editor.complete("", &["/store/".into()], &mut out);
    assert_eq!(editor.feed(b'\r', &mut out), Event::Line("/store/".into()));
}

#[test]
fn a_line_that_is_too_long_takes_no_more() {
    let keys = [b'a'; MAX_LINE + 10];
    let mut keys = keys.to_vec();
    keys.push(b'\r');
    assert_eq!(typed(&keys)[0].len(), MAX_LINE);
}

proptest! {
    #[test]
    fn the_screen_always_shows_the_line(keys in prop::collection::vec(
        prop::sample::select(&b"ab \x01\x02\x05\x06\x08\x0b\x15\x17\x10\x0e\r\x1b[ABCD3~"[..]), 0..80,
    )) {
        let mut editor = Editor::new("> ");
        let mut screen = Screen::default();
        let mut out = Vec::new();
        editor.show(&mut out);
        for key in keys {
            if let Event::Line(_) = editor.feed(key, &mut out) {
                editor.show(&mut out);
            }
            screen.show(&out);
            out.clear();
            prop_assert_eq!(screen.text(), format!("> {}", editor.buffer.text()));
            prop_assert_eq!(screen.column, 2 + editor.buffer.cursor());
        }
    }

    #[test]
    fn no_bytes_make_the_editor_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        typed(&bytes);
    }
}
