//! What is inside a frame, as far as checksums and segmentation need it: IPv4 or IPv6, then TCP or UDP.

use driver_api::checksum;

use crate::ethernet::{TAG, TAGGED};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// The IP protocol number of TCP.
const TCP: u8 = 6;
/// The IP protocol number of UDP.
const UDP: u8 = 17;

/// The version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ip {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

/// Where the parts of a frame begin, as offsets into its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) ip: Ip,
    /// The IP header.
    pub(crate) network: usize,
    /// The TCP or UDP header.
    pub(crate) transport: usize,
    /// [`TCP`] or [`UDP`].
    pub(crate) protocol: u8,
    /// The first byte of payload.
    pub(crate) payload: usize,
}

impl Layout {
    /// Finds the parts; `None` if the frame is of another kind, or if `head` ends before its payload begins.
    pub(crate) fn parse(head: &[u8]) -> Option<Self> {
        let tag = if head.get(12..14)? == TAGGED { TAG } else { 0 };
        let network = ETHERNET + tag;
        let (ip, protocol, transport) = match head.get(12 + tag..network)? {
            [0x08, 0x00] => {
                let size = usize::from(head.get(network)? & 0xF) * 4;
                let fragment = be16(head, network + 6)? & 0x3FFF;
                if size < 20 || fragment != 0 {
                    return None;
                }
                (Ip::V4, *head.get(network + 9)?, network + size)
            }
            // Frames with extension headers are left as they are: nobody offloads them.
            [0x86, 0xDD] => (Ip::V6, *head.get(network + 6)?, network + 40),
            _ => return None,
        };
        let payload = match protocol {
            TCP => {
                let size = usize::from(head.get(transport + 12)? >> 4) * 4;
                if size < 20 {
                    return None;
                }
                transport + size
            }
            UDP => transport + 8,
            _ => return None,
        };
        (payload <= head.len()).then_some(Layout { ip, network, transport, protocol, payload })
    }

    /// Whether the transport is TCP.
    pub(crate) fn is_tcp(&self) -> bool {
        self.protocol == TCP
    }

    /// Where the transport checksum stands.
    pub(crate) fn checksum(&self) -> usize {
        self.transport + if self.is_tcp() { 16 } else { 6 }
    }

    /// The sum over the pseudo header, for `len` bytes of transport header and payload.
    pub(crate) fn pseudo_sum(&self, head: &[u8], len: usize) -> u32 {
        let addresses = match self.ip {
            Ip::V4 => self.network + 12..self.network + 20,
            Ip::V6 => self.network + 8..self.network + 40,
        };
        let len = u32::try_from(len).unwrap_or(0);
        sum(head.get(addresses).unwrap_or_default(), 0) + u32::from(self.protocol) + (len >> 16) + (len & 0xFFFF)
    }
}

/// The 16 bits in network order at `at`.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

/// Writes 16 bits in network order at `at`, where there is room.
pub(crate) fn put_be16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Adds the bytes to a running one's-complement sum; an odd last byte is an upper half.
pub(crate) fn sum(bytes: &[u8], start: u32) -> u32 {
    checksum::fold(u64::from(start) + u64::from(checksum::sum(bytes))).into()
}

/// The checksum that goes with a sum.
pub(crate) fn finish(sum: u32) -> u16 {
    !checksum::fold(sum.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_of_the_example_of_rfc_1071_is_the_complement_of_its_sum() {
        let bytes = [0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7];
        assert_eq!(sum(&bytes, 0), 0xDDF2);
        assert_eq!(finish(sum(&bytes, 0)), !0xDDF2);
    }

    proptest! {
        #[test]
        fn no_head_makes_the_parser_panic_or_point_behind_it(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(layout) = Layout::parse(&head) {
                prop_assert!(layout.network < layout.transport && layout.transport < layout.payload);
                prop_assert!(layout.payload <= head.len());
                layout.pseudo_sum(&head, 65_535);
            }
        }

        #[test]
        fn a_sum_in_parts_is_the_sum_of_the_whole(mut bytes in proptest::collection::vec(any::<u8>(), 0..2_000), cut in any::<usize>()) {
            bytes.truncate(bytes.len() & !1);
            let cut = (cut % (bytes.len() + 1)) & !1;
            prop_assert_eq!(finish(sum(&bytes[cut..], sum(&bytes[..cut], 0))), finish(sum(&bytes, 0)));
        }
    }
}
