//! Tokens to settings: `key = value`, `key += value`, values being atoms or lists.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::COMMAND_LINE;
use super::error::{ConfigError, Problem};
use super::lexer::{Lexer, Token};

/// Deepest nesting of lists. No key uses more than one level; the bound keeps recursion off Dom0's stack.
const MAX_DEPTH: usize = 8;

/// A value before its key gives it a type. Like Xen, a quoted number is as good as a bare one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A string or a number, as text.
    Atom(String),
    /// A list.
    List(Vec<Value>),
}

impl fmt::Display for Value {
    /// Writes the value so that it parses back to itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Atom(text) => quoted(text, f),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
        }
    }
}

fn quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

/// One assignment, with the place it was made at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// The line the key stands on; 0 on the command line.
    pub line: u32,
    /// The file's name or [`COMMAND_LINE`].
    pub source: String,
}

/// A configuration that is well-formed; its keys are not judged yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawConfig {
    /// The name errors give to the whole.
    pub source: String,
    /// At most one setting for each key: a later assignment replaces an earlier one.
    pub settings: Vec<Setting>,
}

impl RawConfig {
    /// Parses the text of a file called `source`.
    ///
    /// # Errors
    /// The first character or token that does not fit, with its line.
    pub fn parse(source: &str, text: &str) -> Result<Self, ConfigError> {
        let mut config = Self { source: source.to_owned(), settings: Vec::new() };
        Parser { lexer: Lexer::new(text) }.statements(&mut config, source).map_err(|(problem, line)| ConfigError {
            source: source.to_owned(),
            line,
            problem,
        })?;
        Ok(config)
    }

    /// Applies one `key=value` of the command line. The shell has removed the quotes, so a value that is neither
    /// quoted nor a list is taken as it is.
    ///
    /// # Errors
    /// An argument that has no key, or a quoted value or list that is not well-formed.
    pub fn override_with(&mut self, argument: &str) -> Result<(), ConfigError> {
        let error = |problem| ConfigError { source: COMMAND_LINE.to_owned(), line: 0, problem };
        let not_an_assignment =
            || error(Problem::Expected { expected: "key=value", found: alloc::format!("'{argument}'") });
        let (key, value) = argument.split_once('=').ok_or_else(not_an_assignment)?;
        let (key, value) = (key.trim(), value.trim());
        let is_key = key.starts_with(|c: char| c.is_ascii_alphabetic())
            && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        if !is_key {
            return Err(not_an_assignment());
        }
        if !value.starts_with(['[', '"', '\'']) {
            self.set(key, Value::Atom(value.to_owned()), 0, COMMAND_LINE);
            return Ok(());
        }
        let text = alloc::format!("{key}={value}");
        Parser { lexer: Lexer::new(&text) }
            .statements(self, COMMAND_LINE)
            // The shell took off quotes that were not quoted themselves; whoever sees the argument sees that.
            .map_err(|(problem, _)| ConfigError {
                source: alloc::format!("{COMMAND_LINE}: {argument}"),
                line: 0,
                problem,
            })?;
        for setting in self.settings.iter_mut().filter(|setting| setting.source == COMMAND_LINE) {
            setting.line = 0;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: Value, line: u32, source: &str) {
        self.settings.retain(|setting| setting.key != key);
        self.settings.push(Setting { key: key.to_owned(), value, line, source: source.to_owned() });
    }

    /// `key += value`: a string grows at its end, a list gains items; an unset key is simply set.
    fn append(&mut self, key: &str, value: Value, line: u32, source: &str) -> Result<(), Problem> {
        let Some(setting) = self.settings.iter_mut().find(|setting| setting.key == key) else {
            self.set(key, value, line, source);
            return Ok(());
        };
        match (&mut setting.value, value) {
            (Value::Atom(old), Value::Atom(more)) => old.push_str(&more),
            (Value::List(old), Value::List(more)) => old.extend(more),
            (Value::List(_), Value::Atom(_)) => {
                return Err(Problem::Expected { expected: "a list after '+='", found: "a string".into() });
            }
            (Value::Atom(_), Value::List(_)) => {
                return Err(Problem::Expected { expected: "a string after '+='", found: "a list".into() });
            }
        }
        Ok(())
    }
}

/// A problem and its line.
type Failure = (Problem, u32);

struct Parser<'a> {
    lexer: Lexer<'a>,
}

impl Parser<'_> {
    fn statements(&mut self, config: &mut RawConfig, source: &str) -> Result<(), Failure> {
        loop {
            let (token, line) = self.lexer.next()?;
            match token {
                Token::End => {}
                Token::Eof => return Ok(()),
                Token::Ident(key) => {
                    if !self.assignment(config, source, &key, line)? {
                        return Ok(());
                    }
                }
                other @ (Token::Number(_)
                | Token::Text(_)
                | Token::Assign
                | Token::Append
                | Token::Open
                | Token::Close
                | Token::Comma) => return Err(expected("a key", &other, line)),
            }
        }
    }

    /// The rest of an assignment; false when the text ends with it.
    fn assignment(&mut self, config: &mut RawConfig, source: &str, key: &str, line: u32) -> Result<bool, Failure> {
        let (operator, operator_line) = self.lexer.next()?;
        let append = match operator {
            Token::Assign => false,
            Token::Append => true,
            other => return Err(expected("'=' after the key", &other, operator_line)),
        };
        let (token, value_line) = self.lexer.next()?;
        let value = self.value(token, value_line, 0)?;
        if append {
            config.append(key, value, line, source).map_err(|problem| (problem, line))?;
        } else {
            config.set(key, value, line, source);
        }
        match self.lexer.next()? {
            (Token::End, _) => Ok(true),
            (Token::Eof, _) => Ok(false),
            (other, line) => Err(expected("the end of the line", &other, line)),
        }
    }

    fn value(&mut self, token: Token, line: u32, depth: usize) -> Result<Value, Failure> {
        match token {
            Token::Text(text) => Ok(Value::Atom(text)),
            Token::Number(text) if number(&text).is_some() => Ok(Value::Atom(text)),
            Token::Open if depth < MAX_DEPTH => self.list(depth + 1),
            Token::Open => Err((Problem::TooDeep, line)),
            other => Err(expected("a string, a number or a list", &other, line)),
        }
    }

    /// Items up to `]`. Inside brackets a newline is a blank, a semicolon too (Xen's grammar treats them alike).
    fn list(&mut self, depth: usize) -> Result<Value, Failure> {
        let mut items = Vec::new();
        loop {
            match self.next_in_list()? {
                (Token::Close, _) => return Ok(Value::List(items)),
                (token, line) => items.push(self.value(token, line, depth)?),
            }
            match self.next_in_list()? {
                (Token::Comma, _) => {}
                (Token::Close, _) => return Ok(Value::List(items)),
                (other, line) => return Err(expected("',' or ']'", &other, line)),
            }
        }
    }

    fn next_in_list(&mut self) -> Result<(Token, u32), Failure> {
        loop {
            match self.lexer.next()? {
                (Token::End, _) => {}
                other => return Ok(other),
            }
        }
    }
}

fn expected(expected: &'static str, found: &Token, line: u32) -> Failure {
    (Problem::Expected { expected, found: found.shown() }, line)
}

/// A number as `xl.cfg` writes it: decimal, or hexadecimal after `0x`.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}
