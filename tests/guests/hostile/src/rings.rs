//! The rings of console and store, with indices and contents that cannot be.

use pv_guest_lib::abi::evtchn::EvtchnOp;
use pv_guest_lib::abi::hvm::Param;
use pv_guest_lib::abi::xencons;
use pv_guest_lib::abi::xs_wire::interface;
use pv_guest_lib::hypercall::hvm_param;

use crate::Attacker;
use crate::events::operation;
use crate::sys::Scratch;

/// The page and the port that two parameters name.
pub fn ring(page: Param, port: Param) -> Option<(Scratch, u64)> {
    let page = Scratch::special(hvm_param(page).ok()? << 12)?;
    Some((page, hvm_param(port).ok()?))
}

/// Tells the other end.
pub fn notify(attacker: &Attacker, port: u64) {
    operation(attacker.scratch, EvtchnOp::Send, 0, [port, 0, 0]);
}

/// Random producers and consumers, and control characters for whoever reads along.
pub fn console(attacker: &mut Attacker) -> u64 {
    let Some((page, port)) = ring(Param::ConsolePfn, Param::ConsoleEvtchn) else { return u64::MAX };
    for round in 0..400u64 {
        for offset in (0..4096).step_by(8) {
            page.set(offset, if round % 2 == 0 { 0x1B5B_324A_0D0A_0007 } else { attacker.random.next() });
        }
        let odd = attacker.random.word();
        let (producer, consumer) = match round % 4 {
            0 => (odd, odd.wrapping_sub(2048)),
            1 => (odd, odd.wrapping_add(1)),
            2 => (u32::MAX, 0),
            _ => (odd, attacker.random.word()),
        };
        for (at, value) in [
            (xencons::OUT_PROD, producer),
            (xencons::OUT_CONS, consumer),
            (xencons::IN_PROD, consumer),
            (xencons::IN_CONS, producer),
        ] {
            page.set32(at as u64, value);
        }
        notify(attacker, port);
        crate::wait(2);
    }
    u64::from(page.get32(xencons::OUT_CONS as u64))
}

/// Random producers and consumers, and random messages.
pub fn store(attacker: &mut Attacker) -> u64 {
    let Some((page, port)) = ring(Param::StorePfn, Param::StoreEvtchn) else { return u64::MAX };
    for round in 0..400u64 {
        for offset in (0..4096).step_by(8) {
            page.set(offset, attacker.random.below(1 << 33));
        }
        let odd = attacker.random.word();
        let (producer, consumer) = match round % 4 {
            0 => (odd, odd.wrapping_sub(1024)),
            1 => (odd, odd.wrapping_sub(1025)),
            2 => (u32::MAX, 0),
            _ => (odd, attacker.random.word()),
        };
        for (at, value) in [
            (interface::REQ_PROD, producer),
            (interface::REQ_CONS, consumer),
            (interface::RSP_PROD, consumer),
            (interface::RSP_CONS, producer),
        ] {
            page.set32(at as u64, value);
        }
        notify(attacker, port);
        crate::wait(2);
    }
    u64::from(page.get32(interface::ERROR as u64))
}

/// A connection to the store that is asked for again each time it is closed, and broken again at once; returns how often.
pub fn reconnect(attacker: &mut Attacker) -> u64 {
    let Some((page, port)) = ring(Param::StorePfn, Param::StoreEvtchn) else { return u64::MAX };
    let becomes = |offset: usize, done: fn(u32) -> bool| {
        (0..50).any(|_| {
            crate::wait(1);
            done(page.get32(offset as u64))
        })
    };
    let mut broken = 0;
    for _ in 0..100 {
        page.set32(interface::CONNECTION as u64, interface::RECONNECT);
        notify(attacker, port);
        if !becomes(interface::CONNECTION, |state| state == interface::CONNECTED) {
            break;
        }
        page.set32(interface::REQ_PROD as u64, 5000);
        notify(attacker, port);
        if !becomes(interface::ERROR, |error| error != 0) {
            break;
        }
        broken += 1;
    }
    broken
}
