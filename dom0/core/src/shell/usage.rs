//! How a command is used, and what is said to whoever uses it otherwise.

use alloc::string::String;
use core::fmt;

use super::options::{Arguments, BadOption, Opt};
use super::table::Spec;

/// How usage calls the command before a subcommand of `xl`.
pub(super) const XL: &str = "xl ";

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

/// Usage of one command.
pub(super) fn usage(spec: &Spec, prefix: &str) -> String {
    let space = if spec.usage.is_empty() { "" } else { " " };
    let mut text = alloc::format!("Usage: {prefix}{}{space}{}\n\n{}.\n", spec.name, spec.usage, spec.about);
    if !spec.options.is_empty() {
        text += &alloc::format!("\nOptions:\n\n{}\n", spec.options);
    }
    text.truncate(text.trim_end().len());
    text
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
