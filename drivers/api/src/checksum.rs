//! The Internet checksum (RFC 1071): the complement of the one's-complement sum of 16-bit words.

use zerocopy::FromBytes;

/// The sum over the bytes as 16-bit words in network order, the first byte being an upper half, as an odd last one is.
///
/// The sum of words in another order is the same sum in that order (RFC 1071, section 2 B): so it is made of words of eight bytes
/// as the machine loads them, and turned at the end.
pub fn sum(bytes: &[u8]) -> u16 {
    let (head, rest) = bytes.split_at(bytes.as_ptr().align_offset(align_of::<u64>()).min(bytes.len()));
    // What begins at an odd address has no words where the machine loads them; frames do not.
    let count = if head.len().is_multiple_of(2) { rest.len() / size_of::<u64>() } else { 0 };
    let (words, tail) = <[u64]>::ref_from_prefix_with_elems(rest, count).unwrap_or((&[], rest));
    // A slice is too short for the carries of its halves to fill the upper bits.
    let whole = words.iter().fold(0, |sum, word| sum + (word & 0xFFFF_FFFF) + (word >> 32));
    if words.is_empty() {
        return fold(sum_of_pairs(bytes)).to_be();
    }
    fold(whole + sum_of_pairs(head) + sum_of_pairs(tail)).to_be()
}

/// The sum in the machine's order.
fn sum_of_pairs(bytes: &[u8]) -> u64 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_ne_bytes(*pair))).sum();
    sum + odd.first().map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])))
}

/// Adds the carries of a sum of 16-bit words to it.
pub fn fold(mut sum: u64) -> u16 {
    // Each turn keeps the value modulo 65,535 and halves its length, but for the last carries.
    sum = (sum & 0xFFFF_FFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16 & 0xFFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16);
    u16::try_from((sum & 0xFFFF) + (sum >> 16)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071_adds_up() {
        assert_eq!(sum(&[0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7]), 0xDDF2);
    }

    #[test]
    fn carries_are_added_until_there_are_none() {
        for (sum, folded) in
            [(0, 0), (0xFFFF, 0xFFFF), (0x1_0000, 1), (0x1_FFFF, 1), (u64::MAX, 0xFFFF), (!0xFFFF, 0xFFFF)]
        {
            assert_eq!(fold(sum), folded, "{sum:#x}");
        }
    }

    proptest! {
        #[test]
        fn wherever_bytes_lie_their_sum_is_that_of_the_pairs(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), start in 0..16usize) {
            let bytes = bytes.get(start..).unwrap_or_default();
            let plain = bytes.chunks(2).fold(0u64, |sum, pair| {
                sum + u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))
            });
            // Both zeros of the one's complement stand for the same.
            prop_assert_eq!(sum(bytes) % 0xFFFF, u16::try_from(plain % 0xFFFF).unwrap());
        }
    }
}
