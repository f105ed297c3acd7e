//! Numbers that look random and are the same in each run, with a taste for those that break things.

use crate::sys::{READ_ONLY_ALIAS, Scratch};

/// Values at the edges of what fields can hold.
pub const ODD: [u64; 24] = [
    0,
    1,
    2,
    3,
    7,
    63,
    64,
    0xFFF,
    0x1000,
    0x7FF0,
    0x7FF4,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    0x1_0000_0001,
    0xFF_FFFF_F000,
    0x7FFF_FFFF_FFFF_FFFF,
    0x8000_0000_0000_0000,
    0xFFFF_FFFF_FFFF_F000,
    u64::MAX,
];

/// Pointers that are no good, or only just.
pub fn pointers(scratch: &Scratch) -> [u64; 14] {
    let page = scratch.at(8 * 4096);
    [
        0,
        1,
        page,
        page + 1,
        page + 4092,
        page + 4095,
        page - crate::sys::RAM + READ_ONLY_ALIAS,
        0x0300_1000,
        0x3900_0000,
        0x3F_FFFF_F000,
        0x7F_FFFF_FFF8,
        0xFFFF_8000_0000_0000,
        u64::MAX - 7,
        u64::MAX,
    ]
}

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled").
pub struct Random(u64);

impl Random {
    /// A sequence; the seed is not 0.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// The next word.
    pub fn word(&mut self) -> u32 {
        (self.next() >> 32) as u32
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    /// An index below `bound`, which is not 0.
    pub fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// A value from the edges, or small, or anything, or a pointer.
    pub fn argument(&mut self, scratch: &Scratch) -> u64 {
        match self.below(5) {
            0 => self.pick(&ODD),
            1 => self.below(64),
            2 => self.next(),
            3 => self.pick(&pointers(scratch)),
            _ => scratch.at(self.below(scratch.size())) & !7,
        }
    }

    /// One of several.
    pub fn pick(&mut self, values: &[u64]) -> u64 {
        values.get(self.index(values.len())).copied().unwrap_or(0)
    }
}
