//! The payloads of messages: requests parsed, replies and events emitted (docs/misc/xenstore.txt).
//!
//! Parsing is total: whatever a domain sends is a request or [`Error::Malformed`] and its kin.

use alloc::format;
use alloc::vec::Vec;

use hypercall_abi::ids::{DomId, Gfn, Port};
use hypercall_abi::xs_wire::{Header, PAYLOAD_MAX, XsOp};
use zerocopy::IntoBytes;

use crate::perms::parse_domid;
use crate::request::{Reply, Request};
use crate::{Error, Perms};

/// Bytes of a message's header.
pub(crate) const HEADER: usize = size_of::<Header>();

/// Parses the payload of a request. `perms` is where SET_PERMS keeps what it parsed.
pub(crate) fn parse<'a>(op: XsOp, payload: &'a [u8], perms: &'a mut Option<Perms>) -> Result<Request<'a>, Error> {
    Ok(match op {
        XsOp::Directory => Request::Directory { path: only(payload)? },
        XsOp::Read => Request::Read { path: only(payload)? },
        XsOp::GetPerms => Request::GetPerms { path: only(payload)? },
        XsOp::Mkdir => Request::Mkdir { path: only(payload)? },
        XsOp::Rm => Request::Rm { path: only(payload)? },
        XsOp::Control => {
            let (command, _) = cut(payload)?;
            Request::Control { command: text(command)? }
        }
        XsOp::DirectoryPart => {
            let [path, offset] = strings(payload)?;
            let offset = text(offset)?.parse().map_err(|_| Error::Malformed)?;
            Request::DirectoryPart { path: text(path)?, offset }
        }
        XsOp::Write => {
            let (path, value) = cut(payload)?;
            Request::Write { path: text(path)?, value }
        }
        XsOp::SetPerms => {
            let (path, entries) = cut(payload)?;
            let entries = entries.strip_suffix(&[0]).ok_or(Error::Malformed)?;
            let entries = text(entries)?.split('\0');
            Request::SetPerms { path: text(path)?, perms: perms.insert(Perms::parse(entries)?) }
        }
        XsOp::Watch => {
            let (path, token) = path_and_token(payload)?;
            Request::Watch { path, token }
        }
        XsOp::Unwatch => {
            let (path, token) = path_and_token(payload)?;
            Request::Unwatch { path, token }
        }
        XsOp::ResetWatches => Request::ResetWatches,
        XsOp::TransactionStart => Request::TransactionStart,
        XsOp::TransactionEnd => match only(payload)? {
            "T" => Request::TransactionEnd { commit: true },
            "F" => Request::TransactionEnd { commit: false },
            _ => return Err(Error::Malformed),
        },
        XsOp::Introduce => {
            let [domain, gfn, port] = leading_strings(payload)?;
            let gfn = Gfn::new(text(gfn)?.parse().map_err(|_| Error::Malformed)?);
            let port = Port::new(text(port)?.parse().map_err(|_| Error::Malformed)?);
            Request::Introduce { domid: domid(domain)?, gfn, port }
        }
        XsOp::Release => Request::Release { domid: domid(only(payload)?.as_bytes())? },
        XsOp::GetDomainPath => Request::GetDomainPath { domid: domid(only(payload)?.as_bytes())? },
        XsOp::IsDomainIntroduced => Request::IsDomainIntroduced { domid: domid(only(payload)?.as_bytes())? },
        XsOp::Resume => Request::Resume { domid: domid(only(payload)?.as_bytes())? },
        XsOp::SetTarget => {
            let [one, target] = strings(payload)?;
            Request::SetTarget { domid: domid(one)?, target: domid(target)? }
        }
        XsOp::WatchEvent | XsOp::Error => return Err(Error::Unsupported),
    })
}

/// Everything up to the first NUL, and everything behind it.
fn cut(payload: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let end = payload.iter().position(|&byte| byte == 0).ok_or(Error::Malformed)?;
    let (head, tail) = payload.split_at(end);
    Ok((head, tail.get(1..).unwrap_or_default()))
}

/// The first `N` strings, each ended by a NUL; more may follow.
fn leading_strings<const N: usize>(payload: &[u8]) -> Result<[&[u8]; N], Error> {
    let mut found = [&payload[..0]; N];
    let mut rest = payload;
    for slot in &mut found {
        (*slot, rest) = cut(rest)?;
    }
    Ok(found)
}

/// Exactly `N` strings, each ended by a NUL.
fn strings<const N: usize>(payload: &[u8]) -> Result<[&[u8]; N], Error> {
    let found: [&[u8]; N] = leading_strings(payload)?;
    let total: usize = found.iter().map(|string| string.len() + 1).sum();
    if total == payload.len() { Ok(found) } else { Err(Error::Malformed) }
}

fn only(payload: &[u8]) -> Result<&str, Error> {
    let [string] = strings(payload)?;
    text(string)
}

/// The protocol reserves a third string.
fn path_and_token(payload: &[u8]) -> Result<(&str, &[u8]), Error> {
    let [path, token] = leading_strings(payload)?;
    Ok((text(path)?, token))
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    core::str::from_utf8(bytes).map_err(|_| Error::Malformed)
}

fn domid(bytes: &[u8]) -> Result<DomId, Error> {
    parse_domid(text(bytes)?).ok_or(Error::BadDomid)
}

/// A whole reply message to the request of `asked`.
pub(crate) fn reply(asked: &Header, outcome: &Result<Reply, Error>) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + 16);
    message.extend_from_slice(&[0; HEADER]);
    let mut op = asked.op;
    if let Err(error) = outcome.as_ref().map_err(|&error| error).and_then(|reply| put_reply(reply, &mut message)) {
        op = XsOp::Error.raw();
        message.truncate(HEADER);
        put_string(error.wire_name(), &mut message);
    }
    seal(Header { op, ..*asked }, &mut message);
    message
}

/// Appends a watch event to the empty `message`; leaves it empty when it is longer than a message may be.
pub(crate) fn event(path: &str, token: &[u8], message: &mut Vec<u8>) {
    if path.len() + token.len() + 2 > PAYLOAD_MAX {
        return;
    }
    message.extend_from_slice(&[0; HEADER]);
    put_string(path, message);
    message.extend_from_slice(token);
    message.push(0);
    seal(Header { op: XsOp::WatchEvent.raw(), ..Header::default() }, message);
}

/// Puts the header, with the payload's length, in the place kept for it.
fn seal(header: Header, message: &mut [u8]) {
    // Payloads are at most PAYLOAD_MAX.
    let len = u32::try_from(message.len().saturating_sub(HEADER)).unwrap_or_default();
    if let Some(place) = message.get_mut(..HEADER) {
        place.copy_from_slice(Header { len, ..header }.as_bytes());
    }
}

fn put_reply(reply: &Reply, message: &mut Vec<u8>) -> Result<(), Error> {
    match reply {
        Reply::Done => put_string("OK", message),
        Reply::Value(value) => message.extend_from_slice(value),
        Reply::Names(names) => names.iter().for_each(|name| put_string(name, message)),
        Reply::Part { generation, names, last } => {
            put_string(&format!("{generation}"), message);
            names.iter().for_each(|name| put_string(name, message));
            if *last {
                message.push(0);
            }
        }
        Reply::Perms(perms) => perms.for_each_entry(|entry| put_string(entry, message)),
        Reply::Transaction(tx) => put_string(&format!("{tx}"), message),
        Reply::Path(path) => put_string(path, message),
        Reply::Introduced(yes) => put_string(if *yes { "T" } else { "F" }, message),
        Reply::Text(text) => put_string(text, message),
    }
    if message.len() > HEADER + PAYLOAD_MAX { Err(Error::TooLong) } else { Ok(()) }
}

fn put_string(string: &str, message: &mut Vec<u8>) {
    message.extend_from_slice(string.as_bytes());
    message.push(0);
}
