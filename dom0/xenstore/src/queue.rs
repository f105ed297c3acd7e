//! What a connection has not read yet: replies, and watch events.
//!
//! A client that does not read must not make the store grow (XSA-326). Replies are bounded because requests are
//! not taken while too many wait. Events come from others' doing, so they are bounded by merging: an event that
//! waits already is not queued again, and beyond a limit an event is turned into one for the watched path itself,
//! which says "something below changed" and is needed only once per watch. Nothing is lost that a client which
//! reads the store after an event would miss. (Watches may fire spuriously, docs/misc/xenstore.txt.)

use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::watch::WatchId;

/// How far back an equal event is searched for, so that queueing one costs the same in a long queue.
const LOOK_BACK: usize = 32;

#[derive(Debug)]
enum Item {
    /// A whole message.
    Reply(Vec<u8>),
    Event(Event),
    /// One that stands for all of its watch.
    Merged(Event),
}

/// A watch that fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) watch: WatchId,
    /// Absolute, or the name of a special watch.
    pub(crate) path: Arc<str>,
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: VecDeque<Item>,
    replies: usize,
    reply_bytes: usize,
    events: usize,
    /// Watches whose merged event waits. It need not be searched for: others make events, and Dom0 would pay for the search.
    merged: BTreeSet<WatchId>,
    /// The message being read, and how much of it was.
    front: Vec<u8>,
    sent: usize,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.sent == self.front.len()
    }

    pub(crate) fn replies(&self) -> usize {
        self.replies
    }

    pub(crate) fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    pub(crate) fn push_reply(&mut self, message: Vec<u8>) {
        self.replies += 1;
        self.reply_bytes += message.len();
        self.items.push_back(Item::Reply(message));
    }

    /// Queues an event; beyond `limit`, one for `watched`, the path of the watch, in its place.
    pub(crate) fn push_event(&mut self, event: Event, watched: &Arc<str>, limit: usize) {
        let waits = |item: &Item| matches!(item, Item::Event(other) if *other == event);
        let item = if self.events >= limit {
            if !self.merged.insert(event.watch) {
                return;
            }
            Item::Merged(Event { path: watched.clone(), ..event })
        } else if self.items.iter().rev().take(LOOK_BACK).any(waits) {
            return;
        } else {
            Item::Event(event)
        };
        self.events += 1;
        self.items.push_back(item);
    }

    /// Takes the next event, passing over replies: for readers that get their replies directly.
    pub(crate) fn pop_event(&mut self) -> Option<Event> {
        let position = self.items.iter().position(|item| !matches!(item, Item::Reply(_)))?;
        self.items.remove(position).and_then(|item| self.took(item))
    }

    /// An item is not in the queue any more: its event, if it is one.
    fn took(&mut self, item: Item) -> Option<Event> {
        let event = match item {
            Item::Reply(_) => return None,
            Item::Event(event) => event,
            Item::Merged(event) => {
                self.merged.remove(&event.watch);
                event
            }
        };
        self.events -= 1;
        Some(event)
    }

    /// Forgets events of a watch that is no more, except for one that is half read.
    pub(crate) fn drop_events(&mut self, watch: WatchId) {
        self.merged.remove(&watch);
        self.items.retain(|item| !matches!(item, Item::Event(event) | Item::Merged(event) if event.watch == watch));
        self.events = self.items.iter().filter(|item| !matches!(item, Item::Reply(_))).count();
    }

    /// What comes next, as bytes; `encode` turns an event into a message, or leaves it out.
    pub(crate) fn peek(&mut self, encode: impl Fn(&Event, &mut Vec<u8>)) -> &[u8] {
        while self.sent == self.front.len() {
            self.sent = 0;
            self.front.clear();
            match self.items.pop_front() {
                Some(Item::Reply(message)) => {
                    self.replies -= 1;
                    self.reply_bytes -= message.len();
                    self.front = message;
                }
                Some(item) => {
                    if let Some(event) = self.took(item) {
                        encode(&event, &mut self.front);
                    }
                }
                None => break,
            }
        }
        self.front.get(self.sent..).unwrap_or_default()
    }

    /// Counts bytes that [`Queue::peek`] showed as read.
    pub(crate) fn consume(&mut self, count: usize) {
        self.sent = self.front.len().min(self.sent + count);
    }
}
