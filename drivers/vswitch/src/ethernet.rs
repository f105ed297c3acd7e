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
        self.0.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
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
const TAGGED: [u8; 2] = [0x81, 0x00];

/// What the switch reads of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The receiver.
    pub(crate) to: Mac,
    /// The sender.
    pub(crate) from: Mac,
    /// Whether the frame carries a VLAN tag.
    pub(crate) tagged: bool,
}

impl Header {
    /// Reads the header; `None` if the frame is too short to have one.
    pub(crate) fn parse(head: &[u8]) -> Option<Self> {
        let (to, rest) = head.split_first_chunk::<6>()?;
        let (from, rest) = rest.split_first_chunk::<6>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        Some(Header { to: Mac(*to), from: Mac(*from), tagged: *kind == TAGGED })
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
    }
}
