//! The pages that the hypervisor shares with every domain, put into the region that the device tree names.

use core::cell::Cell;
use core::sync::atomic::{Ordering, fence};

use critical_section::Mutex;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{ENTRIES_V1_PER_PAGE, ENTRY_V1_SIZE, GTF_PERMIT_ACCESS, GTF_READING, GTF_WRITING};
use hypercall_abi::ids::{DomId, Gfn, GrantRef};
use hypercall_abi::memory::MapSpace;
use hypercall_abi::{PAGE_SHIFT, PAGE_SIZE};

use super::raw::Shared;
use crate::addr::{Ipa, IpaRange};

/// Maps the shared information page at the end of the region.
///
/// # Errors
/// As the hypervisor answers.
pub fn shared_info(region: IpaRange) -> Result<Shared<'static>, XenError> {
    let at = Ipa::new(region.end().raw() - PAGE_SIZE as u64);
    // SAFETY: the device tree says that the region holds nothing; its last page is used for this alone, since
    // the grant table ends before it (see `grow`).
    unless_there(unsafe { super::hypercall::add_to_physmap(MapSpace::SharedInfo, 0, at.gfn()) })?;
    // SAFETY: mapped by `boot` as normal memory, never unmapped, and reached through this view alone.
    Ok(unsafe { Shared::new(at, PAGE_SIZE) })
}

/// The table as far as it is mapped.
#[derive(Clone, Copy)]
struct Table {
    region: IpaRange,
    frames: usize,
}

static TABLE: Mutex<Cell<Option<Table>>> = Mutex::new(Cell::new(None));

/// Notes where the table is to go.
pub fn init(region: IpaRange) {
    critical_section::with(|cs| TABLE.borrow(cs).set(Some(Table { region, frames: 0 })));
}

/// Maps one more frame of the table and returns how many entries there are now.
///
/// # Errors
/// `ENOSPC` when the region is full, or as the hypervisor answers when the table may not grow.
pub fn grow() -> Result<usize, XenError> {
    critical_section::with(|cs| {
        let cell = TABLE.borrow(cs);
        let table = cell.get().ok_or(XenError::NoDev)?;
        let at = table.region.start().offset((table.frames * PAGE_SIZE) as u64);
        if at.raw() + 2 * PAGE_SIZE as u64 > table.region.end().raw() {
            return Err(XenError::NoSpc);
        }
        // SAFETY: as for the shared information page, for the pages in front of it.
        unsafe { super::hypercall::add_to_physmap(MapSpace::GrantTable, table.frames as u64, at.gfn())? };
        let frames = table.frames + 1;
        cell.set(Some(Table { frames, ..table }));
        Ok(frames * ENTRIES_V1_PER_PAGE)
    })
}

/// Maps the shared information page and the frames of the table again, after the domain was restored; the table is empty
/// then.
///
/// # Errors
/// As the hypervisor answers.
pub fn reopen() -> Result<Shared<'static>, XenError> {
    let table = critical_section::with(|cs| TABLE.borrow(cs).get()).ok_or(XenError::NoDev)?;
    for frame in 0..table.frames {
        let at = table.region.start().offset((frame * PAGE_SIZE) as u64);
        // SAFETY: as in `grow`.
        unless_there(unsafe { super::hypercall::add_to_physmap(MapSpace::GrantTable, frame as u64, at.gfn()) })?;
    }
    shared_info(table.region)
}

/// A domain that went on where it was has its pages still, and Xen refuses to map such a one again with `EBUSY`.
fn unless_there(mapped: Result<(), XenError>) -> Result<(), XenError> {
    match mapped {
        Err(XenError::Busy) => Ok(()),
        other => other,
    }
}

fn entry(gref: GrantRef) -> Option<Shared<'static>> {
    let table = critical_section::with(|cs| TABLE.borrow(cs).get())?;
    let index = gref.0 as usize;
    if index >= table.frames * ENTRIES_V1_PER_PAGE {
        return None;
    }
    // SAFETY: the frames were mapped by `grow` and are never unmapped.
    let view = unsafe { Shared::new(table.region.start(), table.frames << PAGE_SHIFT) };
    Some(view.part(index * ENTRY_V1_SIZE, ENTRY_V1_SIZE))
}

/// Lets `domid` use the frame through the free entry `gref`; `read_only` is `GTF_READONLY` or 0.
///
/// # Errors
/// `EINVAL` when the table has no such entry or the frame number needs more than 32 bits.
pub fn permit(gref: GrantRef, domid: DomId, frame: Gfn, read_only: u16) -> Result<(), XenError> {
    let entry = entry(gref).ok_or(XenError::Inval)?;
    let frame = u32::try_from(frame.0).map_err(|_| XenError::Inval)?;
    entry.u16(2).store(domid.0, Ordering::Relaxed);
    entry.u32(4).store(frame, Ordering::Relaxed);
    // The entry counts from the moment that its flags do (Xen public/grant_table.h).
    fence(Ordering::Release);
    entry.u16(0).store(GTF_PERMIT_ACCESS | read_only, Ordering::Release);
    Ok(())
}

/// Takes the permission back; `false` when the page is mapped by the other side, which then may still use it.
pub fn revoke(gref: GrantRef) -> bool {
    let Some(entry) = entry(gref) else { return true };
    let flags = entry.u16(0);
    flags
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| (old & (GTF_READING | GTF_WRITING) == 0).then_some(0))
        .is_ok()
}
