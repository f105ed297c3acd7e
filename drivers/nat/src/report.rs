//! Messages of ICMP in which the router tells a guest what became of its packet (RFC 792; RFC 1812, section 4.3).

use core::net::Ipv4Addr;

use crate::checksum::{be16, checksum, put16};
use crate::neighbours::MacBytes;
use crate::packet::{ETHERNET, address, is_ipv4};

/// Bytes of an IPv4 header without options.
const IPV4: usize = 20;
/// Bytes in front of what a message quotes.
const FRONT: usize = ETHERNET + IPV4 + 8;
/// Bytes of the longest message: it quotes a header with all options, and eight bytes.
const LONGEST: usize = FRONT + 60 + 8;

/// Why a packet did not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It has made all the hops that it may.
    Expired,
    /// It is longer than what the network outside carries, and must not be cut.
    TooLong(u16),
}

/// A message, as a frame.
pub(crate) struct Message {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Message {
    /// The message about the packet in a frame, from the router, which has `mac` and `own`. None is due about messages of ICMP other than
    /// questions, nor about later parts of a packet.
    pub(crate) fn about(head: &[u8], trouble: Trouble, mac: MacBytes, own: Ipv4Addr) -> Option<Self> {
        let size = usize::from(head.get(ETHERNET)? & 0xF) * 4;
        let quoted = head.get(ETHERNET..ETHERNET + size + 8).filter(|_| is_ipv4(head) && size >= IPV4)?;
        let is_icmp = quoted.get(9) == Some(&1);
        if be16(quoted, 6) & 0x1FFF != 0 || is_icmp && quoted.get(size) != Some(&8) {
            return None;
        }
        let len = FRONT + quoted.len();
        let mut message = Message { bytes: [0; LONGEST], len };
        message.put(0, head.get(6..12)?);
        message.put(6, &mac);
        message.put(12, &[0x08, 0x00, 0x45, 0]);
        put16(&mut message.bytes, ETHERNET + 2, u16::try_from(len - ETHERNET).ok()?);
        // May not be cut; 64 hops; ICMP.
        message.put(ETHERNET + 6, &[0x40, 0, 64, 1]);
        message.put(ETHERNET + 12, &own.octets());
        message.put(ETHERNET + 16, &address(head, ETHERNET + 12).octets());
        match trouble {
            Trouble::Expired => message.put(ETHERNET + IPV4, &[11, 0]),
            Trouble::TooLong(mtu) => {
                message.put(ETHERNET + IPV4, &[3, 4]);
                // RFC 1191, section 4.
                put16(&mut message.bytes, ETHERNET + IPV4 + 6, mtu);
            }
        }
        message.put(FRONT, quoted);
        message.sum(ETHERNET..ETHERNET + IPV4, ETHERNET + 10);
        message.sum(ETHERNET + IPV4..len, ETHERNET + IPV4 + 2);
        Some(message)
    }

    /// The frame.
    pub(crate) fn frame(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn sum(&mut self, range: core::ops::Range<usize>, at: usize) {
        let sum = checksum(self.bytes.get(range).unwrap_or_default(), 0);
        put16(&mut self.bytes, at, sum);
    }
}
