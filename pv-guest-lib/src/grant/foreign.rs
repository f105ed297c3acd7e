//! Pages of other domains, mapped into a window of this domain's address space.

use core::cell::RefCell;

use critical_section::Mutex;
use hypercall_abi::PAGE_SIZE;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{GNTMAP_HOST_MAP, GNTMAP_READONLY, GrantStatus, MapGrantRef, UnmapGrantRef};
use hypercall_abi::ids::{DomId, GrantHandle, GrantRef};

use super::Access;
use crate::addr::{Ipa, IpaRange, index};
use crate::mmu::{self, MapError};
use crate::shared::Shared;
use crate::sys::window;

/// Pages of the window that are used, whatever its size: 4 GiB, of which Dom0 promises each device of each guest its part.
const MAX_PAGES: usize = 1 << 20;
/// Operations that are put into one hypercall.
const BATCH: usize = 16;

struct Window {
    start: Option<Ipa>,
    /// A bit per page that holds nothing.
    free: [u64; MAX_PAGES / 64],
    /// The first word that is not full, so that a search does not start over each time. Places near the start are taken first:
    /// each 2 MiB that were ever used cost the domain a page table.
    hint: usize,
}

static WINDOW: Mutex<RefCell<Window>> =
    Mutex::new(RefCell::new(Window { start: None, free: [0; MAX_PAGES / 64], hint: 0 }));

impl Window {
    fn take(&mut self) -> Option<Ipa> {
        let (word, bits) = self.free.iter_mut().enumerate().skip(self.hint).find(|(_, bits)| **bits != 0)?;
        let bit = bits.trailing_zeros() as usize;
        *bits &= *bits - 1;
        self.hint = word;
        Some(self.start?.offset(((word * 64 + bit) * PAGE_SIZE) as u64))
    }

    fn put(&mut self, page: Ipa) {
        let Some(start) = self.start else { return };
        let index = index((page.raw() - start.raw()) / PAGE_SIZE as u64);
        if let Some(bits) = self.free.get_mut(index / 64) {
            *bits |= 1 << (index % 64);
            self.hint = self.hint.min(index / 64);
        }
    }
}

/// Why there is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// One has been set.
    Taken,
    /// It cannot be made reachable.
    Map(MapError),
}

/// Names the range where pages of other domains are mapped: address space of this domain that holds nothing
/// (Dom0 asks the platform for one). To be called once, before the first [`MappedGrant`].
///
/// # Errors
/// See [`WindowError`].
///
/// # Panics
/// When RAM is in the range: mapping over it would pull memory from under live objects.
pub fn set_window(range: IpaRange) -> Result<(), WindowError> {
    assert!(range.start().raw().is_multiple_of(PAGE_SIZE as u64), "a window starts at a page");
    mmu::map_window(range).map_err(WindowError::Map)?;
    critical_section::with(|cs| {
        let mut window = WINDOW.borrow(cs).borrow_mut();
        if window.start.is_some() {
            return Err(WindowError::Taken);
        }
        window.start = Some(range.start());
        let mut pages = index(range.size() / PAGE_SIZE as u64);
        for bits in &mut window.free {
            *bits = if pages < 64 { (1 << pages) - 1 } else { u64::MAX };
            pages = pages.saturating_sub(64);
        }
        Ok(())
    })
}

/// Why a foreign page could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapGrantError {
    /// No window was set, or it is full.
    NoWindow,
    /// This domain's call was wrong or refused.
    Call(XenError),
    /// The grant is not as the peer said, or a limit was reached.
    Status(GrantStatus),
}

/// Which foreign page to map, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// The granting domain.
    pub domid: DomId,
    /// Its reference.
    pub gref: GrantRef,
    /// What is to be done with the page.
    pub access: Access,
}

/// A page of another domain, mapped into this one; unmapped when it is dropped.
#[derive(Debug)]
pub struct MappedGrant {
    at: Ipa,
    handle: GrantHandle,
    device_address: u64,
    writable: bool,
}

impl MappedGrant {
    /// Maps the page that `domid` granted as `gref`.
    ///
    /// # Errors
    /// See [`MapGrantError`].
    pub fn map(domid: DomId, gref: GrantRef, access: Access) -> Result<Self, MapGrantError> {
        let mut mapped = Err(MapGrantError::NoWindow);
        Self::map_each(&[MapRequest { domid, gref, access }], |result| mapped = result);
        mapped
    }

    /// Maps several pages with few hypercalls; `take` gets the results in the order of the requests.
    pub fn map_each(requests: &[MapRequest], mut take: impl FnMut(Result<Self, MapGrantError>)) {
        for batch in requests.chunks(BATCH) {
            let mut ops = [MapGrantRef::default(); BATCH];
            let mut count = 0;
            for (op, request) in ops.iter_mut().zip(batch) {
                let Some(at) = critical_section::with(|cs| WINDOW.borrow(cs).borrow_mut().take()) else { break };
                *op = request.at(at);
                count += 1;
            }
            let ops = ops.get_mut(..count).unwrap_or_default();
            let called = if ops.is_empty() { Ok(()) } else { window::map(ops) };
            ops.iter().for_each(|op| take(Self::outcome(op, called)));
            (count..batch.len()).for_each(|_| take(Err(MapGrantError::NoWindow)));
        }
    }

    fn outcome(op: &MapGrantRef, called: Result<(), XenError>) -> Result<Self, MapGrantError> {
        let at = Ipa::new(op.host_addr);
        let status = GrantStatus::from_raw(op.status).unwrap_or(GrantStatus::GeneralError);
        let failure = match called {
            Ok(()) if status == GrantStatus::Okay => {
                let writable = op.flags & GNTMAP_READONLY == 0;
                return Ok(Self { at, handle: op.handle, device_address: op.dev_bus_addr, writable });
            }
            Ok(()) => MapGrantError::Status(status),
            Err(error) => MapGrantError::Call(error),
        };
        critical_section::with(|cs| WINDOW.borrow(cs).borrow_mut().put(at));
        Err(failure)
    }

    /// Where the page is in this domain.
    #[must_use]
    pub const fn ipa(&self) -> Ipa {
        self.at
    }

    /// The address for devices that are not behind an I/O MMU: the frame's physical address, in bytes.
    #[must_use]
    pub const fn device_address(&self) -> u64 {
        self.device_address
    }

    /// Whether the page may be written.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.writable
    }

    /// A view of the page's bytes. Writing to a page that was mapped read-only faults.
    #[must_use]
    pub fn shared(&self) -> Shared<'_> {
        window::view(self)
    }
}

impl MapRequest {
    fn at(&self, at: Ipa) -> MapGrantRef {
        let read_only = match self.access {
            Access::ReadOnly => GNTMAP_READONLY,
            Access::ReadWrite => 0,
        };
        MapGrantRef {
            host_addr: at.raw(),
            flags: GNTMAP_HOST_MAP | read_only,
            gref: self.gref,
            dom: self.domid,
            // Not a status that the hypervisor writes, so that an operation that it skipped shows.
            status: i16::MIN,
            ..Default::default()
        }
    }
}

impl MappedGrant {
    /// Unmaps several pages with few hypercalls.
    pub fn unmap_each(pages: impl IntoIterator<Item = Self>) {
        let mut pages = pages.into_iter().peekable();
        while pages.peek().is_some() {
            let mut ops = [UnmapGrantRef::default(); BATCH];
            let mut count = 0;
            for (op, page) in ops.iter_mut().zip(pages.by_ref().take(BATCH)) {
                *op = page.unmapping();
                count += 1;
                // The operation does what the drop would have done.
                core::mem::forget(page);
            }
            unmap(ops.get_mut(..count).unwrap_or_default());
        }
    }

    fn unmapping(&self) -> UnmapGrantRef {
        UnmapGrantRef { host_addr: self.at.raw(), handle: self.handle, status: i16::MIN, ..Default::default() }
    }
}

impl Drop for MappedGrant {
    fn drop(&mut self) {
        unmap(&mut [self.unmapping()]);
    }
}

/// Unmaps, and gives the places back to the window where that went well.
fn unmap(ops: &mut [UnmapGrantRef]) {
    let called = window::unmap(ops);
    for op in ops {
        if op.status == GrantStatus::Okay.raw() {
            critical_section::with(|cs| WINDOW.borrow(cs).borrow_mut().put(Ipa::new(op.host_addr)));
        } else {
            log::error!("page {:#x} stays mapped: unmap answers {called:?}, status {}", op.host_addr, op.status);
        }
    }
}
