//! Addresses and ranges in a guest's physical address space.

use core::fmt;

/// An intermediate physical address: what a guest takes for physical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ipa(u64);

impl Ipa {
    /// The address with that value.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` further, unless it leaves 64 bits.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(address) => Some(Self(address)),
            None => None,
        }
    }

    /// Bytes from `base` up to here; `None` when this is below `base`.
    pub const fn offset_from(self, base: Self) -> Option<u64> {
        self.0.checked_sub(base.0)
    }
}

impl fmt::Display for Ipa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A range of guest-physical addresses that does not wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Region {
    start: Ipa,
    size: u64,
}

impl Region {
    /// `size` bytes from `start`; `None` when they leave 64 bits.
    pub const fn new(start: Ipa, size: u64) -> Option<Self> {
        match start.checked_add(size) {
            Some(_) => Some(Self { start, size }),
            None => None,
        }
    }

    /// A region whose bounds are constants or were checked by the caller; clamped at the top of the address space.
    pub(crate) const fn clamped(start: Ipa, size: u64) -> Self {
        match Self::new(start, size) {
            Some(region) => region,
            None => Self { start, size: u64::MAX - start.0 },
        }
    }

    /// First address.
    pub const fn start(self) -> Ipa {
        self.start
    }

    /// Bytes.
    pub const fn size(self) -> u64 {
        self.size
    }

    /// First address behind the region.
    pub const fn end(self) -> Ipa {
        Ipa(self.start.0.saturating_add(self.size))
    }

    /// Whether the whole of `other` lies inside.
    pub const fn contains(self, other: Self) -> bool {
        self.start.0 <= other.start.0 && other.end().0 <= self.end().0
    }

    /// Whether the two share an address.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 < other.end().0 && other.start.0 < self.end().0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end())
    }
}

/// `value` rounded up to a multiple of `align` (a power of two), unless that leaves 64 bits.
pub(crate) const fn align_up(value: u64, align: u64) -> Option<u64> {
    match value.checked_add(align - 1) {
        Some(sum) => Some(sum & !(align - 1)),
        None => None,
    }
}
