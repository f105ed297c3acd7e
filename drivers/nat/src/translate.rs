//! Address translation: guests behind one address, and ports of that address that lead to guests (RFC 3022, RFC 5382,
//! RFC 5508). What a packet says is changed in the head of its frame; nothing is allocated for it.

use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::Ipv4Addr;

use crate::checksum::replace32;
use crate::forwards::{FIRST_PORT, ForwardError, Forwards, PortForward};
use crate::packet::{ACK, Content, End, Packet, Part, Protocol, RST, SYN, Unknown};
use crate::parts::{Key, Parts};
use crate::rewrite::{Expired, ip_field, one_hop_less, rewrite, rewrite_part, rewrite_quoted};
use crate::table::{Connection, Owner, Side, Table};

/// Connections that are known at most.
pub const CONNECTIONS: u16 = 4096;
/// The party to which connections are charged that begin outside.
pub const STRANGERS: Owner = Owner::MAX;
/// Ports that are tried for a connection before it is refused.
const TRIES: u32 = 32;
/// The port of name servers.
const DNS_PORT: u16 = 53;

/// Why a packet was not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is of no kind that is translated.
    Unknown(Unknown),
    /// It says it comes from an address that the network inside does not have.
    Source,
    /// It has travelled long enough.
    Expired,
    /// There is no address outside now.
    NoAddress,
    /// All ports that were tried are taken.
    NoPort,
    /// It belongs to no connection.
    Stranger,
}

impl From<Expired> for Refusal {
    fn from(_: Expired) -> Self {
        Self::Expired
    }
}

/// The addresses inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The host's own.
    pub host: Ipv4Addr,
    /// Bits that all have in common with it.
    pub mask: u32,
}

impl Inside {
    /// Whether an address is one of a guest.
    pub fn is_guest(self, address: Ipv4Addr) -> bool {
        let (own, other) = (u32::from(self.host), u32::from(address));
        let host = other & !self.mask;
        own & self.mask == other & self.mask && own != other && host != 0 && host != !self.mask
    }
}

/// The translation between a network inside and one address outside.
pub struct Nat {
    inside: Inside,
    outside: Option<Ipv4Addr>,
    /// The name server that the host is for guests.
    resolver: Option<End>,
    table: Table,
    parts: Parts,
    forwards: Forwards,
    /// The translations that have the same address outside: a port that one of them uses is not free here.
    others: Vec<Weak<RefCell<Nat>>>,
    random: u64,
}

impl Nat {
    /// No connections, and no address outside yet. `seed` is a number that guests do not know.
    pub fn new(inside: Inside, seed: u64) -> Self {
        let table = Table::new(CONNECTIONS, seed);
        let (outside, resolver) = (None, None);
        Nat {
            inside,
            outside,
            resolver,
            table,
            parts: Parts::default(),
            forwards: Forwards::new(),
            others: Vec::new(),
            random: seed.rotate_left(32) | 1,
        }
    }

    /// The addresses inside.
    pub fn inside(&self) -> Inside {
        self.inside
    }

    /// Which address is outside now. Connections under an earlier one are over.
    pub fn set_outside(&mut self, address: Option<Ipv4Addr>) {
        if self.outside != address {
            self.table.clear();
            self.parts.clear();
            self.outside = address;
        }
    }

    /// Which name server is asked when a guest asks the host.
    pub fn set_resolver(&mut self, resolver: Option<End>) {
        self.resolver = resolver;
    }

    /// Whether packets for this end, one of the host's, are passed on to a name server.
    fn relays(&self, to: End) -> bool {
        self.resolver.is_some() && to == (self.inside.host, DNS_PORT)
    }

    /// Whether a frame for the host is one that is passed on to a name server.
    pub(crate) fn is_relayed(&self, head: &[u8]) -> bool {
        let packet = if self.resolver.is_some() { Content::parse(head) } else { Err(Unknown::NotIp) };
        matches!(packet, Ok(Content::Packet(packet)) if packet.protocol != Protocol::Icmp && self.relays(packet.to))
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// How many of them are charged to a party.
    pub fn connections_of(&self, owner: Owner) -> usize {
        self.table.count(owner)
    }

    /// The ends of all connections: protocol, guest's end, port outside, other end.
    pub fn list(&self) -> impl Iterator<Item = (Protocol, End, u16, End)> {
        self.table.list().map(|c| (c.protocol, c.inside, c.port, c.remote))
    }

    /// A party is gone.
    pub fn forget(&mut self, owner: Owner) {
        self.table.forget(owner);
        self.parts.forget(owner);
    }

    /// Forgets what is over among some of the places; call it every second.
    pub fn sweep(&mut self, now: u64) {
        self.table.sweep(usize::from(CONNECTIONS) / 16, now);
    }

    /// Leads a port outside to a guest.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub fn forward(&mut self, forward: PortForward) -> Result<(), ForwardError> {
        if !self.inside.is_guest(forward.to.0) {
            return Err(ForwardError::NotInside);
        }
        if forward.port >= FIRST_PORT {
            return Err(ForwardError::Reserved);
        }
        let led = |nat: &Nat| nat.forwards.find(forward.protocol, forward.port).is_some();
        if led(self) || self.another(led) {
            return Err(ForwardError::Taken);
        }
        self.forwards.add(forward)
    }

    /// Ends what [`Self::forward`] did; connections that are open stay so.
    ///
    /// # Errors
    /// [`ForwardError::Absent`].
    pub fn unforward(&mut self, protocol: Protocol, port: u16) -> Result<(), ForwardError> {
        self.forwards.remove(protocol, port)
    }

    /// The ports that lead to guests.
    pub fn forwards(&self) -> &[PortForward] {
        self.forwards.list()
    }

    /// Another translation has the same address outside.
    pub(crate) fn share_with(&mut self, other: &Rc<RefCell<Nat>>) {
        self.others.retain(|nat| nat.strong_count() != 0);
        self.others.push(Rc::downgrade(other));
    }

    /// Whether that is so of another translation with the same address outside.
    fn another(&self, is_so: impl Fn(&Nat) -> bool) -> bool {
        self.others.iter().filter_map(Weak::upgrade).any(|nat| is_so(&nat.borrow()))
    }

    /// Translates a frame of a guest, charged to `owner`. `blank` says that only the pseudo header's sum is in its transport
    /// checksum. Returns where it goes to.
    ///
    /// # Errors
    /// It goes nowhere, and was not changed.
    pub fn outbound(&mut self, head: &mut [u8], blank: bool, owner: Owner, now: u64) -> Result<Ipv4Addr, Refusal> {
        let outside = self.outside.ok_or(Refusal::NoAddress)?;
        match Content::parse(head).map_err(Refusal::Unknown)? {
            Content::Packet(packet) => {
                if !self.inside.is_guest(packet.from.0) {
                    return Err(Refusal::Source);
                }
                one_hop_less(head, packet.network, true)?;
                let relayed = packet.protocol != Protocol::Icmp && self.relays(packet.to);
                let to = self.resolver.filter(|_| relayed).unwrap_or(packet.to);
                let slot = self.connection_out(&Packet { to, ..packet }, relayed, owner, now)?;
                let connection = self.table.used(slot, Side::Inside, packet.flags, now).ok_or(Refusal::NoPort)?;
                one_hop_less(head, packet.network, false)?;
                let from = (outside, connection.port);
                rewrite(head, &packet, packet.network + 12, packet.ports.0, from, blank);
                if relayed {
                    rewrite(head, &packet, packet.network + 16, packet.ports.1, to, blank);
                }
                if let Some(part) = packet.part {
                    let fate = self.parts.first(Key::of(&part, Side::Inside), outside, to.0, owner, now);
                    rewrite_part(head, packet.network, fate);
                }
                Ok(to.0)
            }
            Content::Part(part) => {
                if !self.inside.is_guest(part.from) {
                    return Err(Refusal::Source);
                }
                self.follow(head, part, Side::Inside, now)
            }
            Content::Error { network, message, from, to, about } => {
                if !self.inside.is_guest(from) {
                    return Err(Refusal::Source);
                }
                // It quotes a packet that came in: the guest is its receiver.
                let (inside, remote) = (about.to, remote_of(&about, about.from));
                let slot = self.table.by_inside(about.protocol, inside, remote, now).ok_or(Refusal::Stranger)?;
                let connection = self.table.look(slot).ok_or(Refusal::Stranger)?;
                one_hop_less(head, network, false)?;
                rewrite_quoted(head, message, &about, about.network + 16, about.ports.1, (outside, connection.port));
                replace32(head, network + 12, u32::from(outside), &[ip_field(network)]);
                Ok(to)
            }
        }
    }

    /// Translates a frame from outside back. Returns the guest's address.
    ///
    /// # Errors
    /// It is for no guest, and was not changed.
    pub fn inbound(&mut self, head: &mut [u8], blank: bool, now: u64) -> Result<Ipv4Addr, Refusal> {
        let outside = self.outside.ok_or(Refusal::NoAddress)?;
        match Content::parse(head).map_err(Refusal::Unknown)? {
            Content::Packet(packet) if packet.to.0 == outside => {
                let slot = self.connection_in(&packet, now)?;
                one_hop_less(head, packet.network, true)?;
                let connection = self.table.used(slot, Side::Outside, packet.flags, now).ok_or(Refusal::Stranger)?;
                one_hop_less(head, packet.network, false)?;
                rewrite(head, &packet, packet.network + 16, packet.ports.1, connection.inside, blank);
                if connection.relayed {
                    let host = (self.inside.host, DNS_PORT);
                    rewrite(head, &packet, packet.network + 12, packet.ports.0, host, blank);
                }
                if let Some(part) = packet.part {
                    let from = if connection.relayed { self.inside.host } else { packet.from.0 };
                    let (key, to) = (Key::of(&part, Side::Outside), connection.inside.0);
                    let fate = self.parts.first(key, from, to, connection.owner(), now);
                    rewrite_part(head, packet.network, fate);
                }
                Ok(connection.inside.0)
            }
            Content::Part(part) => self.follow(head, part, Side::Outside, now),
            Content::Error { network, message, to, about, .. } if to == outside && about.from.0 == outside => {
                // It quotes a packet that went out: the guest is its sender.
                let remote = remote_of(&about, about.to);
                let slot = self.table.by_outside(about.protocol, about.from.1, remote, now).ok_or(Refusal::Stranger)?;
                let connection = self.table.look(slot).ok_or(Refusal::Stranger)?;
                one_hop_less(head, network, false)?;
                rewrite_quoted(head, message, &about, about.network + 12, about.ports.0, connection.inside);
                replace32(head, network + 16, u32::from(connection.inside.0), &[ip_field(network)]);
                Ok(connection.inside.0)
            }
            Content::Packet(_) | Content::Error { .. } => Err(Refusal::Stranger),
        }
    }

    /// Translates a later part of a packet as its first one was. Returns where it goes to.
    fn follow(&mut self, head: &mut [u8], part: Part, side: Side, now: u64) -> Result<Ipv4Addr, Refusal> {
        let fate = self.parts.find(Key::of(&part, side), now).ok_or(Refusal::Unknown(Unknown::Fragment))?;
        one_hop_less(head, part.network, false)?;
        rewrite_part(head, part.network, fate);
        Ok(fate.to)
    }

    /// The connection of a guest's packet, which may begin one.
    fn connection_out(&mut self, packet: &Packet, relayed: bool, owner: Owner, now: u64) -> Result<u16, Refusal> {
        let (inside, remote) = (packet.from, remote_of(packet, packet.to));
        if let Some(slot) = self.table.by_inside(packet.protocol, inside, remote, now) {
            return Ok(slot);
        }
        let begins = match packet.protocol {
            Protocol::Icmp => packet.asks,
            Protocol::Tcp => packet.flags & RST == 0,
            Protocol::Udp => true,
        };
        if !begins {
            return Err(Refusal::Stranger);
        }
        let mut port = inside.1;
        for _ in 0..TRIES {
            let taken = |nat: &Nat| nat.table.by_outside(packet.protocol, port, remote, now).is_some();
            if port >= FIRST_PORT && !self.another(taken) {
                let connection = Connection::new(packet.protocol, inside, remote, port, owner, Side::Inside);
                if let Some(slot) = self.table.insert(connection.relayed(relayed), now) {
                    return Ok(slot);
                }
            }
            port = self.random_port();
        }
        Err(Refusal::NoPort)
    }

    /// The connection of a packet from outside, which may begin one where a port is forwarded.
    fn connection_in(&mut self, packet: &Packet, now: u64) -> Result<u16, Refusal> {
        let remote = remote_of(packet, packet.from);
        let port = packet.to.1;
        if let Some(slot) = self.table.by_outside(packet.protocol, port, remote, now) {
            return Ok(slot);
        }
        let forward = self.forwards.find(packet.protocol, port).ok_or(Refusal::Stranger)?;
        if packet.protocol == Protocol::Tcp && packet.flags & (SYN | ACK | RST) != SYN {
            return Err(Refusal::Stranger);
        }
        let connection = Connection::new(packet.protocol, forward.to, remote, port, STRANGERS, Side::Outside);
        self.table.insert(connection, now).ok_or(Refusal::NoPort)
    }

    /// One of the ports that guests get; xorshift, for a number that is hard to guess and quick to have.
    fn random_port(&mut self) -> u16 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let [high, low, ..] = self.random.to_be_bytes();
        FIRST_PORT | u16::from_be_bytes([high, low])
    }
}

/// The end that is not the guest's; ICMP has no port there.
fn remote_of(packet: &Packet, end: End) -> End {
    match packet.protocol {
        Protocol::Icmp => (end.0, 0),
        Protocol::Tcp | Protocol::Udp => end,
    }
}
