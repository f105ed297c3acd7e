//! Completion: what could stand at the cursor, so that the image can look candidates up.

use alloc::string::String;
use alloc::vec::Vec;

use super::table::{self, Source, Spec};

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

/// What could complete `line`, which ends at the cursor.
pub fn completion(line: &str) -> Completion {
    let word_start = line.rfind([' ', '\t']).map_or(0, |at| at + 1);
    let (before, word) = line.split_at_checked(word_start).unwrap_or((line, ""));
    let words: Vec<&str> = before.split_ascii_whitespace().collect();
    let source = source(&words);
    let names = |table: &'static [Spec]| table.iter().map(|spec| spec.name).collect::<Vec<_>>();
    let known = match source {
        Source::Command => names(&table::SHELL),
        Source::XlCommand => names(&table::XL),
        Source::Trace => Vec::from(["start", "stop", "status"]),
        Source::Nothing | Source::Domain | Source::File | Source::StorePath | Source::Pool => Vec::new(),
    };
    let candidates = known.into_iter().filter(|name| name.starts_with(word)).map(String::from).collect();
    Completion { word: word.into(), source, candidates }
}

fn source(words: &[&str]) -> Source {
    let (spec, arguments) = match words {
        [] => return Source::Command,
        ["xl"] => return Source::XlCommand,
        ["xl", name, arguments @ ..] => (table::find(&table::XL, name), arguments),
        [name, arguments @ ..] => (table::find(&table::SHELL, name), arguments),
    };
    let given = arguments.iter().filter(|argument| !argument.starts_with('-')).count();
    match (spec, given) {
        (None, _) => Source::Nothing,
        (Some(spec), 0) => spec.first,
        (Some(spec), _) => spec.further,
    }
}
