//! The memory of a machine for tests: pages that domains have granted, pages of the host, and the copies between them.
//!
//! It punishes careless use: a copy to or from what is not granted fails, one that crosses a page or leaves the host's
//! memory panics.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::ops::Range;

use hypercall_abi::ids::{DomId, GrantRef};

use crate::net::{Copy, CopyGrants, PageRef};
use crate::{Access, BusAddr, DmaMemory, Grants, HostMemory, MapError, MappedPage, PAGE_SIZE, PageCopy, SharedPage};

/// What a granted page allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Read,
    ReadWrite,
}

/// Granted pages by granter and reference.
type Granted = BTreeMap<(DomId, GrantRef), (Right, Vec<u8>)>;

/// The memory.
#[derive(Default)]
pub struct Machine {
    granted: RefCell<Granted>,
    own: RefCell<BTreeMap<u64, Vec<u8>>>,
    next: Cell<u64>,
    mapped: Cell<usize>,
    /// Hypercalls that copied.
    pub copy_calls: Cell<u32>,
    /// Every copy that they made.
    pub copies: RefCell<Vec<Copy>>,
}

impl Machine {
    /// A machine without pages.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Grants a page of zeros, to be read only or also written.
    pub fn grant(&self, domid: DomId, gref: u32, writable: bool) {
        let right = if writable { Right::ReadWrite } else { Right::Read };
        self.granted.borrow_mut().insert((domid, GrantRef(gref)), (right, alloc::vec![0; PAGE_SIZE]));
    }

    /// Ends a grant.
    pub fn revoke(&self, domid: DomId, gref: u32) {
        self.granted.borrow_mut().remove(&(domid, GrantRef(gref)));
    }

    /// Bytes of a granted page.
    pub fn read(&self, domid: DomId, gref: u32, offset: usize, len: usize) -> Vec<u8> {
        self.granted.borrow()[&(domid, GrantRef(gref))].1[offset..offset + len].to_vec()
    }

    /// Writes a granted page, as its owner does.
    pub fn write(&self, domid: DomId, gref: u32, offset: usize, bytes: &[u8]) {
        let mut granted = self.granted.borrow_mut();
        let (_, page) = granted.get_mut(&(domid, GrantRef(gref))).expect("no such grant");
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Memory of the host, in pages that lie one behind the other.
    pub fn own(self: &Rc<Self>, bytes: usize) -> OwnMemory {
        let base = 0x4000_0000 + self.next.get();
        let pages = bytes.div_ceil(PAGE_SIZE);
        for page in 0..pages {
            self.own.borrow_mut().insert(base + (page * PAGE_SIZE) as u64, alloc::vec![0; PAGE_SIZE]);
        }
        self.next.set(self.next.get() + ((pages + 1) * PAGE_SIZE) as u64);
        OwnMemory { machine: Rc::clone(self), base, len: pages * PAGE_SIZE }
    }

    /// The same memory for a second party, such as a device.
    pub fn view(self: &Rc<Self>, memory: &OwnMemory) -> OwnMemory {
        OwnMemory { machine: Rc::clone(self), base: memory.base, len: memory.len }
    }

    /// Mappings that exist.
    pub fn mapped(&self) -> usize {
        self.mapped.get()
    }

    /// The bytes of a piece of a page; `None` if it is not granted.
    pub fn fetch(&self, page: PageRef, offset: u16, len: u16) -> Option<Vec<u8>> {
        let range = usize::from(offset)..usize::from(offset) + usize::from(len);
        assert!(range.end <= PAGE_SIZE, "{range:?} crosses a page");
        match page {
            PageRef::Granted(domid, gref) => Some(self.granted.borrow().get(&(domid, gref))?.1[range].to_vec()),
            PageRef::Own(at) => Some(self.own.borrow().get(&at.raw()).expect("not the host's memory")[range].to_vec()),
        }
    }

    fn put(&self, page: PageRef, offset: u16, bytes: &[u8]) -> bool {
        let range = usize::from(offset)..usize::from(offset) + bytes.len();
        assert!(range.end <= PAGE_SIZE, "{range:?} crosses a page");
        match page {
            PageRef::Granted(domid, gref) => match self.granted.borrow_mut().get_mut(&(domid, gref)) {
                Some((Right::ReadWrite, page)) => page[range].copy_from_slice(bytes),
                Some((Right::Read, _)) | None => return false,
            },
            PageRef::Own(at) => {
                let mut own = self.own.borrow_mut();
                own.get_mut(&at.raw()).expect("not the host's memory")[range].copy_from_slice(bytes);
            }
        }
        true
    }
}

impl CopyGrants for Machine {
    fn copy(&self, copies: &[Copy], done: &mut Vec<bool>) {
        self.copy_calls.set(self.copy_calls.get() + 1);
        self.copies.borrow_mut().extend_from_slice(copies);
        for copy in copies {
            let bytes = self.fetch(copy.from.page, copy.from.offset, copy.from.len);
            done.push(bytes.is_some_and(|bytes| self.put(copy.to, copy.at, &bytes)));
        }
    }
}

/// Memory of the host.
pub struct OwnMemory {
    machine: Rc<Machine>,
    base: u64,
    len: usize,
}

impl OwnMemory {
    fn page(&self, at: usize) -> PageRef {
        PageRef::Own(BusAddr::new(self.base + (at / PAGE_SIZE * PAGE_SIZE) as u64))
    }
}

/// `len` bytes from `offset` on, page by page: where each part starts, and which of the bytes it has.
fn parts(offset: usize, len: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let next = move |at: &usize| Some((at / PAGE_SIZE + 1) * PAGE_SIZE);
    let starts = core::iter::successors(Some(offset), next).take_while(move |at| *at < offset + len);
    starts.map(move |at| (at, at - offset..((at / PAGE_SIZE + 1) * PAGE_SIZE - offset).min(len)))
}

/// The place in its page.
fn place(at: usize) -> u16 {
    u16::try_from(at % PAGE_SIZE).expect("less than a page")
}

impl DmaMemory for OwnMemory {
    fn bus_addr(&self) -> BusAddr {
        BusAddr::new(self.base)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        for (at, range) in parts(offset, into.len()) {
            let len = u16::try_from(range.len()).expect("a part of a page");
            let bytes = self.machine.fetch(self.page(at), place(at), len).expect("the host's memory");
            into[range].copy_from_slice(&bytes);
        }
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        for (at, range) in parts(offset, from.len()) {
            self.machine.put(self.page(at), place(at), &from[range]);
        }
    }

    fn load_u16(&self, offset: usize) -> u16 {
        let mut bytes = [0; 2];
        self.copy_out(offset, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    fn store_u16(&self, offset: usize, value: u16) {
        self.copy_in(offset, &value.to_le_bytes());
    }

    fn load_u32(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.copy_out(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn store_u64(&self, offset: usize, value: u64) {
        self.copy_in(offset, &value.to_le_bytes());
    }

    fn full_barrier(&self) {}
}

impl HostMemory for OwnMemory {
    fn with_bytes<R>(&self, range: Range<usize>, work: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut bytes = alloc::vec![0; range.len()];
        self.copy_out(range.start, &mut bytes);
        let result = work(&mut bytes);
        self.copy_in(range.start, &bytes);
        result
    }
}

/// The right to map what one domain grants.
pub struct GrantsOf(pub Rc<Machine>, pub DomId);

/// A page that is mapped.
pub struct Page {
    machine: Rc<Machine>,
    domid: DomId,
    gref: GrantRef,
}

impl Grants for GrantsOf {
    type Page = Page;

    fn map(&self, references: &[GrantRef], _: Access, results: &mut Vec<Result<Page, MapError>>) {
        for gref in references {
            let known = self.0.granted.borrow().contains_key(&(self.1, *gref));
            self.0.mapped.set(self.0.mapped.get() + usize::from(known));
            let page = Page { machine: Rc::clone(&self.0), domid: self.1, gref: *gref };
            results.push(if known { Ok(page) } else { Err(MapError::BadGrant) });
        }
    }

    fn unmap(&self, pages: &mut Vec<Page>) {
        self.0.mapped.set(self.0.mapped.get() - pages.len());
        pages.clear();
    }

    fn copy(&self, copies: &[PageCopy], into_granted: bool) -> bool {
        copies.iter().all(|copy| {
            let granted = (PageRef::Granted(self.1, copy.granted), copy.offset);
            let own = (PageRef::Own(copy.own), copy.own_offset);
            let (from, to) = if into_granted { (own, granted) } else { (granted, own) };
            self.0.fetch(from.0, from.1, copy.len).is_some_and(|bytes| self.0.put(to.0, to.1, &bytes))
        })
    }
}

impl SharedPage for Page {
    fn load_u32(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.copy_out(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn store_u32(&self, offset: usize, value: u32) {
        self.copy_in(offset, &value.to_le_bytes());
    }

    fn load_u64(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        self.copy_out(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn store_u64(&self, offset: usize, value: u64) {
        self.copy_in(offset, &value.to_le_bytes());
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.machine.read(self.domid, self.gref.0, offset, into.len()));
    }

    fn copy_in(&self, offset: usize, from: &[u8]) {
        self.machine.write(self.domid, self.gref.0, offset, from);
    }

    fn full_barrier(&self) {}
}

impl MappedPage for Page {
    fn bus_addr(&self) -> BusAddr {
        BusAddr::new(0)
    }
}
