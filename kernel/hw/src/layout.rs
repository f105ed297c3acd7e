//! Where the parts of the image are: the linker script's symbols as ranges.

use kernel_core::addr::Pa;
use kernel_core::machine::Range;

use crate::stage1::Access;

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

/// Its parts but for the stacks: instructions, constants, variables.
pub fn sections() -> [(Range, Access); 3] {
    [
        (range(&raw const image_start, &raw const image_text_end), Access::Execute),
        (range(&raw const image_text_end, &raw const image_rodata_end), Access::Read),
        (range(&raw const image_rodata_end, &raw const image_stacks_start), Access::ReadWrite),
    ]
}

/// The stacks of all pCPUs.
pub fn stacks() -> Range {
    range(&raw const image_stacks_start, &raw const image_end)
}
