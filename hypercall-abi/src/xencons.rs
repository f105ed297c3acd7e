//! The console ring (`struct xencons_interface`, Xen public/io/console.h).
//!
//! Indices run freely modulo 2^32 and are masked when a ring is accessed. `in` carries bytes to the guest,
//! `out` from it; each index is written by one side only.

/// Bytes of the ring towards the guest.
pub const IN_SIZE: usize = 1024;
/// Bytes of the ring from the guest.
pub const OUT_SIZE: usize = 2048;
/// Offset of `in`.
pub const IN: usize = 0;
/// Offset of `out`.
pub const OUT: usize = 1024;
/// Offset of `in_cons`, u32, written by the guest.
pub const IN_CONS: usize = 3072;
/// Offset of `in_prod`, u32, written by the back end.
pub const IN_PROD: usize = 3076;
/// Offset of `out_cons`, u32, written by the back end.
pub const OUT_CONS: usize = 3080;
/// Offset of `out_prod`, u32, written by the guest.
pub const OUT_PROD: usize = 3084;
/// Byte size of the interface.
pub const SIZE: usize = 3088;

const _: () = {
    assert!(OUT == IN + IN_SIZE && IN_CONS == OUT + OUT_SIZE);
    assert!(SIZE == OUT_PROD + 4 && SIZE <= crate::PAGE_SIZE);
};
