//! What a ring slot asks for, checked without touching any memory but the private copy of the slot.

use alloc::vec::Vec;

use hypercall_abi::blkif::{
    BlkOp, BlkStatus, DISCARD_SECURE, DiscardRequest, IndirectRequest, MAX_INDIRECT_PAGES, Request, SECTORS_PER_PAGE,
    SEGMENTS_PER_INDIRECT_PAGE, Segment,
};
use hypercall_abi::ids::GrantRef;
use zerocopy::{FromBytes, IntoBytes};

/// Which way data moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the disk into the guest's pages.
    Read,
    /// From the guest's pages to the disk.
    Write,
}

/// What stands around a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    None,
    /// A flush before it.
    FlushFirst,
    /// Everything older is complete before it, everything newer starts after it, and it is durable.
    Barrier,
}

/// Where the segments of a transfer are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentList<'a> {
    /// In the slot.
    Direct(&'a [Segment]),
    /// In granted pages.
    Indirect {
        /// The slot's table of pages.
        pages: [GrantRef; MAX_INDIRECT_PAGES],
        /// How many segments, at most what the host allows.
        used: usize,
    },
}

/// A request that may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Move data.
    Transfer {
        /// Which way.
        direction: Direction,
        /// With what order.
        order: Order,
        /// The first sector on the disk.
        sector: u64,
        /// Where the memory is.
        list: SegmentList<'a>,
    },
    /// Make completed writes durable; with [`Order::Barrier`] after everything older.
    Flush {
        /// [`Order::FlushFirst`] or [`Order::Barrier`].
        order: Order,
    },
    /// Forget sectors.
    Discard {
        /// The first.
        sector: u64,
        /// How many.
        count: u64,
    },
}

impl Command<'_> {
    /// Whether this must run with nothing else in flight.
    pub fn is_barrier(&self) -> bool {
        match self {
            Self::Transfer { order, .. } | Self::Flush { order } => *order == Order::Barrier,
            Self::Discard { .. } => false,
        }
    }

    /// The same without the slot: the segments that stand there go to the end of `segments`.
    pub fn without_slot(self, segments: &mut Vec<Segment>) -> Command<'static> {
        match self {
            Self::Transfer { direction, order, sector, list } => {
                let list = match list {
                    SegmentList::Direct(table) => {
                        segments.extend_from_slice(table);
                        SegmentList::Direct(&[])
                    }
                    SegmentList::Indirect { pages, used } => SegmentList::Indirect { pages, used },
                };
                Command::Transfer { direction, order, sector, list }
            }
            Self::Flush { order } => Command::Flush { order },
            Self::Discard { sector, count } => Command::Discard { sector, count },
        }
    }
}

/// Pages that count as one request among those in flight, where a request names more of them.
pub const PAGES_OF_ONE: usize = 32;

/// A slot, understood: the operation to echo, and what to do or how to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// Echoed in the response.
    pub id: u64,
    /// Echoed in the response; of an indirect request it is the inner one, which is what front ends expect.
    pub operation: u8,
    /// What to do, or the status to answer.
    pub command: Result<Command<'a>, BlkStatus>,
}

impl Parsed<'_> {
    /// How many requests it counts for: what a device has mapped, and does without a break, is bounded however large its
    /// requests are.
    pub fn weight(&self) -> usize {
        match &self.command {
            Ok(Command::Transfer { list: SegmentList::Indirect { used, .. }, .. }) => used.div_ceil(PAGES_OF_ONE),
            Ok(_) | Err(_) => 1,
        }
    }
}

/// Reads a slot. Indirect requests may list up to `max_indirect` segments.
pub fn parse(slot: &Request, max_indirect: usize) -> Parsed<'_> {
    let mut operation = slot.operation;
    let command = match BlkOp::from_raw(slot.operation) {
        Some(BlkOp::Read) => direct(slot, Direction::Read, Order::None),
        Some(BlkOp::Write) => direct(slot, Direction::Write, Order::None),
        Some(BlkOp::WriteBarrier) => flushing(slot, Order::Barrier),
        Some(BlkOp::FlushDiskcache) => flushing(slot, Order::FlushFirst),
        Some(BlkOp::Discard) => discard(slot),
        Some(BlkOp::Indirect) => match IndirectRequest::read_from_prefix(slot.as_bytes()) {
            Ok((inner, _)) => {
                operation = inner.indirect_op;
                indirect(&inner, max_indirect)
            }
            Err(_) => Err(BlkStatus::Error),
        },
        Some(BlkOp::Reserved1) | None => Err(BlkStatus::OpNotSupp),
    };
    Parsed { id: slot.id, operation, command }
}

fn direct(slot: &Request, direction: Direction, order: Order) -> Result<Command<'_>, BlkStatus> {
    let used = slot.seg.get(..usize::from(slot.nr_segments)).filter(|used| !used.is_empty());
    let list = SegmentList::Direct(used.ok_or(BlkStatus::Error)?);
    Ok(Command::Transfer { direction, order, sector: slot.sector_number, list })
}

/// A flush or barrier, which may carry data or not.
fn flushing(slot: &Request, order: Order) -> Result<Command<'_>, BlkStatus> {
    if slot.nr_segments == 0 {
        return Ok(Command::Flush { order });
    }
    direct(slot, Direction::Write, order)
}

fn discard(slot: &Request) -> Result<Command<'static>, BlkStatus> {
    let Ok((inner, _)) = DiscardRequest::read_from_prefix(slot.as_bytes()) else {
        return Err(BlkStatus::Error);
    };
    if inner.flag & DISCARD_SECURE != 0 {
        return Err(BlkStatus::OpNotSupp);
    }
    if inner.nr_sectors == 0 {
        return Err(BlkStatus::Error);
    }
    Ok(Command::Discard { sector: inner.sector_number, count: inner.nr_sectors })
}

fn indirect(inner: &IndirectRequest, max_indirect: usize) -> Result<Command<'static>, BlkStatus> {
    let direction = match BlkOp::from_raw(inner.indirect_op) {
        Some(BlkOp::Read) => Direction::Read,
        Some(BlkOp::Write) => Direction::Write,
        Some(BlkOp::WriteBarrier | BlkOp::FlushDiskcache | BlkOp::Reserved1 | BlkOp::Discard | BlkOp::Indirect)
        | None => return Err(BlkStatus::OpNotSupp),
    };
    let used = usize::from(inner.nr_segments);
    let fits = used.div_ceil(SEGMENTS_PER_INDIRECT_PAGE) <= MAX_INDIRECT_PAGES;
    if used == 0 || used > max_indirect || !fits {
        return Err(BlkStatus::Error);
    }
    Ok(Command::Transfer {
        direction,
        order: Order::None,
        sector: inner.sector_number,
        list: SegmentList::Indirect { pages: inner.indirect_grefs, used },
    })
}

/// A segment's place in its page: the first sector and the number of sectors.
///
/// # Errors
/// The segment is empty or ends past its page.
pub fn sectors_of(segment: &Segment) -> Result<(u8, u8), BlkStatus> {
    if segment.last_sect >= SECTORS_PER_PAGE || segment.first_sect > segment.last_sect {
        return Err(BlkStatus::Error);
    }
    Ok((segment.first_sect, segment.last_sect - segment.first_sect + 1))
}
