//! Intermediate physical addresses: what a guest calls physical.
//!
//! Stage 1 maps every address to itself, so an [`Ipa`] is also where the memory is reached once it is mapped.
//!
//! Example: `examples/device.rs`.

use hypercall_abi::PAGE_SIZE;
use hypercall_abi::ids::Gfn;

/// A 64-bit count as an index; the crate runs on AArch64 only, where both have the same width.
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits here")]
pub(crate) const fn index(value: u64) -> usize {
    const { assert!(usize::BITS == 64) };
    value as usize
}

/// An intermediate physical address of this domain, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipa(u64);

impl Ipa {
    /// The address with this value.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The value.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The frame that holds the address.
    #[must_use]
    pub const fn gfn(self) -> Gfn {
        Gfn::of_ipa(self.0)
    }

    /// The address `bytes` further on, wrapping at 2^64 (where nothing is ever mapped).
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl core::fmt::Display for Ipa {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A range of [`Ipa`]s, `start <= end`, the end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpaRange {
    start: u64,
    end: u64,
}

impl IpaRange {
    /// The range of `size` bytes from `start`; `None` when it does not fit into 64 bits.
    #[must_use]
    pub const fn new(start: Ipa, size: u64) -> Option<Self> {
        match start.0.checked_add(size) {
            Some(end) => Some(Self { start: start.0, end }),
            None => None,
        }
    }

    /// First address.
    #[must_use]
    pub const fn start(self) -> Ipa {
        Ipa(self.start)
    }

    /// First address behind the range.
    #[must_use]
    pub const fn end(self) -> Ipa {
        Ipa(self.end)
    }

    /// Length in bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.end - self.start
    }

    /// Whether no address is in the range.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Whether `address` is in the range.
    #[must_use]
    pub const fn contains(self, address: Ipa) -> bool {
        self.start <= address.0 && address.0 < self.end
    }

    /// The smallest range of whole pages that holds this one.
    #[must_use]
    pub const fn page_cover(self) -> Self {
        let mask = PAGE_SIZE as u64 - 1;
        Self { start: self.start & !mask, end: self.end.saturating_add(mask) & !mask }
    }

    /// What is left below and above once `hole` is taken out; either may be empty.
    #[must_use]
    pub fn without(self, hole: Self) -> [Self; 2] {
        [
            Self { start: self.start, end: self.end.min(hole.start).max(self.start) },
            Self { start: self.start.max(hole.end).min(self.end), end: self.end },
        ]
    }
}
