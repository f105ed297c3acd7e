//! What the drivers ask of their host, on top of the runtime: mapped grants, event channels, memory for devices.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::Range;
use core::task::{Context, Poll};

use driver_api::net::{self, CopyGrants, PageRef};
use driver_api::sys::Window;
use driver_api::{
    Access, BusAddr, DmaMemory, EventPort, Grants, HostMemory, MapError, MappedPage, PageCopy, SharedPage,
};
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GrantStatus};
use hypercall_abi::ids::{DomId, Gfn, GrantRef, Port};
use hypercall_abi::{PAGE_SHIFT, PAGE_SIZE};
use pv_guest_lib::addr::IpaRange;
use pv_guest_lib::evtchn::EventChannel;
use pv_guest_lib::grant::{self, MapGrantError, MapRequest, MappedGrant};
use pv_guest_lib::{control, mmu, pages};

use crate::sys;

/// A page of another domain, mapped here until it is dropped.
pub struct ForeignPage {
    window: Window,
    /// Keeps the mapping behind `window`.
    mapping: MappedGrant,
}

impl ForeignPage {
    /// Maps the page that `domid` granted as `reference`, to be read and written.
    pub fn map(domid: DomId, reference: GrantRef) -> Result<Self, MapGrantError> {
        MappedGrant::map(domid, reference, grant::Access::ReadWrite).map(Self::over)
    }

    fn over(mapping: MappedGrant) -> Self {
        ForeignPage { window: sys::window_over(&mapping), mapping }
    }
}

impl SharedPage for ForeignPage {
    fn load_u32(&self, offset: usize) -> u32 {
        SharedPage::load_u32(&self.window, offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.window.store_u32(offset, value);
    }

    fn load_u64(&self, offset: usize) -> u64 {
        self.window.load_u64(offset)
    }

    fn store_u64(&self, offset: usize, value: u64) {
        SharedPage::store_u64(&self.window, offset, value);
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        SharedPage::copy_out(&self.window, offset, into);
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        SharedPage::copy_in(&self.window, offset, from);
    }

    fn full_barrier(&self) {
        SharedPage::full_barrier(&self.window);
    }
}

impl MappedPage for ForeignPage {
    fn bus_addr(&self) -> BusAddr {
        BusAddr::new(self.mapping.device_address())
    }
}

/// Pages of the window that are promised to nobody: consoles and the store take them one by one.
const UNPROMISED: usize = 1 << 12;

/// Pages of the window that were not promised yet.
static SPARE: Mutex<CriticalSectionRawMutex, Cell<usize>> = Mutex::new(Cell::new(0));

/// Makes the range reachable into which other domains' pages are mapped.
pub fn open_window(range: IpaRange) -> Result<(), &'static str> {
    mmu::map_window(range).map_err(|_| "it cannot be mapped")?;
    grant::set_window(range).map_err(|_| "it cannot be used")?;
    let pages = usize::try_from(range.size()).unwrap_or(usize::MAX) / PAGE_SIZE;
    SPARE.lock(|spare| spare.set(pages.saturating_sub(UNPROMISED)));
    Ok(())
}

/// The right to map what one domain grants, so many pages at a time, which nobody else can take.
pub struct GrantsOf {
    domid: DomId,
    pages: usize,
}

impl GrantsOf {
    /// The right for a device that maps at most `pages`; `None` if the window has no room for them.
    pub fn promise(domid: DomId, pages: usize) -> Option<Self> {
        SPARE.lock(|spare| {
            spare.set(spare.get().checked_sub(pages)?);
            Some(GrantsOf { domid, pages })
        })
    }
}

impl Drop for GrantsOf {
    fn drop(&mut self) {
        SPARE.lock(|spare| spare.set(spare.get() + self.pages));
    }
}

impl Grants for GrantsOf {
    type Page = ForeignPage;

    fn map(&self, references: &[GrantRef], access: Access, results: &mut Vec<Result<ForeignPage, MapError>>) {
        let access = match access {
            Access::ReadOnly => grant::Access::ReadOnly,
            Access::ReadWrite => grant::Access::ReadWrite,
        };
        let requests: Vec<_> = references.iter().map(|&gref| MapRequest { domid: self.domid, gref, access }).collect();
        MappedGrant::map_each(&requests, |result| {
            results.push(result.map(ForeignPage::over).map_err(|error| match error {
                MapGrantError::NoWindow => MapError::NoSpace,
                MapGrantError::Call(_) | MapGrantError::Status(_) => MapError::BadGrant,
            }));
        });
    }

    fn unmap(&self, pages: &mut Vec<ForeignPage>) {
        pages.clear();
    }

    fn copy(&self, copies: &[PageCopy], into_granted: bool) -> bool {
        copies.chunks(COPIES).all(|batch| {
            // Filled where it lies: collected, it would be moved, all of it.
            let mut ops = heapless::Vec::<Copy, COPIES>::new();
            ops.extend(batch.iter().map(|copy| {
                let granted = (PageRef::Granted(self.domid, copy.granted), copy.offset);
                let own = (PageRef::Own(copy.own), copy.own_offset);
                let (from, to) = if into_granted { (own, granted) } else { (granted, own) };
                copy_op(from, to, copy.len)
            }));
            sys::grant_copy(&mut ops).is_ok() && ops.iter().all(|op| op.status == GrantStatus::Okay.raw())
        })
    }
}

/// Copies in one hypercall: as many as stand comfortably on the stack.
const COPIES: usize = 32;

/// The right to copy to and from pages that other domains granted.
#[derive(Clone, Copy)]
pub struct GrantCopier;

impl CopyGrants for GrantCopier {
    fn copy(&self, copies: &[net::Copy], done: &mut Vec<bool>) {
        for batch in copies.chunks(COPIES) {
            let op = |copy: &net::Copy| copy_op((copy.from.page, copy.from.offset), (copy.to, copy.at), copy.from.len);
            let mut ops = heapless::Vec::<Copy, COPIES>::new();
            ops.extend(batch.iter().map(op));
            let called = sys::grant_copy(&mut ops).is_ok();
            done.extend(ops.iter().map(|op| called && op.status == GrantStatus::Okay.raw()));
        }
    }
}

fn copy_op(from: (PageRef, u16), to: (PageRef, u16), len: u16) -> Copy {
    let (source, source_flag) = copy_side(from.0, from.1, GNTCOPY_SOURCE_GREF);
    let (dest, dest_flag) = copy_side(to.0, to.1, GNTCOPY_DEST_GREF);
    // Not a status that the hypervisor writes, so that an operation that it skipped shows.
    Copy { source, dest, len, flags: source_flag | dest_flag, status: i16::MIN, pad: 0 }
}

fn copy_side(page: PageRef, offset: u16, flag: u16) -> (CopyPtr, u16) {
    match page {
        PageRef::Granted(domid, gref) => (CopyPtr::gref(domid, gref, offset), flag),
        PageRef::Own(address) => (CopyPtr::frame(DomId::SELF, Gfn(address.raw() >> PAGE_SHIFT), offset), 0),
    }
}

/// An event channel to another domain.
pub struct GuestPort(EventChannel);

impl GuestPort {
    /// Connects to the port that `domid` allocated for Dom0.
    pub fn bind(domid: DomId, port: Port) -> Result<Self, XenError> {
        EventChannel::bind_interdomain(domid, port).map(GuestPort)
    }
}

impl EventPort for GuestPort {
    fn notify(&self) {
        // The other end may be gone; its death is reported by the hypervisor.
        let _ = self.0.notify();
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_notified(cx)
    }
}

/// Why the page and the port of a console or of the store could not be opened.
#[derive(Clone, Copy, Debug)]
pub enum RingError {
    /// The page cannot be mapped.
    Page(MapGrantError),
    /// The port cannot be bound.
    Port(XenError),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::Page(error) => write!(f, "the ring's page cannot be mapped: {error:?}"),
            RingError::Port(error) => write!(f, "the ring's port cannot be bound: {error}"),
        }
    }
}

/// Maps the page that `domid` granted as `reference`, and binds the port that goes with it.
pub fn open_ring(domid: DomId, reference: GrantRef, port: Port) -> Result<(ForeignPage, GuestPort), RingError> {
    let page = ForeignPage::map(domid, reference).map_err(RingError::Page)?;
    let port = GuestPort::bind(domid, port).map_err(RingError::Port)?;
    Ok((page, port))
}

/// Makes a device's registers reachable: the microkernel maps them for Dom0, and Dom0 for itself. `None` if either will not.
pub fn map_device(registers: IpaRange) -> Option<()> {
    let pages = registers.page_cover();
    // One by one, since devices may share a page.
    for n in 0..pages.size() / PAGE_SIZE as u64 {
        match control::map_device(pages.start().offset(n * PAGE_SIZE as u64), 1) {
            Ok(()) | Err(XenError::Exist) => {}
            Err(_) => return None,
        }
    }
    mmu::map_device(registers).ok()
}

/// Memory that bridges and interfaces which are gone have left, for the next ones; the page pool takes nothing back.
static LEFT: Mutex<CriticalSectionRawMutex, RefCell<Vec<IpaRange>>> = Mutex::new(RefCell::new(Vec::new()));

/// Memory of a bridge or an interface, until it is dropped.
pub struct BridgeMemory {
    window: Window,
    range: IpaRange,
    /// Somebody works on its bytes.
    lent: Cell<bool>,
}

impl BridgeMemory {
    /// Whole pages of zeros.
    pub fn take(bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE_SIZE) as u64;
        let left = LEFT.lock(|left| {
            let mut left = left.borrow_mut();
            let fits = left.iter().position(|range| range.size() == pages * PAGE_SIZE as u64)?;
            Some(left.swap_remove(fits))
        });
        let range = left.or_else(|| pages::take(pages))?;
        Some(BridgeMemory { window: sys::window_over_ram(range), range, lent: Cell::new(false) })
    }
}

impl Drop for BridgeMemory {
    fn drop(&mut self) {
        LEFT.lock(|left| left.borrow_mut().push(self.range));
    }
}

impl DmaMemory for BridgeMemory {
    fn bus_addr(&self) -> BusAddr {
        DmaMemory::bus_addr(&self.window)
    }

    fn len(&self) -> usize {
        DmaMemory::len(&self.window)
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        DmaMemory::copy_out(&self.window, offset, into);
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        DmaMemory::copy_in(&self.window, offset, from);
    }

    fn load_u16(&self, offset: usize) -> u16 {
        self.window.load_u16(offset)
    }

    fn store_u16(&self, offset: usize, value: u16) {
        self.window.store_u16(offset, value);
    }

    fn load_u32(&self, offset: usize) -> u32 {
        DmaMemory::load_u32(&self.window, offset)
    }

    fn store_u64(&self, offset: usize, value: u64) {
        DmaMemory::store_u64(&self.window, offset, value);
    }

    fn full_barrier(&self) {
        DmaMemory::full_barrier(&self.window);
    }
}

impl HostMemory for BridgeMemory {
    fn with_bytes<R>(&self, range: Range<usize>, work: impl FnOnce(&mut [u8]) -> R) -> R {
        if self.lent.replace(true) {
            return work(&mut []);
        }
        let result = sys::with_bytes(&self.window, range, work);
        self.lent.set(false);
        result
    }
}

/// Memory for a device: whole pages, taken for good.
pub fn device_memory(bytes: usize) -> Option<Window> {
    let pages = bytes.div_ceil(PAGE_SIZE) as u64;
    pages::take(pages).map(sys::window_over_ram)
}
