//! A guest's memory, its grant table, an event channel, a disk in memory, and an executor that only polls what was
//! woken.
//!
//! The disk touches pages when a request *completes*, and only through a mapping that exists then, so that a page that
//! is unmapped too early, or mapped read-only for a read, is a panic.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use driver_api::{
    Access, BusAddr, Disk, DiskError, DiskInfo, EventPort, Grants, MapError, MappedPage, Segment, SharedPage,
};
use embassy_futures::yield_now;
use hypercall_abi::blkif::{BlkOp, IndirectRequest, Request, Response, SLOT_SIZE, Segment as BlkSegment};
use hypercall_abi::ids::{GrantRef, Port};
use hypercall_abi::ring;
use zerocopy::{FromBytes, IntoBytes};

use crate::{BackEnd, Control, End, Limits, RingParams};

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
    bytes: RefCell<Vec<u8>>,
    grants: RefCell<Vec<Grant>>,
    pub map_calls: Cell<u32>,
    /// Mappings that may exist at a time.
    pub room: Cell<u32>,
}

impl Memory {
    pub fn new() -> Rc<Self> {
        let granted = Grant {
            writable: true,
            granted: true,
            ..Grant::default()
        };
        Rc::new(Self {
            bytes: RefCell::new(vec![0; PAGES * PAGE]),
            grants: RefCell::new(vec![granted; PAGES]),
            map_calls: Cell::new(0),
            room: Cell::new(u32::MAX),
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
    fn dma(&self, segment: &Segment, device_writes: bool) -> std::ops::Range<usize> {
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
            if memory.mapped() >= memory.room.get() {
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
                    results.push(Ok(Page {
                        memory: Rc::clone(memory),
                        page: reference.raw(),
                        access,
                    }));
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
}

/// One direction of an event channel.
#[derive(Default)]
pub struct Line {
    pending: Cell<bool>,
    pub sent: Cell<u32>,
    waker: RefCell<Option<Waker>>,
}

impl Line {
    /// Sends an event, whether the other side asked for it or not.
    pub fn send_raw(&self) {
        self.pending.set(true);
        self.sent.set(self.sent.get() + 1);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.pending.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// An end of an event channel.
#[derive(Clone)]
pub struct End2 {
    pub out: Rc<Line>,
    pub into: Rc<Line>,
}

impl EventPort for End2 {
    fn notify(&self) {
        self.out.send_raw();
    }

    async fn wait(&self) {
        self.into.wait().await;
    }
}

pub fn channel() -> (End2, End2) {
    let (a, b) = (Rc::new(Line::default()), Rc::new(Line::default()));
    let near = End2 {
        out: Rc::clone(&a),
        into: Rc::clone(&b),
    };
    (near, End2 { out: b, into: a })
}

/// A disk in memory that takes its time.
pub struct RamDisk {
    memory: Rc<Memory>,
    pub bytes: RefCell<Vec<u8>>,
    pub info: DiskInfo,
    /// How long requests take, used round and round.
    pub delays: Vec<u32>,
    turn: Cell<usize>,
    pub running: Cell<u32>,
    pub most: Cell<u32>,
    pub log: RefCell<Vec<String>>,
}

impl RamDisk {
    pub fn new(memory: &Rc<Memory>, sectors: u64) -> Self {
        Self {
            memory: Rc::clone(memory),
            bytes: RefCell::new(vec![0; usize::try_from(sectors).unwrap() * 512]),
            info: DiskInfo {
                sectors,
                logical_block: 512,
                physical_block: 4096,
                read_only: false,
                flush: true,
                discard: true,
                discard_granularity: 512,
            },
            delays: vec![3, 0, 7, 1],
            turn: Cell::new(0),
            running: Cell::new(0),
            most: Cell::new(0),
            log: RefCell::new(Vec::new()),
        }
    }

    async fn work(&self, what: String) {
        let delay = self.delays[self.turn.get() % self.delays.len()];
        self.turn.set(self.turn.get() + 1);
        self.running.set(self.running.get() + 1);
        self.most.set(self.most.get().max(self.running.get()));
        self.log.borrow_mut().push(format!("+{what}"));
        for _ in 0..delay {
            yield_now().await;
        }
        self.running.set(self.running.get() - 1);
        self.log.borrow_mut().push(format!("-{what}"));
    }

    fn range(&self, sector: u64, bytes: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(sector).unwrap() * 512;
        assert!(start + bytes <= self.bytes.borrow().len(), "the back end checks ranges first");
        start..start + bytes
    }
}

impl Disk for RamDisk {
    fn info(&self) -> DiskInfo {
        self.info
    }

    async fn read(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        self.work(format!("read {sector}")).await;
        let mut sector = sector;
        for segment in segments {
            let to = self.memory.dma(segment, true);
            let from = self.range(sector, segment.len as usize);
            self.memory.bytes.borrow_mut()[to].copy_from_slice(&self.bytes.borrow()[from]);
            sector += u64::from(segment.len / 512);
        }
        Ok(())
    }

    async fn write(&self, sector: u64, segments: &[Segment]) -> Result<(), DiskError> {
        assert!(!self.info.read_only);
        self.work(format!("write {sector}")).await;
        let mut sector = sector;
        for segment in segments {
            let from = self.memory.dma(segment, false);
            let to = self.range(sector, segment.len as usize);
            self.bytes.borrow_mut()[to].copy_from_slice(&self.memory.bytes.borrow()[from]);
            sector += u64::from(segment.len / 512);
        }
        Ok(())
    }

    async fn flush(&self) -> Result<(), DiskError> {
        self.work("flush".into()).await;
        Ok(())
    }

    async fn discard(&self, sector: u64, count: u64) -> Result<(), DiskError> {
        self.work(format!("discard {sector}")).await;
        let range = self.range(sector, usize::try_from(count).unwrap() * 512);
        self.bytes.borrow_mut()[range].fill(0xdd);
        Ok(())
    }
}

/// The front end of a well-behaved guest. Its ring is in the first pages.
pub struct Front {
    pub memory: Rc<Memory>,
    pub port: End2,
    ring_pages: u32,
    slots: u32,
    req_prod: u32,
    rsp_cons: u32,
}

impl Front {
    pub fn new(memory: &Rc<Memory>, port: End2, ring_pages: u32) -> Self {
        memory.write_u32(0, ring::REQ_EVENT, 1);
        memory.write_u32(0, ring::RSP_EVENT, 1);
        Self {
            memory: Rc::clone(memory),
            port,
            ring_pages,
            slots: ring::slots(ring_pages as usize, SLOT_SIZE),
            req_prod: 0,
            rsp_cons: 0,
        }
    }

    pub fn params(&self, persistent: bool) -> RingParams {
        RingParams {
            ring: (0..self.ring_pages).map(GrantRef).collect(),
            port: Port(1),
            persistent,
        }
    }

    pub fn slots(&self) -> u32 {
        self.slots
    }

    pub fn free(&self) -> u32 {
        ring::free_requests(self.slots, self.req_prod, self.rsp_cons)
    }

    /// Writes a request into the next slot; the ring's pages are the guest's first, so its bytes are in a row.
    pub fn put(&mut self, request: &[u8]) {
        assert!(self.free() != 0);
        let at = ring::slot_offset(self.req_prod, self.slots, SLOT_SIZE);
        self.memory.write(0, at, request);
        self.req_prod = self.req_prod.wrapping_add(1);
    }

    /// Publishes what was put, and notifies if the back end asked for it.
    pub fn push(&self) {
        let old = self.memory.read_u32(0, ring::REQ_PROD);
        self.memory.write_u32(0, ring::REQ_PROD, self.req_prod);
        if ring::must_notify(old, self.req_prod, self.memory.read_u32(0, ring::REQ_EVENT)) {
            self.port.notify();
        }
    }

    /// The next response, waiting for it by event alone.
    pub async fn response(&mut self) -> Response {
        loop {
            for _ in 0..2 {
                let prod = self.memory.read_u32(0, ring::RSP_PROD);
                if ring::unconsumed_responses(prod, self.rsp_cons, self.req_prod).unwrap() != 0 {
                    let at = ring::slot_offset(self.rsp_cons, self.slots, SLOT_SIZE);
                    self.rsp_cons = self.rsp_cons.wrapping_add(1);
                    let bytes = self.memory.read(0, at, size_of::<Response>());
                    return Response::read_from_bytes(&bytes).unwrap();
                }
                self.memory.write_u32(0, ring::RSP_EVENT, self.rsp_cons.wrapping_add(1));
            }
            self.port.wait().await;
        }
    }

    /// Puts, pushes, and takes the answer to one request.
    pub async fn ask(&mut self, request: Request) -> i16 {
        self.put(request.as_bytes());
        self.push();
        let response = self.response().await;
        assert_eq!(response.id, request.id);
        response.status
    }
}

/// A direct request for whole pages.
pub fn direct(id: u64, operation: BlkOp, sector: u64, pages: &[u32]) -> Request {
    let mut request = Request {
        operation: operation.raw(),
        nr_segments: u8::try_from(pages.len()).unwrap(),
        id,
        sector_number: sector,
        ..Request::default()
    };
    for (segment, &page) in request.seg.iter_mut().zip(pages) {
        *segment = whole(page);
    }
    request
}

/// A segment of a whole page.
pub fn whole(page: u32) -> BlkSegment {
    BlkSegment {
        gref: GrantRef(page),
        first_sect: 0,
        last_sect: 7,
        pad: 0,
    }
}

/// An indirect request whose table stands in page `table`.
pub fn indirect(memory: &Memory, id: u64, op: BlkOp, sector: u64, table: u32, segments: &[BlkSegment]) -> Request {
    for (index, segment) in segments.iter().enumerate() {
        memory.write(table, index * 8, segment.as_bytes());
    }
    let mut inner = IndirectRequest {
        operation: BlkOp::Indirect.raw(),
        indirect_op: op.raw(),
        nr_segments: u16::try_from(segments.len()).unwrap(),
        id,
        sector_number: sector,
        ..IndirectRequest::default()
    };
    inner.indirect_grefs[0] = GrantRef(table);
    slot_of(inner.as_bytes())
}

/// Any request as a slot.
pub fn slot_of(bytes: &[u8]) -> Request {
    let mut slot = [0; SLOT_SIZE];
    slot[..bytes.len()].copy_from_slice(bytes);
    Request::read_from_bytes(&slot).unwrap()
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs all tasks to their end, polling each only when it was woken; panics when nothing is left to poll.
pub fn run_tasks(mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) {
    let flags: Vec<Arc<Flag>> = tasks.iter().map(|_| Arc::new(Flag(AtomicBool::new(true)))).collect();
    let mut live: BTreeMap<usize, _> = tasks.iter_mut().enumerate().collect();
    while !live.is_empty() {
        let mut polled = false;
        for (index, flag) in flags.iter().enumerate() {
            if !flag.0.swap(false, Ordering::Relaxed) {
                continue;
            }
            if let Some(task) = live.get_mut(&index) {
                polled = true;
                let waker = Waker::from(Arc::clone(flag));
                if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    live.remove(&index);
                }
            }
        }
        assert!(polled, "tasks {:?} wait for ever", live.keys());
    }
}

/// What a test needs to know about the back end's side.
pub struct Outcome {
    pub end: End,
    pub disk: Rc<RamDisk>,
    pub control: Rc<Control>,
    pub memory: Rc<Memory>,
}

/// Options of a test's device.
#[derive(Default)]
pub struct Options {
    pub limits: Limits,
    pub ring_pages: u32,
    pub persistent: bool,
    pub sectors: u64,
}

/// Connects a back end to a front end that does `script` and is then stopped. Nothing may stay mapped.
pub fn device(
    options: Options,
    prepare: impl FnOnce(&mut RamDisk),
    script: impl AsyncFnOnce(&mut Front, &Control),
) -> Outcome {
    let memory = Memory::new();
    let (near, far) = channel();
    let front = RefCell::new(Front::new(&memory, near, options.ring_pages.max(1)));
    let mut disk = RamDisk::new(&memory, if options.sectors == 0 { 4096 } else { options.sectors });
    prepare(&mut disk);
    let disk = Rc::new(disk);
    let params = front.borrow().params(options.persistent);
    let grants = GuestGrants(Rc::clone(&memory));
    let back_end = BackEnd::connect(grants, far, Rc::clone(&disk), &params, options.limits).unwrap();
    let control = back_end.control();
    let end = Cell::new(None);
    let near_control = Rc::clone(&control);
    run_tasks(vec![
        Box::pin(async { end.set(Some(back_end.run().await)) }),
        Box::pin(async {
            script(&mut front.borrow_mut(), &near_control).await;
            near_control.stop();
        }),
    ]);
    assert_eq!(memory.mapped(), 0, "pages stay mapped");
    assert_eq!(disk.running.get(), 0, "requests stay in flight");
    Outcome {
        end: end.get().expect("the device ended"),
        disk,
        control,
        memory,
    }
}
