//! Splitting a line into commands and those into words: `;` and blanks separate, quotes and backslashes protect, `#` starts a
//! comment.

use alloc::string::String;
use alloc::vec::Vec;

/// A quote that is not closed, or a backslash at the end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unclosed;

/// Splits `line` into commands, each with its own quotes and backslashes; one at least. A quote that is not closed protects all
/// that follows.
pub fn commands(line: &str) -> Vec<&str> {
    let (mut commands, mut start) = (Vec::new(), 0);
    let (mut quote, mut escaped, mut in_word) = (None, false, false);
    for (at, c) in line.char_indices() {
        let mut separates = matches!(c, ' ' | '\t' | '\r' | '\n');
        match (quote, c) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (Some(open), _) if open == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if !in_word => break,
            (None, ';') => {
                commands.extend(line.get(start..at));
                (start, separates) = (at + 1, true);
            }
            (None | Some(_), _) => {}
        }
        in_word = !separates;
    }
    commands.extend(line.get(start..));
    commands
}

/// Splits a command into words by the rules of a POSIX shell, without expansion.
///
/// # Errors
/// A quote that is not closed.
pub fn split(line: &str) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => break,
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(Unclosed)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(Unclosed)?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// The rest of a double-quoted part. A backslash protects only what would be special here.
fn double_quoted(chars: &mut core::str::Chars<'_>, word: &mut String) -> Result<(), Unclosed> {
    loop {
        match chars.next().ok_or(Unclosed)? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or(Unclosed)? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}
