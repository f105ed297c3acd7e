//! Views of the pages that the tool stack put into the domain: the rings of console and store.

use hypercall_abi::PAGE_SIZE;

use super::raw::Shared;
use crate::addr::Ipa;

/// A view of the special page at `at`, which the caller has mapped and which HVM parameters name.
pub fn view(at: Ipa) -> Shared<'static> {
    // SAFETY: special pages lie outside the RAM of the device tree, so no Rust object is there; they are mapped
    // for good by the caller.
    unsafe { Shared::new(at, PAGE_SIZE) }
}
