//! Packets that travel in parts (RFC 791, section 2.3): only the first part names the ports, so what became of it is remembered for the
//! others. Nothing is put together here; a part that comes before the first one is lost.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::packet::{Part, Protocol};
use crate::table::{Owner, Side};

/// Packets whose parts are followed at a time.
const PACKETS: usize = 128;
/// Seconds for which the next part is waited for, as receivers do.
const PATIENCE: u64 = 30;

/// What the parts of a packet have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Where it comes from.
    pub(crate) side: Side,
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    pub(crate) protocol: Protocol,
    pub(crate) id: u16,
}

impl Key {
    /// That of a part, which comes from `side`.
    pub(crate) fn of(part: &Part, side: Side) -> Self {
        let Part { from, to, protocol, id, .. } = *part;
        Key { side, from, to, protocol, id }
    }
}

/// What becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    pub(crate) id: u16,
}

struct Entry {
    key: Key,
    fate: Fate,
    owner: Owner,
    seen: u64,
}

/// The packets that are followed. When there are too many, the party that has most loses its oldest, as in the table of
/// connections.
#[derive(Default)]
pub(crate) struct Parts {
    /// From the oldest to the latest.
    entries: Vec<Entry>,
    next: u16,
}

impl Parts {
    /// The first part of a packet goes from and to these addresses. Guests choose their packets' numbers each for itself: behind one
    /// address they get others.
    pub(crate) fn first(&mut self, key: Key, from: Ipv4Addr, to: Ipv4Addr, owner: Owner, now: u64) -> Fate {
        // It may come a second time, where there was no room for it.
        let known = self.find(key, now).filter(|fate| (fate.from, fate.to) == (from, to));
        let id = match (known, key.side) {
            (Some(fate), _) => fate.id,
            (None, Side::Outside) => key.id,
            (None, Side::Inside) => {
                self.next = self.next.wrapping_add(1);
                self.next
            }
        };
        self.entries.retain(|entry| entry.key != key && now.saturating_sub(entry.seen) < PATIENCE);
        if self.entries.len() >= PACKETS {
            self.displace(owner);
        }
        let fate = Fate { from, to, id };
        self.entries.push(Entry { key, fate, owner, seen: now });
        fate
    }

    /// What becomes of a later part.
    pub(crate) fn find(&self, key: Key, now: u64) -> Option<Fate> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (now.saturating_sub(entry.seen) < PATIENCE).then_some(entry.fate)
    }

    fn displace(&mut self, newcomer: Owner) {
        let count = |owner: Owner| self.entries.iter().filter(|entry| entry.owner == owner).count();
        let most = self.entries.iter().map(|entry| entry.owner).max_by_key(|owner| (count(*owner), *owner == newcomer));
        if let Some(oldest) = self.entries.iter().position(|entry| Some(entry.owner) == most) {
            self.entries.remove(oldest);
        }
    }

    /// Forgets what belongs to a party.
    pub(crate) fn forget(&mut self, owner: Owner) {
        self.entries.retain(|entry| entry.owner != owner);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;

    fn key(id: u16) -> Key {
        Key { side: Side::Inside, from: ADDRESS, to: ADDRESS, protocol: Protocol::Udp, id }
    }

    #[test]
    fn a_guest_that_begins_packets_without_end_loses_only_its_own() {
        let mut parts = Parts::default();
        let fate = parts.first(key(0), ADDRESS, ADDRESS, 1, 0);
        for id in 1..10_000 {
            parts.first(key(id), ADDRESS, ADDRESS, 2, 0);
        }
        assert_eq!((parts.find(key(0), 29), parts.entries.len()), (Some(fate), PACKETS));
        assert!(parts.find(key(9_999), 0).is_some() && parts.find(key(1), 0).is_none());
        parts.forget(2);
        assert_eq!((parts.find(key(0), 0), parts.entries.len()), (Some(fate), 1));
        assert_eq!(parts.find(key(0), 30), None, "nobody waits for ever");
    }

    #[test]
    fn a_first_part_that_comes_again_has_the_same_number_and_others_have_not() {
        let mut parts = Parts::default();
        let first = parts.first(key(7), ADDRESS, ADDRESS, 1, 0);
        assert_eq!(parts.first(key(7), ADDRESS, ADDRESS, 1, 0), first);
        assert_ne!(parts.first(key(8), ADDRESS, ADDRESS, 1, 0).id, first.id);
    }
}
