//! Grants of this domain to itself, with entries and pages that change under the mapping.

use pv_guest_lib::abi::evtchn::EvtchnOp;
use pv_guest_lib::abi::grant::{GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP, GNTMAP_READONLY, GTF_PERMIT_ACCESS, GrantOp};
use pv_guest_lib::abi::memory::{MapSpace, MemoryOp};
use pv_guest_lib::abi::nr;

use crate::Attacker;
use crate::events::operation;
use crate::memory::extents;
use crate::random::{ODD, pointers};
use crate::sys::{Scratch, hypercall};

/// Where this guest maps its grant table.
const TABLE: u64 = 0x3810_0000;
/// Where it maps grants.
pub const WINDOW: u64 = 0x3820_0000;
/// The page of the scratch memory that is granted, and where the structures stand.
const PAGE: u64 = 80;
const ARGUMENT: u64 = 5 * 4096;

/// The grant table's first frame, mapped.
pub fn table(scratch: Scratch) -> Option<Scratch> {
    let at = 4 * 4096;
    scratch.set(at, 0x7FF0 | u64::from(MapSpace::GrantTable.raw()) << 32);
    scratch.set(at + 8, 0);
    scratch.set(at + 16, TABLE >> 12);
    let command = u64::from(MemoryOp::AddToPhysmap.raw());
    let result = hypercall(u64::from(nr::MEMORY_OP), [command, scratch.base() + at, 0, 0, 0, 0]);
    if result == 0 { Scratch::special(TABLE) } else { None }
}

/// Maps `gref` of `dom` at `address`; returns the status and the handle.
pub fn map_one(scratch: Scratch, argument: u64, dom: u64, gref: u64, address: u64, flags: u32) -> (i16, u64) {
    scratch.set(argument, address);
    scratch.set(argument + 8, u64::from(flags) | gref << 32);
    scratch.set(argument + 16, dom);
    let pointer = scratch.at(argument);
    hypercall(u64::from(nr::GRANT_TABLE_OP), [u64::from(GrantOp::MapGrantRef.raw()), pointer, 1, 0, 0, 0]);
    let word = scratch.get(argument + 16);
    ((word >> 16 & 0xFFFF) as u16 as i16, word >> 32)
}

/// Unmaps a handle; returns the status.
pub fn unmap_one(scratch: Scratch, argument: u64, handle: u64, address: u64) -> i16 {
    scratch.set(argument, address);
    scratch.set(argument + 8, 0);
    scratch.set(argument + 16, handle & 0xFFFF_FFFF);
    let pointer = scratch.at(argument);
    hypercall(u64::from(nr::GRANT_TABLE_OP), [u64::from(GrantOp::UnmapGrantRef.raw()), pointer, 1, 0, 0, 0]);
    (scratch.get(argument + 16) >> 32 & 0xFFFF) as u16 as i16
}

/// This domain's id, which a port that waits for the domain itself tells.
pub fn own_id(scratch: Scratch) -> Option<u64> {
    if operation(scratch, EvtchnOp::AllocUnbound, ARGUMENT, [0x7FF0 | 0x7FF0 << 16, 0, 0]) != 0 {
        return None;
    }
    let port = scratch.get(ARGUMENT) >> 32;
    operation(scratch, EvtchnOp::Status, ARGUMENT, [0x7FF0 | port << 32, 0, 0]);
    let own = scratch.get(ARGUMENT + 16) & 0xFFFF;
    operation(scratch, EvtchnOp::Close, ARGUMENT, [port, 0, 0]);
    Some(own)
}

fn permit(table: Scratch, gref: u64, domid: u64, frame: u64) {
    table.set(gref * 8, u64::from(GTF_PERMIT_ACCESS) | domid << 16 | frame << 32);
}

/// Rewrites the entry in every way while it is mapped, and maps and unmaps it in every order.
pub fn rewrite(attacker: &mut Attacker) -> u64 {
    let scratch = attacker.scratch;
    let Some(table) = table(scratch) else { return u64::MAX };
    let Some(own) = own_id(scratch) else { return u64::MAX - 1 };
    let frame = (scratch.base() >> 12) + PAGE;
    let mut answers = 0;
    for round in 0..2000u64 {
        permit(table, 8, own, frame);
        let flags = [2, 2, 6, 3, 1, 0, 7, u32::MAX][attacker.random.index(8)];
        let (first, handle) = map_one(scratch, ARGUMENT, own, 8, WINDOW, flags);
        let entry = match round % 5 {
            0 => 0,
            1 => attacker.random.next(),
            2 => u64::from(GTF_PERMIT_ACCESS) | own << 16 | attacker.random.below(1 << 28) << 32,
            3 => table.get(64) & !0x18,
            _ => u64::MAX,
        };
        table.set(64, entry);
        let (second, other) = map_one(scratch, ARGUMENT, own, 8, WINDOW + 4096, GNTMAP_HOST_MAP);
        if first == 0 && flags & GNTMAP_HOST_MAP != 0 && flags & GNTMAP_READONLY == 0 && flags & GNTMAP_DEVICE_MAP == 0
        {
            let mapped = Scratch::special(WINDOW).map_or(0, |page| {
                page.set(0, round);
                page.get(0)
            });
            answers += u64::from(mapped == round && scratch.get(PAGE * 4096) == round);
        }
        for (handle, address) in [(handle, WINDOW + 4096), (other, WINDOW + 8192), (handle + 1, WINDOW)] {
            answers += u64::from(unmap_one(scratch, ARGUMENT, handle, address) == 0);
        }
        if second == 0 {
            unmap_one(scratch, ARGUMENT, other, WINDOW + 4096);
        }
        if first == 0 {
            unmap_one(scratch, ARGUMENT, handle, WINDOW);
            // A handle ends once.
            answers += u64::from(unmap_one(scratch, ARGUMENT, handle, WINDOW) == 0);
        }
    }
    table.set(64, 0);
    answers
}

/// Gives the granted page back while it is mapped, reaches for it, and asks for another one in its place.
pub fn balloon(attacker: &mut Attacker) -> u64 {
    let scratch = attacker.scratch;
    let Some(table) = table(scratch) else { return u64::MAX };
    let Some(own) = own_id(scratch) else { return u64::MAX - 1 };
    let frame = (scratch.base() >> 12) + PAGE;
    let mut answers = 0;
    for _ in 0..300 {
        permit(table, 8, own, frame);
        let (status, handle) = map_one(scratch, ARGUMENT, own, 8, WINDOW, GNTMAP_HOST_MAP);
        scratch.set(4096, frame);
        answers += extents(scratch, MemoryOp::DecreaseReservation, scratch.base() + 4096, 1, 0);
        if status == 0 {
            if let Some(mapped) = Scratch::special(WINDOW) {
                mapped.set(0, 1);
            }
            // The window itself is no RAM of ours.
            scratch.set(4096, WINDOW >> 12);
            answers += extents(scratch, MemoryOp::DecreaseReservation, scratch.base() + 4096, 1, 0);
            answers += extents(scratch, MemoryOp::PopulatePhysmap, scratch.base() + 4096, 1, 0);
            unmap_one(scratch, ARGUMENT, handle, WINDOW);
        }
        scratch.set(4096, frame);
        extents(scratch, MemoryOp::DecreaseReservation, scratch.base() + 4096, 1, 0);
        extents(scratch, MemoryOp::PopulatePhysmap, scratch.base() + 4096, 1, 0);
    }
    answers
}

/// Grant operations with odd domains, references, addresses, counts and lengths.
pub fn map(attacker: &mut Attacker) -> u64 {
    let scratch = attacker.scratch;
    let Some(table) = table(scratch) else { return u64::MAX };
    let Some(own) = own_id(scratch) else { return u64::MAX - 1 };
    let call = u64::from(nr::GRANT_TABLE_OP);
    let mut accepted = 0;
    let addresses =
        [0, 1, WINDOW + 1, 0x0300_1000, 0x3900_0000, scratch.at(90 * 4096), 1 << 39, 1 << 40, u64::MAX, TABLE];
    for gref in [0, 1, 8, 9, 511, 512, 0xFFFF, 0x8000_0000, 0xFFFF_FFFF] {
        for dom in [0, own, 0x7FF0, 0x7FFF, 0x7FF4, 5] {
            for address in addresses {
                let entry =
                    attacker.random.pick(&[1, 2, 3, 5, 0x101, 0x10001]) | own << 16 | attacker.random.pick(&ODD) << 32;
                table.set(64, entry);
                table.set(72, entry ^ 0x100);
                let (status, handle) = map_one(scratch, ARGUMENT, dom, gref, address, GNTMAP_HOST_MAP);
                if status == 0 {
                    accepted += 1;
                    unmap_one(scratch, ARGUMENT, handle, address);
                }
            }
        }
    }
    for round in 0..3000u64 {
        let side =
            |random: &mut crate::random::Random| random.pick(&[0, own, 0x7FF0]) | random.pick(&ODD) << 16 & 0xFFFF_0000;
        scratch.set(ARGUMENT, attacker.random.pick(&[8, 9, 0, (scratch.base() >> 12) + 90, u64::MAX]));
        scratch.set(ARGUMENT + 8, side(&mut attacker.random));
        scratch.set(ARGUMENT + 16, attacker.random.pick(&[8, 9, 0, (scratch.base() >> 12) + 91, 0x39000, 0x3001]));
        scratch.set(ARGUMENT + 24, side(&mut attacker.random));
        scratch.set(ARGUMENT + 32, attacker.random.pick(&ODD) & 0xFFFF | (round % 4) << 16);
        permit(table, 8, own, (scratch.base() >> 12) + PAGE);
        hypercall(call, [u64::from(GrantOp::Copy.raw()), scratch.at(ARGUMENT), 1, 0, 0, 0]);
        accepted += u64::from(scratch.get(ARGUMENT + 32) >> 32 & 0xFFFF == 0);
    }
    for operation in 0..14 {
        for pointer in pointers(&scratch) {
            for count in [0, 1, 2, 65, 0x7FFF_FFFF, 0xFFFF_FFFF] {
                accepted += u64::from(hypercall(call, [operation, pointer, count, 0, 0, 0]) == 0);
            }
        }
    }
    table.set(64, 0);
    table.set(72, 0);
    accepted
}
