//! Grants: copies from the partner's page and mappings of it.

use pv_guest_lib::abi::grant::{GNTCOPY_SOURCE_GREF, GNTMAP_HOST_MAP, GrantOp};
use pv_guest_lib::abi::ids::DomId;
use pv_guest_lib::abi::nr;
use pv_guest_lib::println;

use crate::pair::Partner;
use crate::sys::{self, Scratch};
use crate::{report, row};

/// Rounds of a batch.
const ROUNDS: u64 = 128;
/// Operations of a call.
const BATCH: u64 = 16;
/// Lengths of the copies between which the cost of a byte is taken.
const SHORT: u64 = 64;
const LONG: u64 = 4096;

/// Byte sizes of the structures.
const COPY: u64 = 40;
const UNMAP: u64 = 1024;

/// Measures them.
pub fn run(partner: &Partner) {
    let Some(scratch) = Scratch::take(2) else {
        println!("paths: no memory");
        return;
    };
    copies(partner, scratch);
    mapping(partner, scratch);
}

/// One `grant_table_op`.
#[inline(always)]
fn grant_op<const MADE: bool>(operation: GrantOp, argument: u64, count: u64) {
    sys::hypercall::<MADE>(u64::from(nr::GRANT_TABLE_OP), u64::from(operation.raw()), argument, count);
}

/// Writes copies of `length` bytes from the partner's page into a page of our own.
fn write_copies(partner: &Partner, scratch: Scratch, length: u64) {
    for index in 0..BATCH {
        let at = index * COPY;
        scratch.set(at, u64::from(partner.gref().0));
        scratch.set(at + 8, u64::from(partner.domid().0));
        scratch.set(at + 16, scratch.frame(4096));
        scratch.set(at + 24, u64::from(DomId::SELF.0));
        scratch.set(at + 32, length | u64::from(GNTCOPY_SOURCE_GREF) << 16 | 0xFFFF << 32);
    }
}

/// Whether an operation of the call has set its status, 16 bits at `offset`, to anything but okay.
fn failed(scratch: Scratch, offset: u64) -> bool {
    scratch.get(offset & !7) >> (offset % 8 * 8) & 0xFFFF != 0
}

fn copies(partner: &Partner, scratch: Scratch) {
    let argument = scratch.at(0);
    let copy = |count| grant_op::<true>(GrantOp::Copy, argument, count);
    let ticks = |name, length, count| {
        write_copies(partner, scratch, length);
        sys::sleep(crate::SETTLE_MS);
        let made = sys::fewest_ticks(name, ROUNDS, || copy(count));
        let idle = sys::fewest_ticks("", ROUNDS, || grant_op::<false>(GrantOp::Copy, argument, count));
        made.saturating_sub(idle)
    };
    let short = ticks("grant_copy_fixed", SHORT, 1);
    let long = ticks("grant_copy_byte", LONG, 1);
    let batch = ticks("grant_copy_batch", SHORT, BATCH);
    if failed(scratch, 36) {
        println!("paths: grant_copy failed: {:#x}", scratch.get(32));
        return;
    }
    report("grant_copy_fixed", short - (long - short) * SHORT / (LONG - SHORT), ROUNDS);
    report("grant_copy_byte", long - short, ROUNDS * (LONG - SHORT));
    report("grant_copy_batch", batch, ROUNDS * BATCH);
}

/// Maps and unmaps what [`write_mapping`] has named; the handle is carried from the one structure to the other.
#[inline(always)]
pub fn map_once<const MADE: bool>(scratch: Scratch) {
    grant_op::<MADE>(GrantOp::MapGrantRef, scratch.at(0), 1);
    scratch.set(UNMAP + 16, scratch.get(16) >> 32);
    grant_op::<MADE>(GrantOp::UnmapGrantRef, scratch.at(UNMAP), 1);
}

/// Names the partner's page, and where it is to be mapped.
pub fn write_mapping(partner: &Partner, scratch: Scratch) {
    let window = partner.free_window();
    scratch.set(0, window);
    scratch.set(8, u64::from(GNTMAP_HOST_MAP) | u64::from(partner.gref().0) << 32);
    scratch.set(16, u64::from(partner.domid().0));
    scratch.set(UNMAP, window);
    scratch.set(UNMAP + 8, 0);
}

/// Says what went wrong if the last mapping or its end has failed.
pub fn check_mapping(scratch: Scratch) {
    if failed(scratch, 18) || failed(scratch, UNMAP + 20) {
        println!("paths: grant_map_unmap failed: {:#x}, {:#x}", scratch.get(16), scratch.get(UNMAP + 16));
    }
}

fn mapping(partner: &Partner, scratch: Scratch) {
    write_mapping(partner, scratch);
    row("grant_map_unmap", ROUNDS, || map_once::<true>(scratch), || map_once::<false>(scratch));
    check_mapping(scratch);
}
