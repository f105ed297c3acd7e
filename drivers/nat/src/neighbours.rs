//! Which Ethernet address an IPv4 address of a network has (RFC 826), as far as the router needs to know.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::packet::{ETHERNET, address};

/// An Ethernet address.
pub type MacBytes = [u8; 6];

/// Seconds for which an address is believed.
const AGE: u64 = 300;
/// Stations that are remembered: as many as the largest network inside has.
const STATIONS: usize = 256;
/// Questions that are remembered.
const QUESTIONS: usize = 32;
/// Bytes of a frame that asks or answers.
pub(crate) const ARP_FRAME: usize = 42;

#[derive(Clone, Copy)]
struct Station {
    address: Ipv4Addr,
    mac: MacBytes,
    seen: u64,
}

/// The stations of a network that were seen.
pub(crate) struct Neighbours {
    stations: Vec<Station>,
    /// The last questions, none of which is asked twice in a second (RFC 1122, section 2.3.2.1).
    asked: VecDeque<(Ipv4Addr, u64)>,
}

impl Neighbours {
    pub(crate) fn new() -> Self {
        Neighbours { stations: Vec::with_capacity(STATIONS), asked: VecDeque::with_capacity(QUESTIONS) }
    }

    /// A station was seen; when there are too many, the one that was seen longest ago makes room.
    pub(crate) fn learn(&mut self, address: Ipv4Addr, mac: MacBytes, now: u64) {
        let station = Station { address, mac, seen: now };
        if let Some(known) = self.stations.iter_mut().find(|station| station.address == address) {
            *known = station;
        } else if self.stations.len() < STATIONS {
            self.stations.push(station);
        } else if let Some(oldest) = self.stations.iter_mut().min_by_key(|station| station.seen) {
            *oldest = station;
        }
    }

    /// Its Ethernet address.
    pub(crate) fn find(&self, address: Ipv4Addr, now: u64) -> Option<MacBytes> {
        let station = self.stations.iter().find(|station| station.address == address)?;
        (now.saturating_sub(station.seen) < AGE).then_some(station.mac)
    }

    /// Whether to ask for a station now.
    pub(crate) fn may_ask(&mut self, address: Ipv4Addr, now: u64) -> bool {
        if self.asked.contains(&(address, now)) {
            return false;
        }
        if self.asked.len() == QUESTIONS {
            self.asked.pop_front();
        }
        self.asked.push_back((address, now));
        true
    }
}

/// The sender of an ARP frame over Ethernet and IPv4.
pub(crate) fn sender(head: &[u8]) -> Option<(Ipv4Addr, MacBytes)> {
    // Ethernet, IPv4, and the sizes of their addresses.
    let fixed = [0x00, 0x01, 0x08, 0x00, 6, 4];
    if head.len() < ARP_FRAME || !is_arp(head) || head.get(ETHERNET..ETHERNET + 6) != Some(&fixed) {
        return None;
    }
    let mac: MacBytes = head.get(22..28)?.try_into().ok()?;
    Some((address(head, 28), mac))
}

/// Whether a frame is ARP without a tag.
pub(crate) fn is_arp(head: &[u8]) -> bool {
    head.get(12..14) == Some(&[0x08, 0x06])
}

/// The frame in which `mac`, which has `own`, asks everybody who has `wanted`.
pub(crate) fn question(mac: MacBytes, own: Ipv4Addr, wanted: Ipv4Addr) -> [u8; ARP_FRAME] {
    let mut frame = [0; ARP_FRAME];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = frame.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &[0xFF; 6]);
    put(6, &mac);
    put(12, &[0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4, 0, 1]);
    put(22, &mac);
    put(28, &own.octets());
    put(38, &wanted.octets());
    frame
}

/// Writes the addresses of a frame's header.
pub(crate) fn readdress(head: &mut [u8], to: MacBytes, from: MacBytes) {
    if let Some(place) = head.get_mut(..12) {
        let (first, second) = place.split_at_mut(6);
        first.copy_from_slice(&to);
        second.copy_from_slice(&from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{be16, put16};

    #[test]
    fn a_question_names_its_sender() {
        let own = Ipv4Addr::new(10, 1, 0, 1);
        let frame = question([2, 0, 0, 0, 0, 1], own, Ipv4Addr::new(10, 1, 0, 2));
        assert_eq!(sender(&frame), Some((own, [2, 0, 0, 0, 0, 1])));
        assert_eq!(be16(&frame, 20), 1);
    }

    #[test]
    fn other_frames_and_short_ones_name_nobody() {
        let mut frame = question([2; 6], Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
        assert_eq!(sender(&frame[..41]), None);
        put16(&mut frame, 12, 0x0800);
        assert_eq!(sender(&frame), None);
    }

    #[test]
    fn stations_beyond_the_limit_take_the_place_of_the_oldest() {
        let mut neighbours = Neighbours::new();
        for n in 0..300u16 {
            neighbours.learn(Ipv4Addr::from(u32::from(n)), [n.to_be_bytes()[1]; 6], n.into());
        }
        assert_eq!(neighbours.stations.len(), STATIONS);
        assert_eq!(neighbours.find(Ipv4Addr::from(43), 300), None);
        assert!(neighbours.find(Ipv4Addr::from(44), 300).is_some());
    }

    #[test]
    fn a_station_that_is_silent_for_five_minutes_is_asked_for_again_but_once_a_second() {
        let mut neighbours = Neighbours::new();
        let address = Ipv4Addr::new(10, 1, 0, 2);
        neighbours.learn(address, [1; 6], 100);
        assert_eq!((neighbours.find(address, 399), neighbours.find(address, 400)), (Some([1; 6]), None));
        assert_eq!([400, 400, 401].map(|now| neighbours.may_ask(address, now)), [true, false, true]);
    }
}
