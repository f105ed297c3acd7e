//! Where the parts of the image are: the linker script's symbols as ranges.

use kernel_core::addr::Pa;
use kernel_core::machine::Range;

unsafe extern "C" {
    static image_start: u8;
    static image_text_end: u8;
    static image_rodata_end: u8;
    static image_stacks_start: u8;
    static image_end: u8;
}

fn range(start: *const u8, end: *const u8) -> Range {
    Range { start: Pa::new(start as u64), size: end as u64 - start as u64 }
}

/// The whole image, with BSS and stacks.
pub fn image() -> Range {
    range(&raw const image_start, &raw const image_end)
}

/// What is executed, and nothing else.
pub fn text() -> Range {
    range(&raw const image_start, &raw const image_text_end)
}

/// Constants.
pub fn rodata() -> Range {
    range(&raw const image_text_end, &raw const image_rodata_end)
}

/// Variables, without the stacks.
pub fn data() -> Range {
    range(&raw const image_rodata_end, &raw const image_stacks_start)
}

/// The stacks of all pCPUs.
pub fn stacks() -> Range {
    range(&raw const image_stacks_start, &raw const image_end)
}
