//! The `xenstore-*` commands, with the words and statuses of Xen's client.
//!
//! A command with several keys is one transaction, as there: all of it happens or none. `xenstore-ls` prints while it
//! walks, because guests decide how much there is.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::{IntoIter, Vec};

use dom0_core::format::{StoreLine, store_ls_line, store_read_line};
use dom0_core::shell::Store;
use embassy_futures::select::{Either, select};
use xenstore::{Error, Perms, Reply, Request};

use super::{Failure, Outcome, Shell};

/// Bytes of `xenstore-ls` that are collected before they are printed.
const BATCH: usize = 4096;
/// Comes back with the events of `xenstore-watch`.
const TOKEN: &str = "xenstore-watch";

/// Makes requests, in a transaction or outside.
type Ask<'a> = &'a dyn Fn(Request<'_>) -> Result<Reply, Error>;

impl Shell {
    /// Any of the `xenstore-*` commands.
    pub(super) async fn store_command(&self, command: Store) -> Outcome {
        match command {
            Store::Ls { path, full, perms } => self.store_ls(path, full, perms).await,
            Store::Read { keys, prefix, raw } => self.store_read(&keys, prefix, raw).await,
            Store::Write { pairs } => self.transact("xenstore-write", pairs.len(), |ask| write(ask, &pairs)),
            Store::Rm { keys, tidy } => self.transact("xenstore-rm", keys.len(), |ask| remove(ask, &keys, tidy)),
            Store::List { keys, prefix } => {
                let mut text = String::new();
                let listed = self.transact("xenstore-list", keys.len(), |ask| list(ask, &keys, prefix, &mut text));
                self.say(&text).await?;
                listed
            }
            Store::Exists(keys) => self.transact("xenstore-exists", keys.len(), |ask| {
                let exists = |key: &String| ask(Request::Read { path: key }).is_ok();
                // The status is the answer; there is nothing to say.
                if keys.iter().all(exists) { Ok(()) } else { Err(Failure(String::new())) }
            }),
            Store::Watch { keys, events } => self.store_watch(&keys, events).await,
            Store::Chmod { key, modes, upto, recurse } => {
                let perms = Perms::parse(modes.iter().map(String::as_str));
                let perms = perms.map_err(|error| Failure(format!("xenstore-chmod: {}", reason(error))))?;
                let nodes = if upto || recurse { usize::MAX } else { 1 };
                self.transact("xenstore-chmod", nodes, |ask| change_mode(ask, &key, &perms, upto, recurse))
            }
        }
    }

    /// Does something with so many keys: with several, in a transaction.
    fn transact(&self, command: &str, keys: usize, act: impl FnOnce(Ask<'_>) -> Outcome) -> Outcome {
        if keys <= 1 {
            return act(&|request| self.store.request(request));
        }
        let failed = |what| move |error| Failure(format!("{command}: couldn't {what} transaction: {}", reason(error)));
        let transaction = self.store.transaction().map_err(failed("start"))?;
        act(&|request| transaction.request(request))?;
        transaction.commit().map_err(failed("end"))
    }

    async fn store_read(&self, keys: &[String], prefix: bool, raw: bool) -> Outcome {
        let mut bytes = Vec::new();
        let done = self.transact("xenstore-read", keys.len(), |ask| read(ask, keys, prefix, raw, &mut bytes));
        if raw {
            self.terminal.raw(&bytes).await;
            // The prompt takes the whole of its line.
            if !bytes.ends_with(b"\n") {
                self.say("\n").await?;
            }
        } else {
            self.say(&String::from_utf8_lossy(&bytes)).await?;
        }
        done
    }

    /// Walks without recursion: a guest may nest its nodes a thousand deep.
    async fn store_ls(&self, mut path: String, full: bool, perms: bool) -> Outcome {
        let failed = |error| Failure(format!("xenstore-ls: xs_directory ({path}): {}", reason(error)));
        let first = self.names(&path).map_err(failed)?;
        let mut levels: Vec<(usize, IntoIter<Arc<str>>)> = Vec::from([(path.len(), first.into_iter())]);
        let mut text = String::new();
        while let Some((length, children)) = levels.last_mut() {
            path.truncate(*length);
            let Some(child) = children.next() else {
                levels.pop();
                continue;
            };
            if !path.ends_with('/') {
                path.push('/');
            }
            path.push_str(&child);
            let depth = levels.len().saturating_sub(1);
            self.ls_node(&path, if full { &path } else { &child }, depth, full, perms, &mut text)?;
            // A node that has gone meanwhile has no children.
            levels.push((path.len(), self.names(&path).unwrap_or_default().into_iter()));
            if text.len() >= BATCH {
                self.say(&text).await?;
                text.clear();
            }
        }
        self.say(&text).await
    }

    fn ls_node(&self, path: &str, name: &str, depth: usize, full: bool, perms: bool, text: &mut String) -> Outcome {
        let value = match self.store.request(Request::Read { path }) {
            Ok(Reply::Value(value)) => Some(value),
            Ok(_) | Err(_) => None,
        };
        let perms = match self.store.request(Request::GetPerms { path }) {
            Ok(Reply::Perms(found)) if perms => {
                let mut entries = Vec::new();
                found.for_each_entry(|entry| entries.push(entry.to_string()));
                Some(entries)
            }
            Ok(_) | Err(_) => None,
        };
        let line = StoreLine { name, depth, value: value.as_deref(), perms: perms.as_deref(), full };
        Ok(store_ls_line(text, &line)?)
    }

    fn names(&self, path: &str) -> Result<Vec<Arc<str>>, Error> {
        directory(&|request| self.store.request(request), path)
    }

    async fn store_watch(&self, keys: &[String], events: Option<u64>) -> Outcome {
        let mut watched = 0;
        let mut outcome = Ok(());
        for key in keys {
            if let Err(error) = self.store.watch(key, TOKEN) {
                outcome = Err(Failure(format!("xenstore-watch: Unable to add watch on {key}: {}", reason(error))));
                break;
            }
            watched += 1;
        }
        if outcome.is_ok() {
            outcome = self.show_events(events).await;
        }
        for key in keys.iter().take(watched) {
            // It was set above, and nobody else removes it.
            let _ = self.store.unwatch(key, TOKEN);
        }
        outcome
    }

    async fn show_events(&self, most: Option<u64>) -> Outcome {
        let mut shown = 0;
        while most.is_none_or(|most| shown < most) {
            // The user comes first: events may never cease.
            match select(self.terminal.interrupted(), self.store.event()).await {
                Either::First(()) => break,
                Either::Second(event) => self.say(&event.path).await?,
            }
            shown += 1;
        }
        Ok(())
    }
}

/// What went wrong, in the words of the C library where Xen's client has it say them.
fn reason(error: Error) -> String {
    match error.wire_name() {
        "ENOENT" => "No such file or directory".into(),
        "EINVAL" => "Invalid argument".into(),
        "EACCES" => "Permission denied".into(),
        "EEXIST" => "File exists".into(),
        _ => format!("{error}"),
    }
}

fn directory(ask: Ask<'_>, path: &str) -> Result<Vec<Arc<str>>, Error> {
    match ask(Request::Directory { path })? {
        Reply::Names(names) => Ok(names),
        Reply::Done
        | Reply::Value(_)
        | Reply::Part { .. }
        | Reply::Perms(_)
        | Reply::Transaction(_)
        | Reply::Path(_)
        | Reply::Introduced(_)
        | Reply::Text(_) => Ok(Vec::new()),
    }
}

fn read(ask: Ask<'_>, keys: &[String], prefix: bool, raw: bool, out: &mut Vec<u8>) -> Outcome {
    for key in keys {
        let Ok(Reply::Value(value)) = ask(Request::Read { path: key }) else {
            return Err(Failure(format!("xenstore-read: couldn't read path {key}")));
        };
        if raw {
            if prefix {
                out.extend_from_slice(format!("{key}: ").as_bytes());
            }
            out.extend_from_slice(&value);
        } else {
            let mut line = String::new();
            store_read_line(&mut line, prefix.then_some(key), &value)?;
            out.extend_from_slice(line.as_bytes());
        }
    }
    Ok(())
}

fn write(ask: Ask<'_>, pairs: &[(String, Vec<u8>)]) -> Outcome {
    for (path, value) in pairs {
        let written = ask(Request::Write { path, value });
        written.map_err(|_| Failure(format!("xenstore-write: could not write path {path}")))?;
    }
    Ok(())
}

fn list(ask: Ask<'_>, keys: &[String], prefix: bool, text: &mut String) -> Outcome {
    for key in keys {
        let names = directory(ask, key);
        let names = names.map_err(|_| Failure(format!("xenstore-list: could not list path {key}")))?;
        for name in names {
            if prefix {
                text.push_str(key);
                text.push('/');
            }
            text.push_str(&name);
            text.push('\n');
        }
    }
    Ok(())
}

fn remove(ask: Ask<'_>, keys: &[String], tidy: bool) -> Outcome {
    for key in keys {
        let removed = ask(Request::Rm { path: key });
        removed.map_err(|_| Failure(format!("xenstore-rm: could not remove path {key}")))?;
        let mut path = key.as_str();
        while let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| tidy && is_bare(ask, parent)) {
            if ask(Request::Rm { path: parent }).is_err() {
                break;
            }
            path = parent;
        }
    }
    Ok(())
}

/// Whether a node has neither value nor children.
fn is_bare(ask: Ask<'_>, path: &str) -> bool {
    let Ok(Reply::Value(value)) = ask(Request::Read { path }) else { return false };
    value.is_empty() && directory(ask, path).is_ok_and(|names| names.is_empty())
}

fn change_mode(ask: Ask<'_>, key: &str, perms: &Perms, upto: bool, recurse: bool) -> Outcome {
    let set = |path: &str| {
        let done = ask(Request::SetPerms { path, perms }).map(drop);
        let what = "xenstore-chmod: Error occurred setting permissions on";
        done.map_err(|error| Failure(format!("{what} '{path}': {}", reason(error))))
    };
    set(key)?;
    let mut path = key;
    while let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| upto && !parent.is_empty()) {
        set(parent)?;
        path = parent;
    }
    let mut pending = if recurse { Vec::from([key.to_string()]) } else { Vec::new() };
    while let Some(folder) = pending.pop() {
        for name in directory(ask, &folder).unwrap_or_default() {
            let path = format!("{}/{name}", folder.trim_end_matches('/'));
            set(&path)?;
            pending.push(path);
        }
    }
    Ok(())
}
