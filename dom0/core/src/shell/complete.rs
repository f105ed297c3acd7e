//! Completion: what could stand at the cursor, so that the image can look candidates up.

use alloc::string::String;
use alloc::vec::Vec;

use super::table::{self, Source, Spec};
use super::words::commands;

/// The word at the cursor, and what could complete it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The word as far as it is typed.
    pub word: String,
    /// Where the caller finds candidates. Commands are filled in already.
    pub source: Source,
    /// Candidates that are known here.
    pub candidates: Vec<String>,
}

/// Options whose values have candidates: the command, the option, and what its value names.
const VALUES: [(&str, &str, Source); 5] = [
    ("console", "-t", Source::Words(&["pv", "vuart"])),
    ("sched", "-d", Source::Domain),
    ("sched", "-p", Source::Pool),
    ("sched-credit2", "-d", Source::Domain),
    ("sched-credit2", "-p", Source::Pool),
];

/// What could complete `line`, which ends at the cursor.
pub fn completion(line: &str) -> Completion {
    let command = commands(line).pop().unwrap_or("");
    let word_start = command.rfind([' ', '\t']).map_or(0, |at| at + 1);
    let (before, word) = command.split_at_checked(word_start).unwrap_or((command, ""));
    let words: Vec<&str> = before.split_ascii_whitespace().collect();
    let source = source(&words);
    let names = |table: &'static [Spec]| table.iter().map(|spec| spec.name).collect::<Vec<_>>();
    let known = match source {
        Source::Command => names(&table::SHELL),
        Source::XlCommand => names(&table::XL),
        Source::Words(words) => Vec::from(words),
        Source::Nothing | Source::Domain | Source::File | Source::StorePath | Source::Pool => Vec::new(),
    };
    let candidates = known.into_iter().filter(|name| name.starts_with(word)).map(String::from).collect();
    Completion { word: word.into(), source, candidates }
}

fn source(words: &[&str]) -> Source {
    let (spec, arguments) = match words {
        [] => return Source::Command,
        ["time", command @ ..] => return source(command),
        ["xl"] => return Source::XlCommand,
        ["xl", name, arguments @ ..] => (table::find(&table::XL, name), arguments),
        [name, arguments @ ..] => (table::find(&table::SHELL, name), arguments),
    };
    let Some(spec) = spec else { return Source::Nothing };
    let (mut value, mut given) = (None, 0);
    for argument in arguments {
        let names = |(command, option, _): &&(&str, &str, Source)| *command == spec.name && option == argument;
        match value.take() {
            Some(_) => {}
            None if argument.starts_with('-') => value = VALUES.iter().find(names).map(|(.., source)| *source),
            None => given += 1,
        }
    }
    value.unwrap_or(if given == 0 { spec.first } else { spec.further })
}
