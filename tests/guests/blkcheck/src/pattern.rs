//! Data that says where on the disk it belongs, so that a misplaced sector shows.

/// The word at `index` of the data that starts at `sector`, in the given round.
fn word(sector: u64, index: usize, round: u64) -> u64 {
    let position = sector.wrapping_mul(64).wrapping_add(index as u64);
    // An odd multiplier spreads neighbouring positions over all bits.
    (position ^ round.rotate_left(56)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Fills the buffer with what belongs at `sector`.
pub fn fill(buffer: &mut [u8], sector: u64, round: u64) {
    for (index, bytes) in buffer.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(sector, index, round).to_le_bytes());
    }
}

/// The first byte of the buffer that does not belong at `sector`.
pub fn first_difference(buffer: &[u8], sector: u64, round: u64) -> Option<u64> {
    let wrong = |(index, bytes): (usize, &[u8])| bytes != word(sector, index, round).to_le_bytes();
    buffer.chunks_exact(8).enumerate().position(wrong).map(|index| index as u64 * 8)
}
