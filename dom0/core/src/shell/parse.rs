//! From a line to a [`Command`], or to a usage error with the status it ends with.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::command::Command;
use super::help::usage;
use super::options::{Arguments, BadOption, Opt, flag};
use super::table::{self, Spec};
use super::words::{Unclosed, split};
use super::{bridge, store, xl};

/// A command line that cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageError {
    /// A quote is open.
    Unclosed,
    /// There is no such command.
    NotFound(String),
    /// There is no such subcommand of `xl`.
    NotImplemented,
    /// Help was asked for: the text is the answer, and no failure.
    Help(String),
    /// Options or arguments are wrong; the text says what, and shows the usage.
    Usage(String),
}

impl UsageError {
    /// The exit status: as shells and `xl` have it.
    pub const fn status(&self) -> i32 {
        match self {
            Self::Help(_) => 0,
            Self::NotImplemented => 1,
            Self::Unclosed | Self::Usage(_) => 2,
            Self::NotFound(_) => 127,
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed => f.write_str("syntax error: a quote is not closed"),
            Self::NotFound(name) => write!(f, "{name}: command not found"),
            Self::NotImplemented => f.write_str("command not implemented"),
            Self::Help(text) | Self::Usage(text) => f.write_str(text),
        }
    }
}

impl core::error::Error for UsageError {}

/// Parses a line.
///
/// # Errors
/// What to print instead of executing anything.
pub fn parse(line: &str) -> Result<Command, UsageError> {
    command(&split(line).map_err(|Unclosed| UsageError::Unclosed)?)
}

fn command(words: &[String]) -> Result<Command, UsageError> {
    let Some((name, rest)) = words.split_first() else {
        return Ok(Command::Nothing);
    };
    let spec = table::find(&table::SHELL, name).ok_or_else(|| UsageError::NotFound(name.clone()))?;
    match spec.name {
        "xl" => xl::parse(rest).map(Command::Xl),
        "ls" => {
            let arguments = arguments(spec, "", rest, &[flag('l', "")])?;
            Ok(Command::Ls { long: arguments.has('l'), paths: arguments.positional })
        }
        "cat" => Ok(Command::Cat(arguments(spec, "", rest, &[])?.positional)),
        "sleep" => {
            let arguments = arguments(spec, "", rest, &[])?;
            let text = arguments.positional.first().map_or("", String::as_str);
            let time = milliseconds(text).ok_or_else(|| bad(spec, "", &alloc::format!("invalid time '{text}'")))?;
            Ok(Command::Sleep(time))
        }
        "time" => match command(rest)? {
            Command::Timed(inner) => Ok(Command::Timed(inner)),
            inner => Ok(Command::Timed(Box::new(inner))),
        },
        "bridge" => bridge::parse(spec, arguments(spec, "", rest, &[])?).map(Command::Bridge),
        "iperf3" => {
            let arguments = arguments(spec, "", rest, &[flag('s', "server")])?;
            match (arguments.has('s'), arguments.positional.into_iter().next()) {
                (true, Some(bridge)) => Ok(Command::Iperf(bridge)),
                (_, _) => Err(bad(spec, "", "'iperf3' is a server (-s) and takes the name of one bridge.")),
            }
        }
        "poweroff" => arguments(spec, "", rest, &[]).map(|_| Command::Poweroff),
        "reboot" => arguments(spec, "", rest, &[]).map(|_| Command::Reboot),
        "help" => Ok(Command::Help(arguments(spec, "", rest, &[])?.positional.into_iter().next())),
        _ => store::parse(spec, rest).map(Command::Store),
    }
}

/// Sorts out the arguments of a command and counts them. `prefix` is `xl ` for its subcommands.
pub(super) fn arguments(
    spec: &'static Spec,
    prefix: &str,
    words: &[String],
    options: &[Opt],
) -> Result<Arguments, UsageError> {
    let arguments = Arguments::scan(words, options).map_err(|error| match error {
        BadOption::Help => UsageError::Help(usage(spec, prefix)),
        BadOption::Unknown(option) => bad(spec, prefix, &alloc::format!("option '{option}' not supported.")),
        BadOption::NoValue(option) => bad(spec, prefix, &alloc::format!("option '{option}' requires a value.")),
    })?;
    let count = arguments.positional.len();
    if count < spec.least {
        let plural = if spec.least == 1 { "" } else { "s" };
        let text = alloc::format!("'{prefix}{}' requires at least {} argument{plural}.", spec.name, spec.least);
        return Err(bad(spec, prefix, &text));
    }
    if count > spec.most {
        let text = alloc::format!("'{prefix}{}': too many arguments.", spec.name);
        return Err(bad(spec, prefix, &text));
    }
    Ok(arguments)
}

/// A usage error: what is wrong, then how it is right.
pub(super) fn bad(spec: &'static Spec, prefix: &str, what: &str) -> UsageError {
    UsageError::Usage(alloc::format!("{what}\n\n{}", usage(spec, prefix)))
}

/// A time in seconds, with up to three decimals counted, as milliseconds.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if (whole.is_empty() && fraction.is_empty()) || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { number(whole)? };
    let padded: Vec<u8> = fraction.bytes().chain(*b"000").take(3).collect();
    let fraction = padded.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    whole.checked_mul(1000)?.checked_add(fraction)
}

/// An amount of memory in KiB: MiB unless a letter says otherwise, as `xl` has it.
pub(super) fn memory_kib(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = text.get(digits.len()..)?.to_ascii_lowercase();
    let amount = number(digits).filter(|_| !digits.is_empty())?;
    match unit.as_str() {
        "b" => Some(amount >> 10),
        "k" => Some(amount),
        "" | "m" => amount.checked_mul(1 << 10),
        "g" => amount.checked_mul(1 << 20),
        "t" => amount.checked_mul(1 << 30),
        _ => None,
    }
}

/// A number in digits alone.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
