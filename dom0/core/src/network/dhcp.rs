//! The DHCP server of a nat bridge (RFC 2131): which address a guest gets, and what is said to it.
//!
//! An address is leased to an Ethernet address, and charged to the port of the bridge where that was seen. When there are
//! no more, the port that has most of them gives its oldest up, the newcomer's own among equals: who invents
//! stations without end takes addresses from itself.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};
use vswitch::Mac;

use super::Cidr;

/// The port of DHCP servers.
pub const SERVER_PORT: u16 = 67;
/// The port of DHCP clients.
pub const CLIENT_PORT: u16 = 68;
/// Bytes of an answer: what BOOTP prescribes at least, and room for every option that is sent.
pub const ANSWER: usize = 300;

/// Seconds for which an address is given.
const LEASE: u32 = 3600;
/// Seconds for which an address is kept for a client that it was offered to.
const OFFER: u64 = 60;
/// Seconds for which an address is not given that a client found in use.
const DECLINED: u64 = 600;

/// An address that is given to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    address: Ipv4Addr,
    /// Nobody, for one that was found in use.
    mac: Option<Mac>,
    /// The port of the bridge that pays; none when it has gone.
    port: Option<u16>,
    /// Second of the last message about it.
    since: u64,
    until: u64,
}

/// To whom an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Its first bytes, in the buffer.
    pub len: usize,
    /// The client's address; everybody's, as long as it has none.
    pub to: Ipv4Addr,
    /// The address that the client has from now on, if this says so.
    pub given: Option<(Ipv4Addr, Mac)>,
}

/// The server of one network.
#[derive(Debug)]
pub struct DhcpServer {
    network: Cidr,
    leases: Vec<Lease>,
}

impl DhcpServer {
    /// A server that is the router and, where it passes questions on, the name server of `network` too, at its address there.
    pub fn new(network: Cidr) -> Self {
        Self { network, leases: Vec::new() }
    }

    /// The addresses that are given now: address, station, seconds left.
    pub fn leases(&self, now: u64) -> impl Iterator<Item = (Ipv4Addr, Mac, u64)> {
        let live = self.leases.iter().filter(move |lease| lease.until > now);
        live.filter_map(move |lease| Some((lease.address, lease.mac?, lease.until - now)))
    }

    /// A port of the bridge is gone; its number may come again and be another's.
    pub fn disown(&mut self, port: u16) {
        for lease in self.leases.iter_mut().filter(|lease| lease.port == Some(port)) {
            lease.port = None;
        }
    }

    /// Writes the answer to a client's message into `answer`, of [`ANSWER`] bytes. `port_of` says where on the bridge a station
    /// was seen; who was not seen is not answered. `now` counts seconds.
    pub fn answer(
        &mut self,
        message: &[u8],
        port_of: impl Fn(Mac) -> Option<u16>,
        now: u64,
        answer: &mut [u8],
    ) -> Option<Answer> {
        let packet = DhcpPacket::new_checked(message).ok()?;
        let request = DhcpRepr::parse(&packet).ok()?;
        let mac = Mac(request.client_hardware_address.0);
        let port = port_of(mac).filter(|_| !mac.is_group())?;
        let own = self.network.address;
        let for_us = request.server_identifier.is_none_or(|server| server == own);
        let (kind, address) = match request.message_type {
            DhcpMessageType::Discover => (DhcpMessageType::Offer, self.offer(mac, request.requested_ip, port, now)?),
            DhcpMessageType::Request if !for_us => {
                // It took another server's offer.
                self.release(mac);
                return None;
            }
            DhcpMessageType::Request => {
                let wanted = request.requested_ip.unwrap_or(request.client_ip);
                match self.bind(mac, wanted, port, now) {
                    true => (DhcpMessageType::Ack, wanted),
                    false => (DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED),
                }
            }
            DhcpMessageType::Inform => (DhcpMessageType::Ack, Ipv4Addr::UNSPECIFIED),
            DhcpMessageType::Decline => {
                self.decline(mac, now);
                return None;
            }
            DhcpMessageType::Release => {
                self.release(mac);
                return None;
            }
            DhcpMessageType::Offer | DhcpMessageType::Ack | DhcpMessageType::Nak | DhcpMessageType::Unknown(_) => {
                return None;
            }
        };
        let known = kind != DhcpMessageType::Nak;
        let given = known && !address.is_unspecified();
        let reply = DhcpRepr {
            message_type: kind,
            transaction_id: request.transaction_id,
            secs: 0,
            client_hardware_address: EthernetAddress(mac.0),
            client_ip: if known { request.client_ip } else { Ipv4Addr::UNSPECIFIED },
            your_ip: address,
            server_ip: own,
            router: known.then_some(own),
            subnet_mask: known.then(|| Ipv4Addr::from(self.network.mask())),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: request.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(own),
            parameter_request_list: None,
            dns_servers: known.then(|| core::iter::once(own).collect()),
            max_size: None,
            lease_duration: given.then_some(LEASE),
            renew_duration: given.then_some(LEASE / 2),
            rebind_duration: given.then_some(LEASE / 8 * 7),
            additional_options: &[],
        };
        let len = reply.buffer_len().max(ANSWER);
        let place = answer.get_mut(..len)?;
        place.fill(0);
        reply.emit(&mut DhcpPacket::new_unchecked(place)).ok()?;
        let reachable = known && !request.client_ip.is_unspecified();
        let to = if reachable { request.client_ip } else { Ipv4Addr::BROADCAST };
        Some(Answer { len, to, given: (given && kind == DhcpMessageType::Ack).then_some((address, mac)) })
    }

    /// Chooses an address for a client: the one that it has, the one that it wishes, the first that is free.
    fn offer(&mut self, mac: Mac, wish: Option<Ipv4Addr>, port: u16, now: u64) -> Option<Ipv4Addr> {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.mac == Some(mac)) {
            (lease.port, lease.since) = (Some(port), now);
            lease.until = lease.until.max(now + OFFER);
            return Some(lease.address);
        }
        let wish = wish.filter(|wish| self.is_free(*wish, now));
        let address = wish.or_else(|| self.first_free(now)).or_else(|| self.displace(port))?;
        self.set(Lease { address, mac: Some(mac), port: Some(port), since: now, until: now + OFFER });
        Some(address)
    }

    /// Gives a client the address that it asks for, if it was offered to it or nobody has it.
    fn bind(&mut self, mac: Mac, wanted: Ipv4Addr, port: u16, now: u64) -> bool {
        let own = self.leases.iter().any(|lease| lease.mac == Some(mac) && lease.address == wanted);
        if !own && !self.is_free(wanted, now) {
            return false;
        }
        self.release(mac);
        self.set(Lease {
            address: wanted,
            mac: Some(mac),
            port: Some(port),
            since: now,
            until: now + u64::from(LEASE),
        });
        true
    }

    fn set(&mut self, lease: Lease) {
        self.leases.retain(|other| other.address != lease.address);
        self.leases.push(lease);
    }

    fn release(&mut self, mac: Mac) {
        self.leases.retain(|lease| lease.mac != Some(mac));
    }

    fn decline(&mut self, mac: Mac, now: u64) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.mac == Some(mac)) {
            (lease.mac, lease.until) = (None, now + DECLINED);
        }
    }

    fn is_free(&self, address: Ipv4Addr, now: u64) -> bool {
        let guest = self.network.is_station(address) && address != self.network.address;
        guest && !self.leases.iter().any(|lease| lease.address == address && lease.until > now)
    }

    fn first_free(&self, now: u64) -> Option<Ipv4Addr> {
        let first = u32::from(self.network.address) & self.network.mask();
        let mut stations = (1..!self.network.mask()).map(|host| Ipv4Addr::from(first | host));
        stations.find(|address| self.is_free(*address, now))
    }

    /// Takes an address from the port that has most, its own among equals.
    fn displace(&mut self, newcomer: u16) -> Option<Ipv4Addr> {
        let count = |port: Option<u16>| self.leases.iter().filter(|lease| lease.port == port).count();
        let rank = |lease: &Lease| (count(lease.port), lease.port == Some(newcomer), u64::MAX - lease.since);
        let (index, _) = self.leases.iter().enumerate().max_by_key(|(_, lease)| rank(lease))?;
        Some(self.leases.swap_remove(index).address)
    }
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
