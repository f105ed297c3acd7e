//! A stream whose every byte follows from its position, so that one that is lost, doubled or changed shows.

/// A place in the stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pattern {
    position: u64,
}

impl Pattern {
    /// Writes what comes next.
    pub fn fill(&mut self, room: &mut [u8]) {
        for byte in room {
            *byte = self.next();
        }
    }

    /// Whether this is what comes next; goes on behind it either way.
    pub fn matches(&mut self, data: &[u8]) -> bool {
        data.iter().fold(true, |right, byte| (self.next() == *byte) & right)
    }

    /// A byte of the number of the 8-byte word that it is in, spread by an odd multiplier.
    fn next(&mut self) -> u8 {
        let word = (self.position >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let byte = word.rotate_right(u32::from(self.position.to_le_bytes()[0] & 7) * 8).to_le_bytes()[0];
        self.position += 1;
        byte
    }
}
