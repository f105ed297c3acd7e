//! Options and positional arguments by the rules of `getopt_long`: clusters, attached values, `--`.

use alloc::string::String;
use alloc::vec::Vec;

/// One option that a command takes.
pub(super) struct Opt {
    /// Its letter.
    pub short: char,
    /// Its long name without dashes; empty for none.
    pub long: &'static str,
    /// Whether a value follows.
    pub value: bool,
}

/// A flag.
pub(super) const fn flag(short: char, long: &'static str) -> Opt {
    Opt { short, long, value: false }
}

/// An option with a value.
pub(super) const fn valued(short: char, long: &'static str) -> Opt {
    Opt { short, long, value: true }
}

/// Arguments sorted out.
pub(super) struct Arguments {
    options: Vec<(char, String)>,
    /// What is not an option, in order.
    pub positional: Vec<String>,
}

/// What is wrong with the options.
pub(super) enum BadOption {
    /// It is not one of the command's.
    Unknown(String),
    /// Its value is missing.
    NoValue(String),
    /// `-h` or `--help`.
    Help,
}

impl Arguments {
    /// Sorts `words` out; options may stand anywhere before `--`.
    pub(super) fn scan(words: &[String], known: &[Opt]) -> Result<Self, BadOption> {
        let mut arguments = Self { options: Vec::new(), positional: Vec::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_bytes() {
                [b'-', b'-'] => {
                    arguments.positional.extend(words.by_ref().cloned());
                }
                [b'-', b'-', ..] => arguments.long(word, known, &mut words)?,
                [b'-', _, ..] => arguments.cluster(word, known, &mut words)?,
                _ => arguments.positional.push(word.clone()),
            }
        }
        Ok(arguments)
    }

    /// Whether the flag was given.
    pub(super) fn has(&self, short: char) -> bool {
        self.options.iter().any(|(option, _)| *option == short)
    }

    /// The option's last value.
    pub(super) fn value(&self, short: char) -> Option<&str> {
        self.options.iter().rev().find(|(option, _)| *option == short).map(|(_, value)| value.as_str())
    }

    fn long(&mut self, word: &str, known: &[Opt], rest: &mut core::slice::Iter<'_, String>) -> Result<(), BadOption> {
        let body = word.get(2..).unwrap_or("");
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        if name == "help" {
            return Err(BadOption::Help);
        }
        let found = known.iter().find(|opt| !opt.long.is_empty() && opt.long == name);
        let opt = found.ok_or_else(|| BadOption::Unknown(name.into()))?;
        let value = match (opt.value, value) {
            (false, None) => String::new(),
            (false, Some(_)) => return Err(BadOption::Unknown(body.into())),
            (true, Some(value)) => value.into(),
            (true, None) => rest.next().cloned().ok_or_else(|| BadOption::NoValue(name.into()))?,
        };
        self.options.push((opt.short, value));
        Ok(())
    }

    fn cluster(
        &mut self,
        word: &str,
        known: &[Opt],
        rest: &mut core::slice::Iter<'_, String>,
    ) -> Result<(), BadOption> {
        let mut letters = word.chars();
        letters.next();
        while let Some(letter) = letters.next() {
            if letter == 'h' {
                return Err(BadOption::Help);
            }
            let found = known.iter().find(|opt| opt.short == letter);
            let opt = found.ok_or_else(|| BadOption::Unknown(letter.into()))?;
            if !opt.value {
                self.options.push((letter, String::new()));
                continue;
            }
            let attached = letters.as_str();
            let value = match attached {
                "" => rest.next().cloned().ok_or_else(|| BadOption::NoValue(letter.into()))?,
                value => value.into(),
            };
            self.options.push((letter, value));
            break;
        }
        Ok(())
    }
}
