//! Which port an address was last seen at: a table of fixed size in which nobody displaces others for long.
//!
//! An address has eight places, chosen by a hash that the guests do not know. A new address takes a free or an aged place;
//! else the place of the port that fills most of the eight, the sender's own if it is among those. So a port
//! that invents addresses competes with itself.

use alloc::boxed::Box;
use alloc::vec;

use crate::ethernet::Mac;

/// Groups of places.
const SETS: usize = 256;
/// Places in a group.
const WAYS: usize = 8;

/// How long an address is remembered after it was last seen, in seconds: the usual five minutes of switches.
const AGE: u64 = 300;

/// A station in a VLAN as one number, which is never 0: its address, a bit that is set, the VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key(u64);

impl Key {
    fn new(mac: Mac, vlan: u16) -> Self {
        Key(mac.number() << 16 | 1 << 15 | u64::from(vlan))
    }

    fn mac(self) -> Mac {
        let [a, b, c, d, e, f, _, _] = self.0.to_be_bytes();
        Mac([a, b, c, d, e, f])
    }

    fn vlan(self) -> u16 {
        let [.., high, low] = self.0.to_be_bytes();
        u16::from_be_bytes([high & 0x7F, low])
    }
}

/// One remembered address, or a free place, whose key is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    key: Key,
    /// Second of the last frame from it.
    seen: u64,
    port: u16,
}

impl Entry {
    const FREE: Self = Entry { key: Key(0), seen: 0, port: 0 };

    fn is_free(&self) -> bool {
        self.key == Key(0)
    }
}

/// The addresses that a bridge has seen.
pub(crate) struct Table {
    sets: Box<[[Entry; WAYS]]>,
    seed: u64,
}

impl Table {
    /// An empty table; `seed` is a number that guests do not know.
    pub(crate) fn new(seed: u64) -> Self {
        Table { sets: vec![[Entry::FREE; WAYS]; SETS].into_boxed_slice(), seed: seed | 1 }
    }

    /// Multiplication mixes towards the upper bits, which choose the set.
    fn set(&self, key: Key) -> usize {
        let seeded = key.0 ^ self.seed;
        let mixed = (seeded ^ seeded >> 29).wrapping_mul(self.seed ^ 0x9E37_79B9_7F4A_7C15);
        (mixed >> 40) as usize % SETS
    }

    /// The port where `mac` was seen.
    pub(crate) fn find(&self, mac: Mac, vlan: u16, now: u64) -> Option<u16> {
        let key = Key::new(mac, vlan);
        let set = self.sets.get(self.set(key))?;
        let entry = set.iter().find(|entry| entry.key == key)?;
        (now.saturating_sub(entry.seen) < AGE).then_some(entry.port)
    }

    /// `mac` was seen at `port`. True if that was not known: some station's port is another now.
    pub(crate) fn learn(&mut self, mac: Mac, vlan: u16, port: u16, now: u64) -> bool {
        let key = Key::new(mac, vlan);
        let index = self.set(key);
        let Some(set) = self.sets.get_mut(index) else { return false };
        if let Some(entry) = set.iter_mut().find(|entry| entry.key == key) {
            let before = core::mem::replace(&mut entry.port, port);
            entry.seen = now;
            return before != port;
        }
        let place = free_place(set, now).unwrap_or_else(|| crowded_place(set, port));
        if let Some(place) = set.get_mut(place) {
            *place = Entry { key, port, seen: now };
        }
        true
    }

    /// Forgets what was seen at `port`.
    pub(crate) fn forget(&mut self, port: u16) {
        for place in self.sets.iter_mut().flatten().filter(|place| place.port == port) {
            *place = Entry::FREE;
        }
    }

    /// The addresses that are remembered: address, VLAN, port, age in seconds.
    pub(crate) fn entries(&self, now: u64) -> impl Iterator<Item = (Mac, u16, u16, u64)> {
        let known = self.sets.iter().flatten().filter(|entry| !entry.is_free());
        let aged = known.map(move |entry| (entry, now.saturating_sub(entry.seen))).filter(|(_, age)| *age < AGE);
        aged.map(|(entry, age)| (entry.key.mac(), entry.key.vlan(), entry.port, age))
    }
}

/// A place that holds nothing, or what is too old.
fn free_place(set: &[Entry; WAYS], now: u64) -> Option<usize> {
    set.iter().position(|place| place.is_free() || now.saturating_sub(place.seen) >= AGE)
}

/// The oldest place of the port that has most of them; of equal ones `own`. All places are taken.
fn crowded_place(set: &[Entry; WAYS], own: u16) -> usize {
    let count = |port: u16| set.iter().filter(|entry| entry.port == port).count();
    let rank = |entry: &Entry| (count(entry.port), entry.port == own, u64::MAX - entry.seen);
    let places = set.iter().enumerate().map(|(index, entry)| (rank(entry), index));
    places.max().map_or(0, |(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u64) -> Mac {
        let bytes = n.to_be_bytes();
        Mac([2, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    }

    #[test]
    fn an_address_is_found_where_it_was_last_seen() {
        let mut table = Table::new(7);
        table.learn(mac(1), 0, 3, 10);
        table.learn(mac(1), 0, 4, 11);
        assert_eq!(table.find(mac(1), 0, 12), Some(4));
        assert_eq!(table.find(mac(2), 0, 12), None);
    }

    #[test]
    fn an_address_of_one_vlan_is_unknown_in_another() {
        let mut table = Table::new(7);
        table.learn(mac(1), 10, 3, 0);
        assert_eq!((table.find(mac(1), 10, 0), table.find(mac(1), 20, 0)), (Some(3), None));
    }

    #[test]
    fn an_address_that_is_silent_for_five_minutes_is_forgotten() {
        let mut table = Table::new(7);
        table.learn(mac(1), 0, 3, 100);
        assert_eq!(table.find(mac(1), 0, 399), Some(3));
        assert_eq!(table.find(mac(1), 0, 400), None);
    }

    #[test]
    fn a_port_that_goes_takes_its_addresses_along() {
        let mut table = Table::new(7);
        table.learn(mac(1), 0, 3, 0);
        table.learn(mac(2), 0, 4, 0);
        table.forget(3);
        assert_eq!((table.find(mac(1), 0, 0), table.find(mac(2), 0, 0)), (None, Some(4)));
    }

    #[test]
    fn a_port_that_invents_addresses_displaces_nobody_else() {
        let mut table = Table::new(0x1234_5678);
        let honest: Vec<Mac> = (0..100).map(mac).collect();
        for mac in &honest {
            table.learn(*mac, 0, 1, 0);
        }
        let before: Vec<bool> = honest.iter().map(|mac| table.find(*mac, 0, 1).is_some()).collect();
        for n in 0..1_000_000 {
            table.learn(mac(1 << 32 | n), 0, 9, 1);
        }
        // An address loses its place only in a set that its own port fills by more than half.
        let kept =
            honest.iter().zip(before).filter(|(mac, known)| *known && table.find(**mac, 0, 1) == Some(1)).count();
        assert!(kept >= 99, "{kept} of 100 addresses are left");
        assert!(table.entries(1).count() <= SETS * WAYS);
    }
}
