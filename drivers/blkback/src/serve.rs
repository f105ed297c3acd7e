//! Carrying out one request: map what it names, run the disk, keep what there is to give back.
//!
//! The two halves are apart on purpose. [`Server::execute`] runs many at a time and only adds mappings; unpinning
//! and unmapping is [`Server::retire`]'s, which the device calls once for a whole batch, before any of the batch's
//! responses is published: the guest may reuse a page the moment it sees the response.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use driver_api::{
    Access, Disk, DiskError, DiskMemory, Grants, MapError, MappedPage, PageCopy, SECTOR_SIZE, Segment as BusSegment,
    SharedPage,
};
use hypercall_abi::blkif::{BlkStatus, MAX_INDIRECT_PAGES, Response, SEGMENTS_PER_INDIRECT_PAGE, Segment};
use hypercall_abi::ids::GrantRef;
use zerocopy::transmute;

use crate::copies::copies;
use crate::persistent::{PersistentCache, Pin};
use crate::request::{Command, Direction, Order, Parsed, SegmentList, sectors_of};
use crate::stats::Stats;

/// Bytes of one entry in an indirect page.
const SEGMENT_BYTES: usize = size_of::<Segment>();

/// Where the mapping of one of a request's pages is kept.
#[derive(Clone, Copy)]
enum Place {
    /// In the persistent cache.
    Pinned(Pin),
    /// At this index of the request's own pages.
    Own(usize),
    /// Nowhere yet.
    Unmapped,
}

/// The lists that one request needs, kept for the next one so that the steady state allocates nothing.
pub struct Work<P> {
    segments: Vec<Segment>,
    references: Vec<GrantRef>,
    /// Those of `references` that the cache does not have.
    missing: Vec<GrantRef>,
    /// Which of `places` each of `missing` is for.
    wanted: Vec<usize>,
    places: Vec<Place>,
    results: Vec<Result<P, MapError>>,
    scatter: Vec<BusSegment>,
    /// What is moved where the disk is memory.
    copies: Vec<PageCopy>,
    /// Mapped for this request alone.
    pages: Vec<P>,
    /// In use in the persistent cache.
    pins: Vec<Pin>,
}

impl<P> Work<P> {
    fn new() -> Self {
        Self {
            segments: Vec::new(),
            references: Vec::new(),
            missing: Vec::new(),
            wanted: Vec::new(),
            places: Vec::new(),
            results: Vec::new(),
            scatter: Vec::new(),
            copies: Vec::new(),
            pages: Vec::new(),
            pins: Vec::new(),
        }
    }
}

/// A request that is over: the response, and what is still mapped for it.
pub struct Done<P> {
    /// To be put on the ring after [`Server::retire`].
    pub response: Response,
    work: Work<P>,
}

/// What every request of one device shares.
pub struct Server<G: Grants, D> {
    grants: G,
    disk: D,
    /// Present when the front end agreed to persistent grants.
    persistent: Option<RefCell<PersistentCache<G::Page>>>,
    pool: RefCell<Vec<Work<G::Page>>>,
    /// Pages that wait for the next batch to be unmapped.
    garbage: RefCell<Vec<G::Page>>,
    /// Counters for the host.
    pub stats: Cell<Stats>,
}

impl<G: Grants, D: Disk> Server<G, D> {
    /// Serves `disk`, keeping up to `persistent` grants mapped (`None`: the front end does not want that).
    pub fn new(grants: G, disk: D, persistent: Option<usize>) -> Self {
        Self {
            grants,
            disk,
            persistent: persistent.map(|bound| RefCell::new(PersistentCache::new(bound))),
            pool: RefCell::new(Vec::new()),
            garbage: RefCell::new(Vec::new()),
            stats: Cell::new(Stats::default()),
        }
    }

    /// Changes a counter.
    pub fn count(&self, change: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    /// Carries out a request. Must be driven to its end: the disk may be using the guest's pages until then.
    pub async fn execute(&self, request: Parsed) -> Done<G::Page> {
        let mut work = self.pool.borrow_mut().pop().unwrap_or_else(Work::new);
        let result = match request.command {
            Ok(command) => self.perform(command, &mut work).await,
            Err(status) => Err(status),
        };
        let status = match result {
            Ok(()) => BlkStatus::Okay,
            Err(status) => {
                self.count(|stats| stats.errors += 1);
                status
            }
        };
        Done {
            response: Response {
                id: request.id,
                operation: request.operation,
                status: status.raw(),
                ..Response::default()
            },
            work,
        }
    }

    async fn perform(&self, command: Command, work: &mut Work<G::Page>) -> Result<(), BlkStatus> {
        match command {
            Command::Transfer { direction, order, sector, list } => {
                self.collect(direction, sector, &list, work)?;
                match self.disk.memory() {
                    Some(memory) => self.copy(memory, direction, sector, work),
                    None => {
                        self.prepare(direction, work)?;
                        self.transfer(direction, order, sector, &work.scatter).await
                    }
                }
            }
            Command::Flush { order: _ } => {
                self.count(|stats| stats.f_req += 1);
                self.disk.flush().await.map_err(status_of)
            }
            Command::Discard { sector, count } => {
                self.count(|stats| stats.ds_req += 1);
                let info = self.disk.info();
                if info.read_only {
                    return Err(BlkStatus::Error);
                }
                if !info.discard {
                    return Err(BlkStatus::OpNotSupp);
                }
                self.in_range(sector, count)?;
                self.disk.discard(sector, count).await.map_err(status_of)
            }
        }
    }

    async fn transfer(
        &self,
        direction: Direction,
        order: Order,
        sector: u64,
        scatter: &[BusSegment],
    ) -> Result<(), BlkStatus> {
        match direction {
            Direction::Read => self.disk.read(sector, scatter).await.map_err(status_of),
            Direction::Write => {
                match order {
                    Order::None => {}
                    Order::FlushFirst | Order::Barrier => self.disk.flush().await.map_err(status_of)?,
                }
                self.disk.write(sector, scatter).await.map_err(status_of)?;
                match order {
                    Order::None | Order::FlushFirst => Ok(()),
                    Order::Barrier => self.disk.flush().await.map_err(status_of),
                }
            }
        }
    }

    fn in_range(&self, sector: u64, count: u64) -> Result<(), BlkStatus> {
        match sector.checked_add(count) {
            Some(end) if end <= self.disk.info().sectors => Ok(()),
            Some(_) | None => Err(BlkStatus::Error),
        }
    }

    /// Collects the segments and checks them against the disk.
    fn collect(
        &self,
        direction: Direction,
        sector: u64,
        list: &SegmentList,
        work: &mut Work<G::Page>,
    ) -> Result<(), BlkStatus> {
        if direction == Direction::Write && self.disk.info().read_only {
            return Err(BlkStatus::Error);
        }
        match list {
            SegmentList::Direct { table, used } => {
                work.segments.extend(table.iter().take(*used));
            }
            SegmentList::Indirect { pages, used } => self.read_indirect(pages, *used, work)?,
        }
        let mut sectors = 0u64;
        for segment in &work.segments {
            sectors += u64::from(sectors_of(segment)?.1);
        }
        self.in_range(sector, sectors)?;
        self.count(|stats| match direction {
            Direction::Read => {
                stats.rd_req += 1;
                stats.rd_sect += sectors;
            }
            Direction::Write => {
                stats.wr_req += 1;
                stats.wr_sect += sectors;
            }
        });
        Ok(())
    }

    /// Moves the segments' bytes to or from a disk that is memory: one copy, and nothing mapped. What was copied is in
    /// place, so that there is nothing to flush before or after.
    fn copy(
        &self,
        memory: &dyn DiskMemory,
        direction: Direction,
        sector: u64,
        work: &mut Work<G::Page>,
    ) -> Result<(), BlkStatus> {
        work.copies.clear();
        copies(memory, sector, &work.segments, &mut work.copies)?;
        let copied = self.grants.copy(&work.copies, direction == Direction::Read);
        if copied { Ok(()) } else { Err(BlkStatus::Error) }
    }

    /// Maps the pages of the segments and builds the scatter list.
    fn prepare(&self, direction: Direction, work: &mut Work<G::Page>) -> Result<(), BlkStatus> {
        let access = match direction {
            Direction::Read => Access::ReadWrite,
            Direction::Write => Access::ReadOnly,
        };
        let mut references = core::mem::take(&mut work.references);
        references.clear();
        references.extend(work.segments.iter().map(|segment| segment.gref));
        let mapped = self.map(&references, access, work);
        work.references = references;
        mapped?;
        self.build_scatter(work)
    }

    /// Copies the segment table of an indirect request, once, out of the pages that hold it.
    fn read_indirect(
        &self,
        pages: &[GrantRef; MAX_INDIRECT_PAGES],
        used: usize,
        work: &mut Work<G::Page>,
    ) -> Result<(), BlkStatus> {
        let count = used.div_ceil(SEGMENTS_PER_INDIRECT_PAGE);
        let pages = pages.get(..count).ok_or(BlkStatus::Error)?;
        self.map(pages, Access::ReadOnly, work)?;
        let mut left = used;
        for index in 0..count {
            let here = left.min(SEGMENTS_PER_INDIRECT_PAGE);
            left -= here;
            let mut segments = core::mem::take(&mut work.segments);
            let read = self.with_page(work, index, |page| {
                segments.extend((0..here).map(|n| -> Segment { transmute!(page.load_u64(n * SEGMENT_BYTES)) }));
            });
            work.segments = segments;
            read.ok_or(BlkStatus::Error)?;
        }
        Ok(())
    }

    /// Maps `references`, from the cache where it has them, and leaves in `work.places` where each is. On an
    /// error the ones that were mapped stay with `work` until it retires.
    fn map(&self, references: &[GrantRef], access: Access, work: &mut Work<G::Page>) -> Result<(), BlkStatus> {
        let Work { missing, wanted, places, results, pages, pins, .. } = work;
        let mut cache = self.persistent.as_ref().map(RefCell::borrow_mut);
        missing.clear();
        wanted.clear();
        places.clear();
        for (index, &reference) in references.iter().enumerate() {
            match cache.as_mut().and_then(|cache| cache.pin(reference)) {
                Some(pin) => {
                    pins.push(pin);
                    places.push(Place::Pinned(pin));
                }
                None => {
                    missing.push(reference);
                    wanted.push(index);
                    places.push(Place::Unmapped);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        // What is to stay mapped must serve requests in both directions.
        let access = if cache.is_some() { Access::ReadWrite } else { access };
        results.clear();
        self.grants.map(missing, access, results);
        let mut garbage = self.garbage.borrow_mut();
        let mut outcome = Ok(());
        for ((result, &reference), &index) in results.drain(..).zip(missing.iter()).zip(wanted.iter()) {
            let place = match result {
                Err(MapError::BadGrant | MapError::NoSpace) => {
                    outcome = Err(BlkStatus::Error);
                    continue;
                }
                Ok(page) => match keep(cache.as_deref_mut(), reference, page, &mut garbage) {
                    Ok(pin) => {
                        pins.push(pin);
                        Place::Pinned(pin)
                    }
                    Err(page) => {
                        pages.push(page);
                        Place::Own(pages.len() - 1)
                    }
                },
            };
            if let Some(slot) = places.get_mut(index) {
                *slot = place;
            }
        }
        outcome
    }

    /// Looks at the page that `work.places[index]` names.
    fn with_page<T>(&self, work: &Work<G::Page>, index: usize, look: impl FnOnce(&G::Page) -> T) -> Option<T> {
        match *work.places.get(index)? {
            Place::Own(at) => work.pages.get(at).map(look),
            Place::Pinned(pin) => self.persistent.as_ref()?.borrow().page(pin).map(look),
            Place::Unmapped => None,
        }
    }

    /// Turns segments and mappings into bus addresses, joining neighbours so that the disk has fewer to fetch.
    fn build_scatter(&self, work: &mut Work<G::Page>) -> Result<(), BlkStatus> {
        let mut scatter = core::mem::take(&mut work.scatter);
        scatter.clear();
        for (index, segment) in work.segments.iter().enumerate() {
            let (first, sectors) = sectors_of(segment)?;
            let bus = self
                .with_page(work, index, MappedPage::bus_addr)
                .ok_or(BlkStatus::Error)?
                .offset(u64::from(first) * u64::from(SECTOR_SIZE));
            let len = u32::from(sectors) * SECTOR_SIZE;
            match scatter.last_mut() {
                Some(last) if last.bus.offset(u64::from(last.len)) == bus => last.len += len,
                Some(_) | None => scatter.push(BusSegment { bus, len }),
            }
        }
        work.scatter = scatter;
        Ok(())
    }

    /// Gives back what a batch of finished requests, drained from `batch`, had mapped, and passes each response on.
    pub fn retire(&self, batch: &mut Vec<Done<G::Page>>, mut respond: impl FnMut(Response)) {
        let mut garbage = self.garbage.borrow_mut();
        for done in batch.iter_mut() {
            garbage.append(&mut done.work.pages);
            if let Some(cache) = &self.persistent {
                let mut cache = cache.borrow_mut();
                done.work.pins.drain(..).for_each(|pin| cache.unpin(pin));
            }
        }
        if !garbage.is_empty() {
            self.grants.unmap(&mut garbage);
        }
        for mut done in batch.drain(..) {
            respond(done.response);
            done.work.segments.clear();
            self.pool.borrow_mut().push(done.work);
        }
        if let Some(cache) = &self.persistent {
            let kept = u32::try_from(cache.borrow().len()).unwrap_or(u32::MAX);
            self.count(|stats| stats.persistent = kept);
        }
    }

    /// Unmaps everything: the ring's pages and the cache. Nothing is in flight any more.
    pub fn close(&self, ring: Vec<G::Page>) {
        let mut pages = ring;
        pages.append(&mut self.garbage.borrow_mut());
        if let Some(cache) = &self.persistent {
            cache.borrow_mut().drain(&mut pages);
        }
        if !pages.is_empty() {
            self.grants.unmap(&mut pages);
        }
    }
}

/// Puts a page into the cache, if there is one and it has room.
fn keep<P>(
    cache: Option<&mut PersistentCache<P>>,
    reference: GrantRef,
    page: P,
    evicted: &mut Vec<P>,
) -> Result<Pin, P> {
    match cache {
        Some(cache) => cache.insert(reference, page, evicted),
        None => Err(page),
    }
}

/// What the guest is told of a disk's failure.
fn status_of(error: DiskError) -> BlkStatus {
    match error {
        DiskError::Unsupported => BlkStatus::OpNotSupp,
        DiskError::Io | DiskError::OutOfRange | DiskError::ReadOnly | DiskError::Segments | DiskError::DeviceBroken => {
            BlkStatus::Error
        }
    }
}
