//! Grant tables, version 1: a domain lets another use a page of its own (Xen public/grant_table.h).
//!
//! The granter writes an entry into a page that it shares with us; whoever uses the grant is counted in an active
//! entry that only we see. A use holds a reference on the frame, so the page outlives its granter for as long as a
//! peer has it mapped. Each mapping has a handle in the mapper's own table, bounded and charged to the mapper.
//!
//! Locks: a domain's table and a domain's handles each have one, and neither is held while the other is taken. Both
//! come before the p2m's. Nothing is copied under either.

mod active;
mod cache;
mod copy;
mod map;
mod maptrack;
mod query;
mod table;
mod teardown;
#[cfg(test)]
mod tests;

mod unmap;

use core::sync::atomic::{AtomicU64, Ordering};

use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{GrantOp, GrantStatus};
use hypercall_abi::ids::DomId;
use spin::mutex::SpinMutex;
use zerocopy::{FromBytes, IntoBytes};

use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::guest::{self, Array};
use crate::hw::{Access, Hw};
use crate::hypercall::{Call, CallResult, Stop};
use maptrack::Maptrack;
use table::Table;

pub use table::{frame_to_map, seed, set_gfn};
pub use teardown::teardown;

/// Bits of the first argument that hold the command; progress of an interrupted search is above.
const COMMAND_BITS: u32 = 12;

/// A domain's side of grants: what it grants, and what it has mapped.
pub struct GrantTable<H: Hw> {
    /// Tells this domain from an earlier one of the same id.
    serial: u64,
    /// Guards the pages of the table and the active entries.
    table: SpinMutex<Table<H>>,
    /// Guards the handles of this domain's mappings.
    maps: SpinMutex<Maptrack<H>>,
}

impl<H: Hw> GrantTable<H> {
    /// An empty table that may grow to `max_frames` pages.
    pub fn new(owner: DomId, max_frames: u32) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        GrantTable {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            table: SpinMutex::new(Table::new(max_frames)),
            maps: SpinMutex::new(Maptrack::new(owner)),
        }
    }
}

/// `grant_table_op(cmd, array, count)`.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    let command = call.arg32(0) & ((1 << COMMAND_BITS) - 1);
    let op = GrantOp::try_from(command).map_err(XenError::from)?;
    if call.arg32(2).cast_signed() < 0 {
        return Err(XenError::Inval.into());
    }
    match op {
        GrantOp::MapGrantRef => map::op(call),
        GrantOp::UnmapGrantRef => unmap::op(call),
        GrantOp::Copy => copy::op(call),
        GrantOp::SetupTable => query::setup_table(call),
        GrantOp::QuerySize => query::query_size(call),
        GrantOp::SetVersion => query::set_version(call),
        GrantOp::GetVersion => query::get_version(call),
        GrantOp::SwapGrantRef => query::swap(call),
        GrantOp::UnmapAndReplace => unmap::and_replace(call),
        GrantOp::CacheFlush => cache::op(call),
        GrantOp::Transfer => Err(XenError::OpNotSupp.into()),
        // Printing a guest's table is for whoever debugs Xen; status frames are of version 2.
        GrantOp::DumpTable | GrantOp::GetStatusFrames => Err(XenError::NoSys.into()),
    }
}

/// Where the elements of a batch are, and how far the call has come.
struct Batch<H: Hw> {
    array: Array<H>,
    size: usize,
    done: u64,
    count: u64,
}

impl<H: Hw> Batch<H> {
    fn new<T>(call: &Call<'_, H>) -> Self {
        Batch { array: Array::new(Access::Write), size: size_of::<T>(), done: 0, count: u64::from(call.arg32(2)) }
    }

    /// The address of the next element; `None` behind the last.
    fn next(&mut self, call: &Call<'_, H>) -> Option<Result<GuestVa, XenError>> {
        if self.done >= self.count {
            return None;
        }
        let at = guest::element(GuestVa::new(call.args[1]), self.done, self.size);
        self.done += 1;
        Some(at)
    }

    #[inline]
    fn read<T: FromBytes + IntoBytes>(
        &mut self,
        call: &Call<'_, H>,
        at: GuestVa,
        into: &mut T,
    ) -> Result<(), XenError> {
        self.array.read_into(call.domain, at, into)
    }

    /// Writes the status of the element at `at`, which has it `offset` bytes in, with two bytes of padding behind.
    #[inline]
    fn answer(&mut self, call: &Call<'_, H>, at: GuestVa, offset: usize, status: GrantStatus) -> Result<(), XenError> {
        let word = u32::from(status.raw().cast_unsigned());
        self.array.write32(call.domain, at.add(offset as u64), word)
    }

    /// Whether to stop here and go on with what is left in the next round.
    fn pauses(&self, call: &mut Call<'_, H>) -> bool {
        call.should_yield() && self.done < self.count
    }

    /// The end of this round, with all elements done or not.
    fn finish(self, call: &mut Call<'_, H>) -> CallResult {
        if self.done >= self.count {
            return Ok(0);
        }
        call.args[1] = call.args[1].wrapping_add(self.done * self.size as u64);
        call.args[2] = self.count - self.done;
        Err(Stop::Again)
    }
}

/// The peer of the last element: batches mostly name one.
struct Peers<H: Hw>(Option<H::Shared<Domain<H>>>);

impl<H: Hw> Peers<H> {
    const fn new() -> Self {
        Peers(None)
    }

    /// The peer that was asked for last.
    fn last(&self) -> Option<&Domain<H>> {
        self.0.as_deref()
    }

    /// The live domain with this id, for new uses of its grants.
    fn get(&mut self, call: &Call<'_, H>, id: DomId) -> Result<&H::Shared<Domain<H>>, GrantStatus> {
        if self.0.as_ref().is_none_or(|peer| peer.id != id) {
            self.0 = call.kernel.domains.get(id);
        }
        self.0.as_ref().filter(|peer| !peer.is_dying()).ok_or(GrantStatus::BadDomain)
    }
}
