//! The raw side of foreign pages: the two hypercalls and the view of a mapped page.

use hypercall_abi::PAGE_SIZE;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{MapGrantRef, UnmapGrantRef};

use super::hypercall;
use super::raw::Shared;
use crate::grant::MappedGrant;

/// Makes the map operations; their places come from the window's list of free pages.
///
/// # Errors
/// As the hypervisor answers.
pub fn map(ops: &mut [MapGrantRef]) -> Result<(), XenError> {
    // SAFETY: each place is a page of the window, which holds nothing, and was taken off its free list.
    unsafe { hypercall::grant_map(ops) }
}

/// Makes the unmap operations, for mappings whose owner is being dropped.
///
/// # Errors
/// As the hypervisor answers.
pub fn unmap(ops: &mut [UnmapGrantRef]) -> Result<(), XenError> {
    // SAFETY: views of a mapping borrow its owner, so none is left.
    unsafe { hypercall::grant_unmap(ops) }
}

/// A view of a mapped page, for as long as its owner lives.
pub fn view(grant: &MappedGrant) -> Shared<'_> {
    // SAFETY: the page stays mapped while its owner is borrowed, and holds no Rust object.
    unsafe { Shared::new(grant.ipa(), PAGE_SIZE) }
}
