//! Transport checksums: what the stack leaves to the driver, and the driver, where it may, to the other side.
//!
//! A frame with a *blank* checksum holds the pseudo header's sum where the checksum belongs; whoever puts the frame on a
//! wire adds the rest (Xen public/io/netif.h, `XEN_NETTXF_csum_blank`). Between domains nobody ever does.

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where the transport part of a frame lies.
struct Transport {
    /// First byte of its header, and first byte behind its payload.
    start: usize,
    end: usize,
    /// Where the checksum is.
    field: usize,
    /// Sum of the pseudo header.
    pseudo: u64,
    protocol: u8,
    version: Version,
}

/// The network protocol of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

/// Which frames may leave with a blank checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offload {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

/// Makes the checksum of a frame to send: blank where the other side takes that, complete otherwise. True when it is
/// blank. A fragment, or what is neither TCP nor UDP, is left as it is.
pub(super) fn make(frame: &mut [u8], offload: Offload) -> bool {
    let Some(transport) = Transport::of(frame) else { return false };
    let blank = match transport.version {
        Version::V4 => offload.v4,
        Version::V6 => offload.v6,
    };
    transport.put(frame, 0);
    let sum = if blank { fold(transport.pseudo) } else { !fold(transport.pseudo + transport.sum(frame)) };
    // In UDP a sum of 0 says that there is none (RFC 768).
    let sum = if sum == 0 && transport.protocol == UDP { 0xFFFF } else { sum };
    transport.put(frame, sum);
    blank
}

/// Whether the checksum of a received frame is right. Of a fragment, or what is neither TCP nor UDP, nothing is said.
pub(super) fn is_right(frame: &[u8]) -> bool {
    let Some(transport) = Transport::of(frame) else { return true };
    let none = transport.protocol == UDP
        && transport.version == Version::V4
        && frame.get(transport.field..transport.field + 2) == Some(&[0, 0]);
    none || fold(transport.pseudo + transport.sum(frame)) == 0xFFFF
}

impl Transport {
    fn of(frame: &[u8]) -> Option<Self> {
        let (kind, network) = match be16(frame, 12)? {
            0x8100 => (be16(frame, 16)?, 18),
            kind => (kind, 14),
        };
        let (start, end, protocol, pseudo, version) = match kind {
            0x0800 => {
                let header = usize::from(frame.get(network)? & 15) * 4;
                // More fragments, or not the first one.
                if be16(frame, network + 6)? & 0x3FFF != 0 {
                    return None;
                }
                let end = network + usize::from(be16(frame, network + 2)?);
                let pseudo = sum(frame.get(network + 12..network + 20)?);
                (network + header, end, *frame.get(network + 9)?, pseudo, Version::V4)
            }
            0x86DD => {
                let start = network + 40;
                let end = start + usize::from(be16(frame, network + 4)?);
                let pseudo = sum(frame.get(network + 8..network + 40)?);
                (start, end, *frame.get(network + 6)?, pseudo, Version::V6)
            }
            _ => return None,
        };
        let field = start
            + match protocol {
                TCP => 16,
                UDP => 6,
                _ => return None,
            };
        if field + 2 > end || end > frame.len() {
            return None;
        }
        let pseudo = pseudo + u64::from(protocol) + (end - start) as u64;
        Some(Self { start, end, field, pseudo, protocol, version })
    }

    fn sum(&self, frame: &[u8]) -> u64 {
        sum(frame.get(self.start..self.end).unwrap_or_default())
    }

    fn put(&self, frame: &mut [u8], value: u16) {
        if let Some(field) = frame.get_mut(self.field..self.field + 2) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The sum of big-endian 16-bit words, not folded; an odd byte counts as the high one. It takes words of 32 bits, which
/// folds to the same.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let mut rest = [0; 4];
    for (to, from) in rest.iter_mut().zip(words.remainder()) {
        *to = *from;
    }
    let last = u64::from(u32::from_be_bytes(rest));
    words.filter_map(|word| word.first_chunk()).map(|word| u64::from(u32::from_be_bytes(*word))).sum::<u64>() + last
}

/// Adds the carries until 16 bits are left (RFC 1071).
#[expect(clippy::cast_possible_truncation, reason = "four rounds leave 16 bits of 64")]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xFFFF_FFFF) + (sum >> 32);
    let sum = (sum & 0xFFFF) + (sum >> 16);
    let sum = (sum & 0xFFFF) + (sum >> 16);
    ((sum & 0xFFFF) + (sum >> 16)) as u16
}
