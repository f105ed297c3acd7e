//! Identifiers as types, so that a port cannot be passed where a grant reference is meant.
//!
//! The field is public because every value of the raw type is a legal *claim*; whether the object exists is
//! for whoever looks it up to decide.

macro_rules! id {
    ($(#[$meta:meta])* $name:ident($raw:ident)) => {
        $(#[$meta])*
        #[repr(transparent)]
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        pub struct $name(pub $raw);

        impl $name {
            /// Wraps a raw number.
            #[must_use]
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// The raw number.
            #[must_use]
            pub const fn raw(self) -> $raw {
                self.0
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// A domain's number, `domid_t` (Xen public/xen.h).
    DomId(u16)
}
id! {
    /// An event channel port of the domain that names it, `evtchn_port_t` (Xen public/event_channel.h).
    Port(u32)
}
id! {
    /// An index into the granting domain's table, `grant_ref_t` (Xen public/grant_table.h).
    GrantRef(u32)
}
id! {
    /// A mapped grant, `grant_handle_t`, known to the domain that mapped it (Xen public/grant_table.h).
    GrantHandle(u32)
}
id! {
    /// A vCPU's index within its domain.
    VcpuId(u32)
}
id! {
    /// A guest frame number: an IPA in pages of 4 KiB, `xen_pfn_t` (Xen public/arch-arm.h).
    Gfn(u64)
}
id! {
    /// A virtual address of the calling guest, `XEN_GUEST_HANDLE` (Xen public/arch-arm.h). Null is 0.
    GuestPtr(u64)
}

impl DomId {
    /// The control domain.
    pub const DOM0: Self = Self(0);
    /// First number that names no ordinary domain (`DOMID_FIRST_RESERVED`).
    pub const FIRST_RESERVED: Self = Self(0x7FF0);
    /// The calling domain (`DOMID_SELF`).
    pub const SELF: Self = Self(0x7FF0);
    /// Memory-mapped I/O space (`DOMID_IO`).
    pub const IO: Self = Self(0x7FF1);
    /// The hypervisor itself (`DOMID_XEN`).
    pub const XEN: Self = Self(0x7FF2);
    /// Copy-on-write pages (`DOMID_COW`).
    pub const COW: Self = Self(0x7FF3);
    /// No domain (`DOMID_INVALID`).
    pub const INVALID: Self = Self(0x7FF4);
    /// The idle domain (`DOMID_IDLE`).
    pub const IDLE: Self = Self(0x7FFF);

    /// Whether this can be the number of a real domain.
    #[must_use]
    pub const fn is_ordinary(self) -> bool {
        self.0 < Self::FIRST_RESERVED.0
    }
}

impl Gfn {
    /// The frame that holds the intermediate physical address `ipa`.
    #[must_use]
    pub const fn of_ipa(ipa: u64) -> Self {
        Self(ipa >> crate::PAGE_SHIFT)
    }

    /// The intermediate physical address of the frame's first byte, or `None` when it overflows 64 bits.
    #[must_use]
    pub const fn to_ipa(self) -> Option<u64> {
        if self.0 > u64::MAX >> crate::PAGE_SHIFT {
            return None;
        }
        Some(self.0 << crate::PAGE_SHIFT)
    }
}

impl GuestPtr {
    /// The null handle: nothing is passed.
    pub const NULL: Self = Self(0);

    /// Whether nothing is passed.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}
