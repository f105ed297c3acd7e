//! `xenstore-ls` and `xenstore-read`: values may hold any byte, so what does not print is escaped.

use alloc::string::String;
use core::fmt::{self, Write};

/// Columns of a line, and where permissions start.
const WIDTH: usize = 80;
const PERMS_COLUMN: usize = 60;
/// Room that a cut value leaves: ` = "..."`.
const TAG: usize = 8;

/// A node of `xenstore-ls`.
#[derive(Debug, Clone, Copy)]
pub struct StoreLine<'a> {
    /// Its name; or its whole path, for `-f`.
    pub name: &'a str,
    /// How deep below the start it is; not used for `-f`.
    pub depth: usize,
    /// Its value; `None` when it cannot be read.
    pub value: Option<&'a [u8]>,
    /// Permissions in wire form (`n0`, `r5`), for `-p`.
    pub perms: Option<&'a [String]>,
    /// `-f`: nothing is cut, and the name is not indented.
    pub full: bool,
}

/// The value with everything but printable ASCII escaped: `\n`, `\t`, `\r`, `\\`, octal below 8, else `\xhh`.
pub fn sanitise(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for &byte in value {
        match byte {
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(byte)),
            0..=7 => text += &alloc::format!("\\{byte:03o}"),
            _ => text += &alloc::format!("\\x{byte:02x}"),
        }
    }
    text
}

/// Writes one node of `xenstore-ls`.
///
/// # Errors
/// Those of `out`.
pub fn store_ls_line(out: &mut impl Write, line: &StoreLine<'_>) -> fmt::Result {
    let indent = if line.full { 0 } else { line.depth };
    let mut column = indent + line.name.len();
    write!(out, "{:indent$}{}", "", line.name)?;
    match line.value {
        None => out.write_str(":")?,
        Some(value) if !line.full && WIDTH < column + value.len() + TAG => {
            let room = WIDTH.saturating_sub(TAG).saturating_sub(column);
            let text = sanitise(value);
            write!(out, " = \"{}\\...\"", text.get(..room).unwrap_or(&text))?;
        }
        Some(value) => {
            let text = sanitise(value);
            write!(out, " = \"{text}\"")?;
            column += text.len() + 5;
            if line.perms.is_some() {
                out.write_str(" ")?;
                for column in column + 1..PERMS_COLUMN {
                    out.write_char(if column & 1 == 1 { '.' } else { ' ' })?;
                }
            }
        }
    }
    if let Some(perms) = line.perms {
        write!(out, "  ({})", perms.join(","))?;
    }
    out.write_str("\n")
}

/// Writes a line of `xenstore-read`; `key` is given for `-p`.
///
/// # Errors
/// Those of `out`.
pub fn store_read_line(out: &mut impl Write, key: Option<&str>, value: &[u8]) -> fmt::Result {
    if let Some(key) = key {
        write!(out, "{key}: ")?;
    }
    writeln!(out, "{}", sanitise(value))
}
