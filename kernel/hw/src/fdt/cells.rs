//! Properties as numbers: big-endian cells of 32 bits, in groups whose sizes other nodes say.

/// `#address-cells` and `#size-cells` of a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cells {
    /// Cells of an address; three on PCI.
    pub address: usize,
    /// Cells of a size.
    pub size: usize,
}

/// The value of the first `count` cells, of which the last two count, and the bytes behind them.
pub fn take(bytes: &[u8], count: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(count * 4)?;
    Some((number.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), rest))
}

/// The `reg` entries in `bytes` as address and size; `None` at the end if the last one is not whole.
pub fn pairs(bytes: &[u8], cells: Cells) -> impl Iterator<Item = Option<(u64, u64)>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let pair = take(rest, cells.address).and_then(|(address, tail)| {
            let (size, tail) = take(tail, cells.size)?;
            // An entry of no bytes would never end.
            (tail.len() < rest.len()).then_some(((address, size), tail))
        });
        match pair {
            Some((pair, tail)) => {
                rest = tail;
                Some(Some(pair))
            }
            None => {
                rest = &[];
                Some(None)
            }
        }
    })
}
