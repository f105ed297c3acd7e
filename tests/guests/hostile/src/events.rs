//! Event channels, more of them and more often than anybody needs.

use pv_guest_lib::abi::evtchn::EvtchnOp;
use pv_guest_lib::abi::hvm::Param;
use pv_guest_lib::abi::memory::MemoryOp;
use pv_guest_lib::abi::nr;
use pv_guest_lib::hypercall::hvm_param;

use crate::Attacker;
use crate::random::Random;
use crate::sys::{Scratch, hypercall, millisecond, now};

/// One `event_channel_op` on up to 24 bytes at `argument`.
pub fn operation(scratch: Scratch, operation: EvtchnOp, argument: u64, words: [u64; 3]) -> u64 {
    for (at, word) in (0..).step_by(8).zip(words) {
        scratch.set(argument + at, word);
    }
    hypercall(u64::from(nr::EVENT_CHANNEL_OP), [u64::from(operation.raw()), scratch.at(argument), 0, 0, 0, 0])
}

/// Takes ports until there are none left, ends half of them in odd ways, and keeps the rest.
pub fn ports(attacker: &mut Attacker) -> u64 {
    let scratch = attacker.scratch;
    let mut taken = 0;
    for dom in [0, 0x7FF0, 0x7FFF, 5] {
        for _ in 0..5000 {
            if operation(scratch, EvtchnOp::AllocUnbound, 0, [0x7FF0 | dom << 16, 0, 0]) != 0 {
                break;
            }
            taken += 1;
        }
        if dom == 0 {
            for port in (20..2000).step_by(2) {
                operation(scratch, EvtchnOp::Close, 0, [port, 0, 0]);
            }
        }
    }
    for port in (0..4200).chain([0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]) {
        // The store's and the console's ports are needed by later attacks.
        if port > 8 && port % 3 == 0 {
            operation(scratch, EvtchnOp::Close, 0, [port, 0, 0]);
        }
        operation(scratch, EvtchnOp::BindInterdomain, 0, [0x7FF0 | port << 32, 0, 0]);
        operation(scratch, EvtchnOp::BindInterdomain, 0, [port << 32, 0, 0]);
        operation(scratch, EvtchnOp::BindVirq, 0, [port & 31, 0, 0]);
        operation(scratch, EvtchnOp::BindIpi, 0, [port & 3, 0, 0]);
        operation(scratch, EvtchnOp::BindVcpu, 0, [port | (port & 3) << 32, 0, 0]);
        operation(scratch, EvtchnOp::Status, 0, [0x7FF0 | port << 32, 0, 0]);
        operation(scratch, EvtchnOp::Status, 0, [port << 32, 0, 0]);
        operation(scratch, EvtchnOp::Unmask, 0, [port, 0, 0]);
        operation(scratch, EvtchnOp::Send, 0, [port, 0, 0]);
        operation(scratch, EvtchnOp::SetPriority, 0, [port | 99 << 32, 0, 0]);
        operation(scratch, EvtchnOp::ExpandArray, 0, [port, 0, 0]);
        operation(scratch, EvtchnOp::InitControl, 0, [port, 0, 17]);
    }
    operation(scratch, EvtchnOp::Reset, 0, [0, 0, 0]);
    for port in 9..4096 {
        operation(scratch, EvtchnOp::Close, 0, [port, 0, 0]);
    }
    taken
}

/// Pages of the attacker's memory: of control blocks, of event words, and of arguments.
const CONTROL: u64 = 40;
const WORDS: u64 = 42;
const ARGUMENTS: u64 = 48 * 4096;

/// Goes over to the FIFO ABI with every page that may serve and some that must not.
pub fn go_over(scratch: Scratch) {
    let first = scratch.base() >> 12;
    for (page, place) in [(CONTROL, 4032), (CONTROL, 4), (1 << 40, 0), (CONTROL, 1 << 32), (CONTROL, 99 << 32)] {
        operation(scratch, EvtchnOp::InitControl, ARGUMENTS, [first.wrapping_add(page), place, 0]);
    }
    for vcpu in 0..2 {
        operation(scratch, EvtchnOp::InitControl, ARGUMENTS, [first + CONTROL + vcpu, vcpu << 32, 0]);
    }
    // The same page twice, one of a control block, one that is nowhere, and more than there are ports.
    for page in [WORDS, WORDS, CONTROL, 1 << 40, WORDS + 1, WORDS + 2, WORDS + 3] {
        operation(scratch, EvtchnOp::ExpandArray, ARGUMENTS, [first.wrapping_add(page), 0, 0]);
    }
}

fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// One call on ports that use the FIFO ABI, or one store to what both sides write there.
pub fn fifo_step(scratch: Scratch, random: &mut Random, arguments: u64) {
    let port = random.below(40);
    let place = CONTROL * 4096 + random.below(4 * 1024) * 4;
    match random.below(10) {
        0 => drop(operation(scratch, EvtchnOp::BindIpi, arguments, [random.below(2), 0, 0])),
        1 => drop(operation(scratch, EvtchnOp::BindVcpu, arguments, [port | random.below(3) << 32, 0, 0])),
        2 => drop(operation(scratch, EvtchnOp::SetPriority, arguments, [port | random.below(20) << 32, 0, 0])),
        3 => drop(operation(scratch, EvtchnOp::Unmask, arguments, [port, 0, 0])),
        4 | 5 => drop(operation(scratch, EvtchnOp::Send, arguments, [port, 0, 0])),
        // A link to itself, to others, and to what is no port.
        6 => scratch.set32(WORDS * 4096 + port * 4, 1 << 29 | low(random.below(1 << 18))),
        7 => scratch.set32(WORDS * 4096 + port * 4, low(random.below(1 << 32))),
        8 => scratch.set32(place, low(random.below(1 << 32))),
        _ => {
            scratch.set(arguments, (scratch.base() >> 12) + CONTROL + random.below(6));
            for (at, word) in [(64, scratch.at(arguments)), (72, 1), (80, 0), (88, 0x7FF0)] {
                scratch.set(arguments + at, word);
            }
            let give_back = u64::from(MemoryOp::DecreaseReservation.raw());
            hypercall(u64::from(nr::MEMORY_OP), [give_back, scratch.at(arguments + 64), 0, 0, 0, 0]);
        }
    }
}

/// Uses the FIFO ABI with words, links and heads of its own making, and pages that it gives back.
pub fn fifo(attacker: &mut Attacker) -> u64 {
    let mut refused = 0;
    for _ in 0..20 {
        go_over(attacker.scratch);
        for _ in 0..5000 {
            fifo_step(attacker.scratch, &mut attacker.random, ARGUMENTS);
        }
        refused += u64::from(operation(attacker.scratch, EvtchnOp::Reset, ARGUMENTS, [0x7FF0, 0, 0]) != 0);
    }
    refused
}

/// Sends to the store and to the console a million times, or for five seconds, without a byte in the rings.
pub fn storm(attacker: &mut Attacker) -> u64 {
    let ports = [Param::StoreEvtchn, Param::ConsoleEvtchn].map(|param| hvm_param(param).unwrap_or(0));
    let until = now() + 5000 * millisecond();
    let mut sent = 0;
    while sent < 1_000_000 && now() < until {
        for port in ports {
            attacker.scratch.set(0, port);
            let send = u64::from(EvtchnOp::Send.raw());
            hypercall(u64::from(nr::EVENT_CHANNEL_OP), [send, attacker.scratch.base(), 0, 0, 0, 0]);
            sent += 1;
        }
    }
    sent
}
