//! The `xenstore-*` commands.

use alloc::string::String;
use alloc::vec::Vec;

use super::command::Store;
use super::numbers::number;
use super::options::{Opt, flag, valued};
use super::table::Spec;
use super::usage::{UsageError, arguments, bad};

/// `-s` asks Xen's tools for the socket; there is one way only here.
const SOCKET: Opt = flag('s', "");

/// Parses the words after the command's name.
pub(super) fn parse(spec: &'static Spec, words: &[String]) -> Result<Store, UsageError> {
    let scan = |options: &[Opt]| arguments(spec, "", words, options);
    match spec.name {
        "xenstore-ls" => {
            let args = scan(&[flag('f', ""), flag('p', ""), SOCKET])?;
            let path = args.positional.first().cloned().unwrap_or_else(|| "/".into());
            Ok(Store::Ls { path, full: args.has('f'), perms: args.has('p') })
        }
        "xenstore-read" => {
            let args = scan(&[flag('p', ""), flag('R', ""), SOCKET])?;
            Ok(Store::Read { prefix: args.has('p'), raw: args.has('R'), keys: args.positional })
        }
        "xenstore-write" => {
            let args = scan(&[flag('R', ""), SOCKET])?;
            write(spec, &args.positional, args.has('R'))
        }
        "xenstore-rm" => {
            let args = scan(&[flag('t', ""), SOCKET])?;
            Ok(Store::Rm { tidy: args.has('t'), keys: args.positional })
        }
        "xenstore-list" => {
            let args = scan(&[flag('p', ""), SOCKET])?;
            Ok(Store::List { prefix: args.has('p'), keys: args.positional })
        }
        "xenstore-watch" => {
            let args = scan(&[valued('n', ""), SOCKET])?;
            let events = match args.value('n') {
                None => None,
                Some(text) => {
                    Some(number(text).ok_or_else(|| bad(spec, "", &alloc::format!("invalid number '{text}'")))?)
                }
            };
            Ok(Store::Watch { events, keys: args.positional })
        }
        "xenstore-chmod" => {
            let args = scan(&[flag('u', ""), flag('r', ""), SOCKET])?;
            let (upto, recurse) = (args.has('u'), args.has('r'));
            let mut words = args.positional.into_iter();
            let key = words.next().unwrap_or_default();
            let modes: Vec<String> = words.collect();
            match modes.iter().find(|mode| !is_mode(mode)) {
                Some(mode) => Err(bad(spec, "", &alloc::format!("invalid permissions '{mode}'"))),
                None => Ok(Store::Chmod { key, modes, upto, recurse }),
            }
        }
        _ => Ok(Store::Exists(scan(&[SOCKET])?.positional)),
    }
}

fn write(spec: &'static Spec, words: &[String], raw: bool) -> Result<Store, UsageError> {
    let mut pairs = Vec::with_capacity(words.len() / 2);
    for pair in words.chunks(2) {
        let [key, value] = pair else {
            return Err(bad(spec, "", "each key needs a value"));
        };
        let value = if raw { value.clone().into_bytes() } else { unescape(value) };
        pairs.push((key.clone(), value));
    }
    Ok(Store::Write { pairs })
}

/// Whether `mode` is a permission in wire form: a letter and a domid.
fn is_mode(mode: &str) -> bool {
    let Some(domid) = mode.strip_prefix(['n', 'r', 'w', 'b']) else {
        return false;
    };
    !domid.is_empty() && number(domid).is_some_and(|domid| domid <= 0x7fff)
}

/// Resolves the escapes that `xenstore-read` prints: `\t \n \r \\`, octal `\ooo`, hex `\xhh`.
fn unescape(text: &str) -> Vec<u8> {
    let mut value = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        let Some((&escaped, tail)) = rest.split_first() else {
            value.push(b'\\');
            break;
        };
        rest = tail;
        match escaped {
            b't' => value.push(b'\t'),
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b'x' => value.push(digits(&mut rest, 0, 16, 2)),
            b'0'..=b'7' => value.push(digits(&mut rest, u32::from(escaped - b'0'), 8, 2)),
            other => value.push(other),
        }
    }
    value
}

/// Up to `most` further digits of an escape, taken off `rest`; only the low byte counts.
fn digits(rest: &mut &[u8], first: u32, radix: u32, most: usize) -> u8 {
    let mut sum = first;
    for _ in 0..most {
        let Some((&byte, tail)) = rest.split_first() else {
            break;
        };
        let Some(digit) = char::from(byte).to_digit(radix) else {
            break;
        };
        sum = sum * radix + digit;
        *rest = tail;
    }
    u8::try_from(sum & 0xff).unwrap_or(0)
}
