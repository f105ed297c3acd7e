//! Internet checksums, brought up to date word by word (RFC 1624) rather than made anew.

use driver_api::checksum::{fold, sum};

/// The 16 bits in network order at `at`; 0 where there are none.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_be_bytes)
}

/// The 32 bits in network order at `at`; 0 where there are none.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Writes 16 bits in network order, where there is room.
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Whether the checksum within an IPv4 header, of a multiple of four bytes, fits the rest (RFC 1071).
pub(crate) fn is_sound(header: &[u8]) -> bool {
    sum(header) == 0xFFFF
}

/// A checksum field, and how it is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// Where it stands.
    pub(crate) at: usize,
    /// The rule of its protocol.
    pub(crate) kind: FieldKind,
}

/// The rules that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldKind {
    /// The complement of the sum.
    Plain,
    /// The same, but a field of 0 means that there is none, and a sum of 0 is written as all ones (RFC 768).
    Optional,
    /// The sum of the pseudo header alone, not complemented: the rest is added further down the road.
    Blank,
}

/// Equation 3 of RFC 1624: the checksum after a word that it covers has changed from `old` to `new`.
const fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = !checksum as u32 + !old as u32 + new as u32;
    let sum = (sum & 0xFFFF) + (sum >> 16);
    // Three words of 16 bits carry at most twice.
    let [_, _, high, low] = ((sum & 0xFFFF) + (sum >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

impl Field {
    /// Keeps the field true when a word that it covers changes.
    pub(crate) fn adjust(self, bytes: &mut [u8], old: u16, new: u16) {
        let before = be16(bytes, self.at);
        let after = match self.kind {
            FieldKind::Plain => updated(before, old, new),
            FieldKind::Optional if before == 0 => return,
            FieldKind::Optional => match updated(before, old, new) {
                0 => 0xFFFF,
                sum => sum,
            },
            FieldKind::Blank => !updated(!before, old, new),
        };
        put16(bytes, self.at, after);
    }
}

/// Writes a word at `at`, and keeps the checksums that cover it true.
pub(crate) fn replace16(bytes: &mut [u8], at: usize, value: u16, fields: &[Field]) {
    let old = be16(bytes, at);
    put16(bytes, at, value);
    fields.iter().for_each(|field| field.adjust(bytes, old, value));
}

/// The same for two words.
pub(crate) fn replace32(bytes: &mut [u8], at: usize, value: u32, fields: &[Field]) {
    let [a, b, c, d] = value.to_be_bytes();
    replace16(bytes, at, u16::from_be_bytes([a, b]), fields);
    replace16(bytes, at + 2, u16::from_be_bytes([c, d]), fields);
}

/// The checksum of whole bytes, on top of a sum that was begun elsewhere.
pub(crate) fn checksum(bytes: &[u8], start: u32) -> u16 {
    !fold(u64::from(start) + u64::from(sum(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1624_comes_out() {
        assert_eq!(updated(0xDD2F, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn a_field_that_is_kept_is_the_field_made_anew(
            mut bytes in proptest::collection::vec(any::<u8>(), 20..60), word in 1..10usize, value: u16,
        ) {
            bytes.truncate(bytes.len() & !1);
            let field = Field { at: 0, kind: FieldKind::Plain };
            put16(&mut bytes, 0, 0);
            let sum = checksum(&bytes, 0);
            put16(&mut bytes, 0, sum);
            replace16(&mut bytes, word * 2, value, &[field]);
            // Both zeros of the one's complement stand for the same.
            prop_assert!(matches!(checksum(&bytes, 0), 0 | 0xFFFF));
        }
    }
}
