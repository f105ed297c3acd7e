//! Bytes to keys: control characters and the escape sequences of VT100 and xterm.

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    /// Ctrl-K
    KillEnd,
    /// Ctrl-U
    KillLine,
    /// Ctrl-W
    KillWord,
    /// Ctrl-L
    ClearScreen,
    /// Ctrl-C
    Interrupt,
    /// Ctrl-D
    EndOfFile,
}

/// Where in an escape sequence the decoder is.
#[derive(Default)]
enum State {
    #[default]
    Ground,
    /// After a carriage return: a line feed belongs to it.
    Return,
    /// After ESC.
    Escape,
    /// After ESC `[` or ESC `O`, with the number so far.
    Sequence(u16),
}

/// The decoder.
#[derive(Default)]
pub(super) struct Keys {
    state: State,
}

impl Keys {
    /// Takes a byte; gives the key it completes.
    pub(super) fn feed(&mut self, byte: u8) -> Option<Key> {
        match core::mem::take(&mut self.state) {
            State::Return if byte == b'\n' => None,
            State::Ground | State::Return => self.ground(byte),
            State::Escape => {
                if matches!(byte, b'[' | b'O') {
                    self.state = State::Sequence(0);
                }
                None
            }
            State::Sequence(number) => self.sequence(number, byte),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            b' '..=b'~' => Key::Char(char::from(byte)),
            b'\r' => {
                self.state = State::Return;
                Key::Enter
            }
            b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            0x08 | 0x7f => Key::Backspace,
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Interrupt,
            0x04 => Key::EndOfFile,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x0b => Key::KillEnd,
            0x0c => Key::ClearScreen,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x15 => Key::KillLine,
            0x17 => Key::KillWord,
            _ => return None,
        })
    }

    fn sequence(&mut self, number: u16, byte: u8) -> Option<Key> {
        match (byte, number) {
            (b'0'..=b'9', _) => {
                self.state = State::Sequence(number.saturating_mul(10).saturating_add(u16::from(byte - b'0')));
                None
            }
            // Modifiers follow; the key itself counts.
            (b';', _) => {
                self.state = State::Sequence(number);
                None
            }
            (b'A', _) => Some(Key::Up),
            (b'B', _) => Some(Key::Down),
            (b'C', _) => Some(Key::Right),
            (b'D', _) => Some(Key::Left),
            (b'H', _) | (b'~', 1 | 7) => Some(Key::Home),
            (b'F', _) | (b'~', 4 | 8) => Some(Key::End),
            (b'~', 3) => Some(Key::Delete),
            _ => None,
        }
    }
}
