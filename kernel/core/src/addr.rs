//! The three address spaces as three types, so that one cannot be taken for another.

/// Bytes in a page, a frame and a granule of the stage-2 tables.
pub const PAGE_SIZE: u64 = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this value.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The value, for registers and table entries.
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// The first byte of the page that holds this address.
            pub const fn page(self) -> Self {
                Self(self.0 & !(PAGE_SIZE - 1))
            }

            /// Bytes between the page's first byte and this address.
            pub const fn offset(self) -> u64 {
                self.0 & (PAGE_SIZE - 1)
            }

            /// Bytes from here to the page's end; 1 to 4096.
            pub const fn left_in_page(self) -> u64 {
                PAGE_SIZE - self.offset()
            }

            /// Number of the page (the frame number of a physical address).
            pub const fn number(self) -> u64 {
                self.0 >> PAGE_SHIFT
            }

            /// The first byte of page `number`; bits that do not fit fall off, so check the number first.
            pub const fn from_number(number: u64) -> Self {
                Self(number << PAGE_SHIFT)
            }

            /// Whether the address is a multiple of `align`, a power of two.
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }

            /// The address `bytes` further, or `None` past 2^64.
            pub fn checked_add(self, bytes: u64) -> Option<Self> {
                self.0.checked_add(bytes).map(Self)
            }

            /// The address `bytes` further, modulo 2^64: for ranges that were checked before.
            #[must_use]
            pub const fn add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }
        }
    };
}

address! {
    /// A physical address. EL2 maps all RAM at the same virtual address, but only `kernel/hw` may use that.
    Pa
}
address! {
    /// An intermediate physical address: what a domain takes for physical.
    Ipa
}
address! {
    /// A virtual address of a guest, in the translation regime of the vCPU that runs here.
    GuestVa
}
