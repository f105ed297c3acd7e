//! A guest's memory and its grant table. Access is by mappings that exist at that moment, or a panic.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use driver_api::{Access, BusAddr, Grants, MapError, MappedPage, PageCopy, Segment, SharedPage};
use hypercall_abi::ids::GrantRef;
use zerocopy::FromBytes;

pub const PAGES: usize = 512;
const PAGE: usize = 4096;
/// Where the guest's page 0 is on the bus.
const BUS: u64 = 0x8000_0000;

/// How a page may be mapped, and how often it is.
#[derive(Clone, Copy, Default)]
struct Grant {
    writable: bool,
    granted: bool,
    readers: u32,
    writers: u32,
}

/// The guest's memory; grant reference n is page n.
pub struct Memory {
    pub bytes: RefCell<Vec<u8>>,
    grants: RefCell<Vec<Grant>>,
    pub map_calls: Cell<u32>,
    /// The host's own memory, whose page 0 is at 0 on the bus.
    pub own: RefCell<Vec<u8>>,
    /// Mappings that may exist at a time.
    pub room: Cell<u32>,
    /// The most mappings that there were at a time.
    pub most: Cell<u32>,
}

impl Memory {
    pub fn new() -> Rc<Self> {
        let granted = Grant { writable: true, granted: true, ..Grant::default() };
        Rc::new(Self {
            bytes: RefCell::new(vec![0; PAGES * PAGE]),
            grants: RefCell::new(vec![granted; PAGES]),
            map_calls: Cell::new(0),
            own: RefCell::default(),
            room: Cell::new(u32::MAX),
            most: Cell::new(0),
        })
    }

    pub fn grant(&self, page: u32, granted: bool, writable: bool) {
        let mut grants = self.grants.borrow_mut();
        grants[page as usize].granted = granted;
        grants[page as usize].writable = writable;
    }

    pub fn mapped(&self) -> u32 {
        self.grants.borrow().iter().map(|grant| grant.readers + grant.writers).sum()
    }

    pub fn page_mapped(&self, page: u32) -> bool {
        let grant = self.grants.borrow()[page as usize];
        grant.readers + grant.writers != 0
    }

    pub fn read(&self, page: u32, offset: usize, len: usize) -> Vec<u8> {
        let start = page as usize * PAGE + offset;
        self.bytes.borrow()[start..start + len].to_vec()
    }

    pub fn write(&self, page: u32, offset: usize, data: &[u8]) {
        let start = page as usize * PAGE + offset;
        self.bytes.borrow_mut()[start..start + data.len()].copy_from_slice(data);
    }

    pub fn read_u32(&self, page: u32, offset: usize) -> u32 {
        u32::read_from_bytes(&self.read(page, offset, 4)).unwrap()
    }

    pub fn write_u32(&self, page: u32, offset: usize, value: u32) {
        self.write(page, offset, &value.to_le_bytes());
    }

    /// A device's access: every page must be mapped, for writing if the device writes.
    pub fn dma(&self, segment: &Segment, device_writes: bool) -> std::ops::Range<usize> {
        let start = usize::try_from(segment.bus.raw().checked_sub(BUS).expect("below the guest's memory")).unwrap();
        let end = start + segment.len as usize;
        assert!(end <= PAGES * PAGE, "beyond the guest's memory");
        for page in start / PAGE..end.div_ceil(PAGE) {
            let grant = self.grants.borrow()[page];
            assert!(grant.writers != 0 || (!device_writes && grant.readers != 0), "page {page} is not mapped");
        }
        start..end
    }
}

/// A mapping; giving it back is counted.
pub struct Page {
    memory: Rc<Memory>,
    page: u32,
    access: Access,
}

impl SharedPage for Page {
    fn load_u32(&self, offset: usize) -> u32 {
        self.memory.read_u32(self.page, offset)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        assert_eq!(self.access, Access::ReadWrite);
        self.memory.write_u32(self.page, offset, value);
    }

    fn load_u64(&self, offset: usize) -> u64 {
        u64::read_from_bytes(&self.memory.read(self.page, offset, 8)).unwrap()
    }

    fn store_u64(&self, offset: usize, value: u64) {
        assert_eq!(self.access, Access::ReadWrite);
        self.memory.write(self.page, offset, &value.to_le_bytes());
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.memory.read(self.page, offset, into.len()));
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.memory.write(self.page, offset, from);
    }

    fn full_barrier(&self) {}
}

impl MappedPage for Page {
    fn bus_addr(&self) -> BusAddr {
        BusAddr::new(BUS + u64::from(self.page) * PAGE as u64)
    }
}

/// The right to map the guest's pages.
pub struct GuestGrants(pub Rc<Memory>);

impl Grants for GuestGrants {
    type Page = Page;

    fn map(&self, references: &[GrantRef], access: Access, results: &mut Vec<Result<Page, MapError>>) {
        let memory = &self.0;
        memory.map_calls.set(memory.map_calls.get() + 1);
        for reference in references {
            let mapped = memory.mapped();
            if mapped >= memory.room.get() {
                results.push(Err(MapError::NoSpace));
                continue;
            }
            let mut grants = memory.grants.borrow_mut();
            match grants.get_mut(reference.raw() as usize) {
                Some(grant) if grant.granted && (grant.writable || access == Access::ReadOnly) => {
                    match access {
                        Access::ReadOnly => grant.readers += 1,
                        Access::ReadWrite => grant.writers += 1,
                    }
                    memory.most.set(memory.most.get().max(mapped + 1));
                    results.push(Ok(Page { memory: Rc::clone(memory), page: reference.raw(), access }));
                }
                _ => results.push(Err(MapError::BadGrant)),
            }
        }
    }

    fn unmap(&self, pages: &mut Vec<Page>) {
        for page in pages.drain(..) {
            let mut grants = self.0.grants.borrow_mut();
            let grant = &mut grants[page.page as usize];
            let count = match page.access {
                Access::ReadOnly => &mut grant.readers,
                Access::ReadWrite => &mut grant.writers,
            };
            *count = count.checked_sub(1).expect("unmapped more often than mapped");
        }
    }

    fn copy(&self, copies: &[PageCopy], into_granted: bool) -> bool {
        copies.iter().all(|copy| {
            let grant = self.0.grants.borrow().get(copy.granted.raw() as usize).copied().unwrap_or_default();
            if !grant.granted || (into_granted && !grant.writable) {
                return false;
            }
            let (page, offset, len) = (copy.granted.raw(), usize::from(copy.offset), usize::from(copy.len));
            assert!(offset + len <= PAGE && usize::from(copy.own_offset) + len <= PAGE, "a copy crosses a page's end");
            let start = usize::try_from(copy.own.raw()).unwrap() + usize::from(copy.own_offset);
            let mut own = self.0.own.borrow_mut();
            let own = &mut own[start..start + len];
            if into_granted {
                self.0.write(page, offset, own);
            } else {
                own.copy_from_slice(&self.0.read(page, offset, len));
            }
            true
        })
    }
}
