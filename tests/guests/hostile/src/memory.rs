//! Addresses that hold nothing, and memory that comes and goes.

use pv_guest_lib::abi::memory::MemoryOp;
use pv_guest_lib::abi::nr;

use crate::Attacker;
use crate::gic::{LOADS, STORES, access};
use crate::random::ODD;
use crate::sys::{Scratch, hypercall};

/// Loads and stores all over the 39 bits that this domain can name, but for its RAM.
pub fn random_addresses(attacker: &mut Attacker) -> u64 {
    let mut completed = 0;
    for round in 0..8000usize {
        let shift = attacker.random.below(39);
        let address = (attacker.random.next() & ((1 << 39) - 1)) >> shift;
        // All RAM of the domain lies in this block and its aliases.
        if [1, 256, 257].contains(&(address >> 30)) {
            continue;
        }
        let word = if round % 2 == 0 { LOADS } else { STORES }.get(round / 2 % 11).copied().unwrap_or(0);
        completed += u64::from(access(attacker, word, address, round as u64).completed());
    }
    completed
}

/// Gives extents back with every odd order and count, gives the same frames back twice, and asks for them again.
pub fn balloon(attacker: &mut Attacker) -> u64 {
    let scratch = attacker.scratch;
    let first = scratch.base() >> 12;
    let mut done = 0;
    for order in ODD {
        for count in ODD {
            for space in [0, 0x39000, 0x3001, 1 << 28, u64::MAX, first + 200] {
                scratch.set(4096, space);
                for command in [MemoryOp::DecreaseReservation, MemoryOp::PopulatePhysmap, MemoryOp::IncreaseReservation]
                {
                    done += extents(scratch, command, scratch.base() + 4096, count, order);
                }
            }
        }
    }
    for round in 0..100 {
        for page in 0..64 {
            scratch.set(8192, first + 64 + page);
            let list = scratch.base() + 8192;
            // There is a page, or there is none, but never two.
            for command in [MemoryOp::DecreaseReservation, MemoryOp::PopulatePhysmap] {
                done += extents(scratch, command, list, 1, 0);
                done += extents(scratch, command, list, 1, 0) << 32;
            }
            scratch.set((64 + page) * 4096, round);
        }
    }
    done
}

/// One `memory_op` on a list of frames; the structure stands at the third page of the scratch memory.
pub fn extents(scratch: Scratch, command: MemoryOp, list: u64, count: u64, order: u64) -> u64 {
    let at = 3 * 4096;
    scratch.set(at, list);
    scratch.set(at + 8, count);
    scratch.set(at + 16, order & 0xFFFF_FFFF);
    scratch.set(at + 24, 0x7FF0);
    hypercall(u64::from(nr::MEMORY_OP), [u64::from(command.raw()), scratch.base() + at, 0, 0, 0, 0])
}
