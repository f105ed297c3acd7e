//! The connections that are known: a table of fixed size in which nobody displaces others beyond their share.
//!
//! Each connection is charged to whoever began it. When the table is full, a new one takes the place of the connection that has
//! been silent longest among those of the party that has most; of equal ones the newcomer's own. So whoever opens connections
//! without end displaces its own, and everybody keeps at least the table's size divided by the number of parties.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use hashbrown::HashTable;

use crate::packet::{ACK, End, FIN, Protocol, RST, SYN};

/// Who a connection is charged to.
pub type Owner = u16;

/// Which side of the translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Inside,
    Outside,
}

/// How far a connection has come; how long its silence is borne depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Of a protocol without connections.
    Exchange,
    /// TCP of which only the beginner was heard.
    Opening(Side),
    /// TCP that both have spoken.
    Open,
    /// TCP that one side has ended.
    HalfClosed(Side),
    /// TCP that is over.
    Closed,
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) protocol: Protocol,
    /// The guest's end, as it knows it.
    pub(crate) inside: End,
    /// The other end.
    pub(crate) remote: End,
    /// The port by which the other end knows the guest.
    pub(crate) port: u16,
    /// The guest takes the host for the other end.
    pub(crate) relayed: bool,
    owner: Owner,
    phase: Phase,
    /// Second of the last packet.
    seen: u64,
    /// Neighbours in the owner's list, which goes from the longest silent to the latest.
    before: Option<u16>,
    after: Option<u16>,
}

impl Connection {
    /// A connection that begins with a packet from `side`.
    pub(crate) fn new(protocol: Protocol, inside: End, remote: End, port: u16, owner: Owner, side: Side) -> Self {
        let phase = if protocol == Protocol::Tcp { Phase::Opening(side) } else { Phase::Exchange };
        let (relayed, seen, before, after) = (false, 0, None, None);
        Connection { protocol, inside, remote, port, relayed, owner, phase, seen, before, after }
    }

    /// The same connection, where the guest takes the host for the other end.
    pub(crate) fn relayed(self, relayed: bool) -> Self {
        Connection { relayed, ..self }
    }

    /// Seconds of silence after which it is forgotten: RFC 5382 for TCP, RFC 4787 for UDP, RFC 5508 for ICMP.
    fn patience(&self) -> u64 {
        match (self.protocol, self.phase) {
            (Protocol::Icmp, _) => 60,
            (Protocol::Udp, _) => 180,
            (Protocol::Tcp, Phase::Open | Phase::HalfClosed(_) | Phase::Exchange) => 2 * 3600 + 4 * 60,
            (Protocol::Tcp, Phase::Opening(_) | Phase::Closed) => 4 * 60,
        }
    }

    /// Who it is charged to.
    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.seen) >= self.patience()
    }

    /// A packet from `side` with these flags of TCP.
    fn heard(&mut self, side: Side, flags: u8) {
        self.phase = match self.phase {
            Phase::Exchange => Phase::Exchange,
            _ if flags & RST != 0 => Phase::Closed,
            // The port is used again.
            Phase::Closed if flags & (SYN | ACK) == SYN => Phase::Opening(side),
            Phase::HalfClosed(first) if flags & FIN != 0 && first != side => Phase::Closed,
            Phase::Open | Phase::Opening(_) if flags & FIN != 0 => Phase::HalfClosed(side),
            Phase::Opening(first) if first != side => Phase::Open,
            phase @ (Phase::Opening(_) | Phase::Open | Phase::HalfClosed(_) | Phase::Closed) => phase,
        };
    }
}

/// A party's connections, in the order of their last packet.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    first: Option<u16>,
    last: Option<u16>,
    count: usize,
}

/// The connections.
pub(crate) struct Table {
    slots: Vec<Option<Connection>>,
    free: Vec<u16>,
    inside: HashTable<u16>,
    outside: HashTable<u16>,
    owners: BTreeMap<Owner, Queue>,
    seed: u64,
    /// Where the search for what is over goes on.
    hand: usize,
}

/// Mixes what distinguishes a connection with a number that guests do not know.
fn hash(seed: u64, protocol: Protocol, own: u64, remote: End) -> u64 {
    let remote = u64::from(u32::from(remote.0)) << 16 | u64::from(remote.1);
    let mut state = seed ^ protocol as u64;
    for word in [own, remote] {
        state = (state ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ seed << 1);
        state ^= state >> 32;
    }
    state.wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

fn inside_hash(seed: u64, protocol: Protocol, inside: End, remote: End) -> u64 {
    hash(seed, protocol, u64::from(u32::from(inside.0)) << 16 | u64::from(inside.1), remote)
}

fn outside_hash(seed: u64, protocol: Protocol, port: u16, remote: End) -> u64 {
    hash(seed, protocol, u64::from(port), remote)
}

impl Table {
    /// A table for `capacity` connections. `seed` is a number that guests do not know.
    pub(crate) fn new(capacity: u16, seed: u64) -> Self {
        // With twice the room the maps tidy up in place and never ask for memory again.
        let room = usize::from(capacity) * 2;
        Table {
            slots: alloc::vec![None; capacity.into()],
            free: (0..capacity).rev().collect(),
            inside: HashTable::with_capacity(room),
            outside: HashTable::with_capacity(room),
            owners: BTreeMap::new(),
            seed,
            hand: 0,
        }
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many of them are charged to `owner`.
    pub(crate) fn count(&self, owner: Owner) -> usize {
        self.owners.get(&owner).map_or(0, |queue| queue.count)
    }

    fn get(&self, slot: u16) -> Option<&Connection> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    fn get_mut(&mut self, slot: u16) -> Option<&mut Connection> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    /// The connection between a guest's end and another.
    pub(crate) fn by_inside(&self, protocol: Protocol, inside: End, remote: End, now: u64) -> Option<u16> {
        let hash = inside_hash(self.seed, protocol, inside, remote);
        let same = |slot: &u16| {
            let found = self.get(*slot);
            found.is_some_and(|c| c.protocol == protocol && c.inside == inside && c.remote == remote)
        };
        self.inside.find(hash, same).copied().filter(|slot| self.get(*slot).is_some_and(|c| !c.is_over(now)))
    }

    /// The connection between a port outside and another end.
    pub(crate) fn by_outside(&self, protocol: Protocol, port: u16, remote: End, now: u64) -> Option<u16> {
        let slot = self.at_port(protocol, port, remote)?;
        self.get(slot).is_some_and(|c| !c.is_over(now)).then_some(slot)
    }

    fn at_port(&self, protocol: Protocol, port: u16, remote: End) -> Option<u16> {
        let hash = outside_hash(self.seed, protocol, port, remote);
        let same = |slot: &u16| {
            let found = self.get(*slot);
            found.is_some_and(|c| c.protocol == protocol && c.port == port && c.remote == remote)
        };
        self.outside.find(hash, same).copied()
    }

    /// A connection's ends, which a packet from `side` with these flags has just used.
    pub(crate) fn used(&mut self, slot: u16, side: Side, flags: u8, now: u64) -> Option<Connection> {
        self.unlink(slot);
        let connection = self.get_mut(slot)?;
        connection.heard(side, flags);
        connection.seen = now;
        self.link(slot);
        self.get(slot).copied()
    }

    /// A connection as it is.
    pub(crate) fn look(&self, slot: u16) -> Option<Connection> {
        self.get(slot).copied()
    }

    /// Adds a connection, unless its port is taken by another that lives: displaces what the rule above names.
    pub(crate) fn insert(&mut self, connection: Connection, now: u64) -> Option<u16> {
        for slot in
            [self.at_port(connection.protocol, connection.port, connection.remote), self.same_inside(&connection)]
        {
            match slot.and_then(|slot| Some((slot, self.get(slot)?.is_over(now)))) {
                Some((slot, true)) => self.remove(slot),
                Some((_, false)) => return None,
                None => {}
            }
        }
        if self.free.is_empty() {
            self.displace(connection.owner);
        }
        let slot = self.free.pop()?;
        *self.slots.get_mut(usize::from(slot))? = Some(Connection { seen: now, ..connection });
        let Table { slots, inside, outside, seed, .. } = self;
        let at = |slot: &u16| slots.get(usize::from(*slot)).and_then(Option::as_ref);
        let (protocol, remote) = (connection.protocol, connection.remote);
        inside.insert_unique(inside_hash(*seed, protocol, connection.inside, remote), slot, |slot| {
            at(slot).map_or(0, |c| inside_hash(*seed, c.protocol, c.inside, c.remote))
        });
        outside.insert_unique(outside_hash(*seed, protocol, connection.port, remote), slot, |slot| {
            at(slot).map_or(0, |c| outside_hash(*seed, c.protocol, c.port, c.remote))
        });
        self.link(slot);
        Some(slot)
    }

    fn same_inside(&self, connection: &Connection) -> Option<u16> {
        let Connection { protocol, inside, remote, .. } = *connection;
        let hash = inside_hash(self.seed, protocol, inside, remote);
        let same = |slot: &u16| {
            let found = self.get(*slot);
            found.is_some_and(|c| c.protocol == protocol && c.inside == inside && c.remote == remote)
        };
        self.inside.find(hash, same).copied()
    }

    /// Makes room for a connection of `newcomer`.
    fn displace(&mut self, newcomer: Owner) {
        let most = self.owners.iter().max_by_key(|(owner, queue)| (queue.count, **owner == newcomer));
        if let Some(oldest) = most.and_then(|(_, queue)| queue.first) {
            self.remove(oldest);
        }
    }

    /// Forgets a connection.
    fn remove(&mut self, slot: u16) {
        self.unlink(slot);
        let Some(gone) = self.slots.get_mut(usize::from(slot)).and_then(Option::take) else { return };
        let hash = inside_hash(self.seed, gone.protocol, gone.inside, gone.remote);
        if let Ok(entry) = self.inside.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        let hash = outside_hash(self.seed, gone.protocol, gone.port, gone.remote);
        if let Ok(entry) = self.outside.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.free.push(slot);
    }

    /// Forgets everything of a party.
    pub(crate) fn forget(&mut self, owner: Owner) {
        while let Some(slot) = self.owners.get(&owner).and_then(|queue| queue.first) {
            self.remove(slot);
        }
        self.owners.remove(&owner);
    }

    /// Forgets every connection.
    pub(crate) fn clear(&mut self) {
        let owners: Vec<Owner> = self.owners.keys().copied().collect();
        owners.into_iter().for_each(|owner| self.forget(owner));
    }

    /// Forgets what is over among the next `count` places. Call it again and again.
    pub(crate) fn sweep(&mut self, count: usize, now: u64) {
        for _ in 0..count.min(self.slots.len()) {
            let slot = u16::try_from(self.hand).unwrap_or(0);
            if self.get(slot).is_some_and(|connection| connection.is_over(now)) {
                self.remove(slot);
            }
            self.hand = (self.hand + 1) % self.slots.len();
        }
    }

    /// Puts a connection at the end of its owner's list.
    fn link(&mut self, slot: u16) {
        let Some(owner) = self.get(slot).map(|connection| connection.owner) else { return };
        let queue = self.owners.entry(owner).or_default();
        let last = queue.last.replace(slot);
        queue.count += 1;
        if last.is_none() {
            queue.first = Some(slot);
        }
        if let Some(connection) = self.get_mut(slot) {
            (connection.before, connection.after) = (last, None);
        }
        if let Some(neighbour) = last.and_then(|last| self.get_mut(last)) {
            neighbour.after = Some(slot);
        }
    }

    /// Takes a connection out of its owner's list.
    fn unlink(&mut self, slot: u16) {
        let Some(Connection { owner, before, after, .. }) = self.look(slot) else { return };
        if let Some(neighbour) = before.and_then(|before| self.get_mut(before)) {
            neighbour.after = after;
        }
        if let Some(neighbour) = after.and_then(|after| self.get_mut(after)) {
            neighbour.before = before;
        }
        if let Some(queue) = self.owners.get_mut(&owner) {
            queue.count = queue.count.saturating_sub(1);
            if queue.first == Some(slot) {
                queue.first = after;
            }
            if queue.last == Some(slot) {
                queue.last = before;
            }
        }
    }

    /// The guests' ends of all connections, for a person to see: protocol, inside, remote, port.
    pub(crate) fn list(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().flatten()
    }
}
