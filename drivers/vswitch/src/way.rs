//! The way of a frame, for those that are like it.

use zerocopy::FromBytes;

/// Bytes of a frame that has all that a bridge decides by, and the type behind a tag.
const WHOLE: usize = 18;

/// The way of a frame that went to one port as it was. Whatever comes in at the same port and is like it goes the same way, as
/// long as its epoch lasts: most frames of a port are of one connection.
#[derive(Clone, Copy, Default)]
pub struct Way {
    /// The first 16 bytes: the Ethernet header, and the VLAN of a tag.
    pub judged: [u64; 2],
    /// When it was noted; 0 is none.
    pub epoch: u64,
    /// The port.
    pub to: usize,
}

/// The bytes that a bridge decides by, in two words; `None` if there are fewer.
pub fn judged(head: &[u8]) -> Option<[u64; 2]> {
    let whole = head.first_chunk::<WHOLE>()?;
    // Back ends have heads where words can be read at once.
    let aligned = <[u64; 2]>::ref_from_prefix(whole).map(|(words, _)| *words);
    Some(aligned.unwrap_or_else(|_| in_words(whole)))
}

/// The same, byte by byte. Not inline: the compiler would then read bytes in every case.
#[cold]
#[inline(never)]
fn in_words(whole: &[u8; WHOLE]) -> [u64; 2] {
    let (words, _) = whole.as_chunks::<8>();
    core::array::from_fn(|index| words.get(index).map_or(0, |word| u64::from_ne_bytes(*word)))
}
