//! The functions as C calls them: pointers become slices here and nowhere else.

mod disk;
mod event;
mod guest;
mod store;

use core::slice;

/// The bytes at `data`; none when it is null.
///
/// # Safety
/// `data` must be null or valid for reads of `length` bytes for as long as the slice is used.
unsafe fn bytes<'a>(data: *const u8, length: usize) -> &'a [u8] {
    if data.is_null() {
        return &[];
    }
    // SAFETY: the caller says so.
    unsafe { slice::from_raw_parts(data, length) }
}

/// The bytes at `data`, to be written; none when it is null.
///
/// # Safety
/// `data` must be null or valid for reads and writes of `length` bytes, used by nobody else for as long as the slice is.
unsafe fn bytes_mut<'a>(data: *mut u8, length: usize) -> &'a mut [u8] {
    if data.is_null() {
        return &mut [];
    }
    // SAFETY: the caller says so.
    unsafe { slice::from_raw_parts_mut(data, length) }
}

/// The text at `text`, up to its NUL; `None` when it is null or not UTF-8.
///
/// # Safety
/// `text` must be null or a C string that stays as it is for as long as the text is used.
unsafe fn text<'a>(text: *const core::ffi::c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller says so.
    unsafe { core::ffi::CStr::from_ptr(text) }.to_str().ok()
}
