//! XenStore.

use core::ffi::c_char;

use pv_guest_lib::executor::block_on;
use pv_guest_lib::xenstore::XsError;

use super::guest::context;
use super::{bytes, bytes_mut, text};
use crate::errors::{length, status};

/// Reads a node of the store, relative to the domain's directory or from the root, and returns its length.
///
/// # Safety
/// `path` must be a C string, `buffer` have `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pv_store_read(path: *const c_char, buffer: *mut u8, size: usize) -> i64 {
    // SAFETY: the caller's promise.
    let (path, buffer) = unsafe { (text(path), bytes_mut(buffer, size)) };
    let read = async { context()?.store.read(path.ok_or(XsError::Malformed)?, buffer).await.map(<[u8]>::len) };
    length(block_on(read))
}

/// Writes a node of the store, which is made when it is missing.
///
/// # Safety
/// `path` must be a C string, `value` have `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pv_store_write(path: *const c_char, value: *const u8, size: usize) -> i64 {
    // SAFETY: the caller's promise.
    let (path, value) = unsafe { (text(path), bytes(value, size)) };
    status(block_on(async { context()?.store.write(path.ok_or(XsError::Malformed)?, value).await }))
}

/// Waits until a node of the store, or one below it, changes. What changes before the call is not waited for.
///
/// # Safety
/// `path` must be a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pv_store_wait(path: *const c_char) -> i64 {
    // SAFETY: the caller's promise.
    let path = unsafe { text(path) };
    status(block_on(async {
        let mut watch = context()?.store.watch(path.ok_or(XsError::Malformed)?).await?;
        // The protocol has a watch fire once when it is set.
        watch.changed().await;
        watch.changed().await;
        Ok::<_, XsError>(())
    }))
}
