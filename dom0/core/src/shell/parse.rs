//! From a line to a [`Command`], or to a usage error with the status it ends with.

use alloc::boxed::Box;
use alloc::string::String;

use super::command::Command;
use super::numbers::milliseconds;
use super::options::flag;
use super::table;
use super::usage::{UsageError, arguments, bad};
use super::words::{Unclosed, split};
use super::{bridge, store, xl};

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
