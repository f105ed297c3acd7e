//! Characters to tokens, by the rules of Xen's `xl.cfg` scanner.

use alloc::string::String;
use core::iter::Peekable;
use core::str::Chars;

use super::error::Problem;

/// One token of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A key.
    Ident(String),
    /// A number as written: decimal, or hexadecimal after `0x`.
    Number(String),
    /// A quoted string, its escapes resolved.
    Text(String),
    /// `=`
    Assign,
    /// `+=`
    Append,
    /// `[`
    Open,
    /// `]`
    Close,
    /// `,`
    Comma,
    /// A newline or a semicolon.
    End,
    /// The end of the text.
    Eof,
}

impl Token {
    /// The token as an error message shows it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Ident(s) | Self::Number(s) => alloc::format!("'{s}'"),
            Self::Text(_) => "a string".into(),
            Self::Assign => "'='".into(),
            Self::Append => "'+='".into(),
            Self::Open => "'['".into(),
            Self::Close => "']'".into(),
            Self::Comma => "','".into(),
            Self::End => "the end of the line".into(),
            Self::Eof => "the end of the file".into(),
        }
    }
}

/// A cursor over a configuration's text.
pub(super) struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    line: u32,
}

impl<'a> Lexer<'a> {
    /// Starts at line 1 of `text`.
    pub(super) fn new(text: &'a str) -> Self {
        Self { chars: text.chars().peekable(), line: 1 }
    }

    /// The next token with the line it starts on.
    pub(super) fn next(&mut self) -> Result<(Token, u32), (Problem, u32)> {
        self.skip_blanks();
        let line = self.line;
        let Some(c) = self.chars.next() else {
            return Ok((Token::Eof, line));
        };
        let token = match c {
            '\n' => {
                self.line += 1;
                Token::End
            }
            ';' => Token::End,
            '=' => Token::Assign,
            '+' if self.chars.next_if_eq(&'=').is_some() => Token::Append,
            '[' => Token::Open,
            ']' => Token::Close,
            ',' => Token::Comma,
            '\'' | '"' => Token::Text(self.string(c).map_err(|problem| (problem, line))?),
            'a'..='z' | 'A'..='Z' => Token::Ident(self.word(c, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.')),
            '0'..='9' => Token::Number(self.word(c, |c| c.is_ascii_alphanumeric() || c == '_')),
            other => return Err((Problem::BadCharacter(other), line)),
        };
        Ok((token, line))
    }

    fn skip_blanks(&mut self) {
        while self.chars.next_if(|c| matches!(c, ' ' | '\t' | '\r')).is_some() {}
        if self.chars.next_if_eq(&'#').is_some() {
            while self.chars.next_if(|&c| c != '\n').is_some() {}
        }
    }

    fn word(&mut self, first: char, belongs: impl Fn(char) -> bool) -> String {
        let mut word = String::from(first);
        while let Some(c) = self.chars.next_if(|&c| belongs(c)) {
            word.push(c);
        }
        word
    }

    fn string(&mut self, quote: char) -> Result<String, Problem> {
        let mut text = String::new();
        loop {
            match self.chars.next_if(|&c| c != '\n').ok_or(Problem::OpenString)? {
                c if c == quote => return Ok(text),
                '\\' => text.push(self.escape()?),
                c => text.push(c),
            }
        }
    }

    /// The character after a backslash. Xen's scanner knows C's escapes; octal is at most three digits, hex two.
    fn escape(&mut self) -> Result<char, Problem> {
        let c = self.chars.next_if(|&c| c != '\n').ok_or(Problem::OpenString)?;
        Ok(match c {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '\'' | '"' | '\\' => c,
            'x' => self.digits(16, 0, 2)?,
            '0'..='7' => self.digits(8, c.to_digit(8).unwrap_or(0), 2)?,
            _ => return Err(Problem::BadEscape),
        })
    }

    fn digits(&mut self, radix: u32, first: u32, most: u32) -> Result<char, Problem> {
        let mut value = first;
        let mut seen = 0;
        while seen < most {
            let Some(digit) = self.chars.next_if(|c| c.is_digit(radix)) else {
                break;
            };
            value = value * radix + digit.to_digit(radix).unwrap_or(0);
            seen += 1;
        }
        if seen == 0 && radix == 16 {
            return Err(Problem::BadEscape);
        }
        u8::try_from(value).map(char::from).map_err(|_| Problem::BadEscape)
    }
}
