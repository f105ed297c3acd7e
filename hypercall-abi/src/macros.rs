//! The two macros that every layout and every number list is written with.
//!
//! A layout states its size and each offset next to the field, and the compiler holds both against the Rust
//! type, so a slip in a padding field cannot reach the wire.

/// Declares a `repr(C)` wire structure: `Name (size) { offset: field: type, }`, asserted at compile time.
macro_rules! wire_struct {
    ($(#[$meta:meta])* $name:ident ($size:literal) {
        $( $(#[$fmeta:meta])* $offset:literal: $field:ident: $ty:ty, )*
    }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $ty, )*
        }

        const _: () = {
            assert!(core::mem::size_of::<$name>() == $size);
            $( assert!(core::mem::offset_of!($name, $field) == $offset); )*
        };
    };
}

/// Declares an enumeration of wire numbers with total, panic-free conversion from the raw value.
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident: $repr:ident {
        $( $(#[$vmeta:meta])* $variant:ident = $value:expr, )*
    }) => {
        $(#[$meta])*
        #[repr($repr)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $( $(#[$vmeta])* $variant = $value, )*
        }

        impl $name {
            /// Every value, in the order of the header.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// The value of this name, or `None` for a number that has no name.
            #[must_use]
            pub const fn from_raw(raw: $repr) -> Option<Self> {
                $( if raw == Self::$variant as $repr { return Some(Self::$variant); } )*
                None
            }

            /// The number on the wire.
            #[must_use]
            pub const fn raw(self) -> $repr {
                self as $repr
            }
        }

        impl TryFrom<$repr> for $name {
            type Error = $crate::errno::UnknownNumber;

            fn try_from(raw: $repr) -> Result<Self, $crate::errno::UnknownNumber> {
                Self::from_raw(raw).ok_or($crate::errno::UnknownNumber)
            }
        }

        impl From<$name> for $repr {
            fn from(value: $name) -> $repr {
                value.raw()
            }
        }
    };
}
