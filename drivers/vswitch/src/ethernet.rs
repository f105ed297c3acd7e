//! Ethernet addresses, and what a frame's header says.

use core::fmt;
use core::str::FromStr;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether it names a group of stations; all of them, for the broadcast address.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The address as a number, for hashing.
    pub(crate) fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is not an Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAMac;

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an Ethernet address is six pairs of hexadecimal digits, with colons between")
    }
}

impl core::error::Error for NotAMac {}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(part.ok_or(NotAMac)?, 16).map_err(|_| NotAMac)?;
        }
        if parts.next().is_some() { Err(NotAMac) } else { Ok(Mac(bytes)) }
    }
}

/// The type of a frame with an IEEE 802.1Q tag.
pub(crate) const TAGGED: [u8; 2] = [0x81, 0x00];
/// Bytes of a tag, which stands behind the addresses.
pub(crate) const TAG: usize = 4;
/// The part of a tag that names the VLAN; the rest is a priority.
const VLAN_BITS: u16 = 0xFFF;

/// What the switch reads of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The receiver.
    pub(crate) to: Mac,
    /// The sender.
    pub(crate) from: Mac,
    /// The VLAN of its tag, if it carries one.
    pub(crate) tag: Option<u16>,
}

impl Header {
    /// Reads the header; `None` if the frame is too short to have one, or to have the type that stands behind its tag.
    pub(crate) fn parse(head: &[u8]) -> Option<Self> {
        let (to, rest) = head.split_first_chunk::<6>()?;
        let (from, rest) = rest.split_first_chunk::<6>()?;
        let (kind, rest) = rest.split_first_chunk::<2>()?;
        let tag = if *kind == TAGGED {
            let (tag, _) = rest.split_first_chunk::<TAG>()?;
            Some(u16::from_be_bytes([tag[0], tag[1]]) & VLAN_BITS)
        } else {
            None
        };
        Some(Header { to: Mac(*to), from: Mac(*from), tag })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_text() {
        let text = "00:16:3e:0a:ff:01";
        assert_eq!(text.parse::<Mac>().map(|mac| mac.to_string()).as_deref(), Ok(text));
    }

    #[test]
    fn what_is_not_six_pairs_is_no_address() {
        for text in
            ["", "00:16:3e:0a:ff", "00:16:3e:0a:ff:01:02", "0:16:3e:0a:ff:01", "00:16:3e:0a:ff:0g", "+1:16:3e:0a:ff:01"]
        {
            assert_eq!(text.parse::<Mac>(), Err(NotAMac), "{text}");
        }
    }

    #[test]
    fn a_frame_shorter_than_its_header_is_none() {
        for len in 0..14 {
            assert_eq!(Header::parse(&[0; 64][..len]), None);
        }
        let tagged = [&[2; 12][..], &[0x81, 0, 0xF0, 20, 8, 0]].concat();
        assert!((14..18).all(|len| Header::parse(&tagged[..len]).is_none()));
        assert_eq!(Header::parse(&tagged).map(|header| header.tag), Some(Some(20)));
    }
}
