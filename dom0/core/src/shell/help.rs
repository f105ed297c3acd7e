//! `help` and usage texts, from the command table.

use alloc::string::String;

use super::table::{self, Spec};
use super::usage::{self, usage};

/// The text of `help`, for all commands or one; `None` when there is no such command.
pub fn help(topic: Option<&str>) -> Option<String> {
    match topic {
        Some("xl") => Some(xl_help(None)),
        Some(name) => table::find(&table::SHELL, name).map(|spec| usage(spec, "")),
        None => Some(list("Commands:\n\n", &table::SHELL) + "\nhelp <command> says more; Tab completes."),
    }
}

/// The text of `xl help`, for all subcommands or one.
pub fn xl_help(topic: Option<&str>) -> String {
    match topic.map(|name| (name, table::find(&table::XL, name))) {
        Some((_, Some(spec))) => usage(spec, usage::XL),
        Some((name, None)) => alloc::format!("command \"{name}\" not implemented"),
        None => {
            let text = list("Usage xl <subcommand> [args]\n\nxl full list of subcommands:\n\n", &table::XL);
            text.trim_end().into()
        }
    }
}

fn list(head: &str, table: &[Spec]) -> String {
    let mut text = String::from(head);
    for spec in table {
        text += &alloc::format!(" {:<19} {}\n", spec.name, spec.about);
    }
    text
}
