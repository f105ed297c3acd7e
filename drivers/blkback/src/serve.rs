//! Carrying out one request: map what it names (`mapping`), run the disk, keep what there is to give back.
//!
//! The two halves are apart on purpose. [`Server::execute`] runs many at a time and only adds mappings; unpinning
//! and unmapping is [`Server::retire`]'s, which the device calls once for a whole batch, before any of the batch's
//! responses is published: the guest may reuse a page the moment it sees the response.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use driver_api::{Disk, DiskError, DiskMemory, Grants, PageCopy, Segment as BusSegment};
use hypercall_abi::blkif::{BlkStatus, Response, Segment};

use crate::copies::copies;
use crate::mapping::Mappings;
use crate::request::{Command, Direction, Order, Parsed, SegmentList, sectors_of};
use crate::stats::Control;
use crate::work::Work;

/// A request that is over: the response, and what is still mapped for it.
pub struct Done<P> {
    /// To be put on the ring after [`Server::retire`].
    pub response: Response,
    /// What it counted for.
    pub weight: usize,
    work: Work<P>,
}

/// What every request of one device shares.
pub struct Server<G: Grants, D> {
    mappings: Mappings<G>,
    disk: D,
    pool: RefCell<Vec<Work<G::Page>>>,
    /// What is moved at once where the disk is memory.
    copies: RefCell<Vec<PageCopy>>,
    control: Rc<Control>,
}

impl<G: Grants, D: Disk> Server<G, D> {
    /// Serves `disk` to and from the pages of `mappings`.
    pub fn new(mappings: Mappings<G>, disk: D, control: Rc<Control>) -> Self {
        Self { mappings, disk, pool: RefCell::new(Vec::new()), copies: RefCell::new(Vec::new()), control }
    }

    /// Carries a request out that takes no waiting: the disk is memory, and the segments stand in the slot.
    pub fn execute_at_once(&self, request: &Parsed<'_>) -> Option<Response> {
        let Ok(Command::Transfer { direction, sector, list: SegmentList::Direct(segments), order: _ }) =
            &request.command
        else {
            return None;
        };
        let memory = self.disk.memory()?;
        let admitted = self.admit(*direction, *sector, segments);
        let result = admitted.and_then(|()| self.copy(memory, *direction, *sector, segments));
        Some(self.response(request.id, request.operation, result))
    }

    /// Carries out a request. Must be driven to its end: the disk may be using the guest's pages until then.
    pub fn execute<'a>(&'a self, request: Parsed<'_>) -> impl Future<Output = Done<G::Page>> + use<'a, G, D> {
        let mut work = self.pool.borrow_mut().pop().unwrap_or_else(Work::new);
        let weight = request.weight();
        let Parsed { id, operation, command } = request;
        // The slot's private copy is the next request's while this one waits.
        let command = command.map(|command| command.without_slot(&mut work.segments));
        async move {
            let result = match command {
                Ok(command) => self.perform(command, &mut work).await,
                Err(status) => Err(status),
            };
            Done { response: self.response(id, operation, result), weight, work }
        }
    }

    /// The answer to a request, counted if it is not success.
    fn response(&self, id: u64, operation: u8, result: Result<(), BlkStatus>) -> Response {
        let status = match result {
            Ok(()) => BlkStatus::Okay,
            Err(status) => {
                self.control.count(|stats| stats.errors += 1);
                status
            }
        };
        Response { id, operation, status: status.raw(), ..Response::default() }
    }

    async fn perform(&self, command: Command<'static>, work: &mut Work<G::Page>) -> Result<(), BlkStatus> {
        match command {
            Command::Transfer { direction, order, sector, list } => {
                match &list {
                    // They are with the work already.
                    SegmentList::Direct(_) => {}
                    SegmentList::Indirect { pages, used } => self.mappings.read_indirect(pages, *used, work)?,
                }
                self.admit(direction, sector, &work.segments)?;
                match self.disk.memory() {
                    Some(memory) => self.copy(memory, direction, sector, &work.segments),
                    None => {
                        self.mappings.prepare(direction, work)?;
                        self.transfer(direction, order, sector, &work.scatter).await
                    }
                }
            }
            Command::Flush { order: _ } => {
                self.control.count(|stats| stats.f_req += 1);
                self.disk.flush().await.map_err(status_of)
            }
            Command::Discard { sector, count } => {
                self.control.count(|stats| stats.ds_req += 1);
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

    /// Checks segments against the disk, and counts them.
    fn admit(&self, direction: Direction, sector: u64, segments: &[Segment]) -> Result<(), BlkStatus> {
        if direction == Direction::Write && self.disk.info().read_only {
            return Err(BlkStatus::Error);
        }
        let mut sectors = 0u64;
        for segment in segments {
            sectors += u64::from(sectors_of(segment)?.1);
        }
        self.in_range(sector, sectors)?;
        self.control.count(|stats| match direction {
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
        segments: &[Segment],
    ) -> Result<(), BlkStatus> {
        let mut list = self.copies.borrow_mut();
        list.clear();
        copies(memory, sector, segments, &mut list)?;
        let copied = self.mappings.copy(&list, direction == Direction::Read);
        if copied { Ok(()) } else { Err(BlkStatus::Error) }
    }

    /// Gives back what a batch of finished requests, drained from `batch`, had mapped, and passes each response on.
    pub fn retire(&self, batch: &mut Vec<Done<G::Page>>, mut respond: impl FnMut(Response)) {
        self.mappings.release(batch.iter_mut().map(|done| &mut done.work));
        for mut done in batch.drain(..) {
            respond(done.response);
            done.work.segments.clear();
            self.pool.borrow_mut().push(done.work);
        }
        if let Some(kept) = self.mappings.kept() {
            let kept = u32::try_from(kept).unwrap_or(u32::MAX);
            self.control.count(|stats| stats.persistent = kept);
        }
    }

    /// Unmaps everything, with the pages of the rings. Nothing is in flight any more.
    pub fn close(&self, rings: Vec<G::Page>) {
        self.mappings.close(rings);
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
