//! The paths that need nobody else: calls, registers, interrupts, events to oneself, ports, memory.

use pv_guest_lib::abi::evtchn::EvtchnOp;
use pv_guest_lib::abi::ids::DomId;
use pv_guest_lib::abi::memory::MemoryOp;
use pv_guest_lib::abi::nr;
use pv_guest_lib::abi::sched::SchedOp;
use pv_guest_lib::evtchn::EventChannel;
use pv_guest_lib::println;

use crate::sys::{self, Scratch};
use crate::{report, row};

/// Rounds of a batch.
pub const ROUNDS: u64 = 256;
/// Entries of the larger multicall, beyond the one of the smaller.
const ENTRIES: u64 = 32;
/// Frames of the larger balloon operation.
const BATCH: u64 = 16;

/// `DOMID_SELF`.
const SELF: u64 = DomId::SELF.0 as u64;

/// Measures them all.
pub fn run() {
    let Some(scratch) = Scratch::take(32) else {
        println!("paths: no memory");
        return;
    };
    calls();
    registers();
    interrupts();
    in_flight();
    events(scratch);
    ports(scratch);
    multicall(scratch);
    balloon(scratch);
}

/// A call that fails is a short one: sees that the last one of a path has not.
pub fn expect(name: &str, result: u64, wanted: u64) {
    if result != wanted {
        println!("paths: {name} failed: {result:#x} where {wanted:#x} should be");
    }
}

#[inline(always)]
fn version<const MADE: bool>() {
    sys::hypercall::<MADE>(u64::from(nr::XEN_VERSION), 0, 0, 0);
}

fn calls() {
    row("null_hypercall", ROUNDS, version::<true>, version::<false>);
    row("psci_version", ROUNDS, sys::psci_version::<true>, sys::psci_version::<false>);
    row("yield", ROUNDS, yield_once::<true>, yield_once::<false>);
}

/// Lets somebody else run.
#[inline(always)]
fn yield_once<const MADE: bool>() {
    sys::hypercall::<MADE>(u64::from(nr::SCHED_OP), u64::from(SchedOp::Yield.raw()), 0, 0);
}

fn registers() {
    row("trapped_register", ROUNDS, sys::trapped_register::<true>, sys::trapped_register::<false>);
    row("gicd_read", ROUNDS, sys::distributor_read::<true>, sys::distributor_read::<false>);
    row("gicr_write", ROUNDS, sys::redistributor_write::<true>, sys::redistributor_write::<false>);
}

/// Measures a path with an interrupt at its end, and sees that there was one for each round.
pub fn row_with_interrupt<R>(name: &str, once: impl Fn() -> R, empty: impl Fn() -> R) {
    sys::sleep(crate::SETTLE_MS);
    let start = sys::taken();
    let made = sys::with_interrupts(|| sys::fewest_ticks(name, ROUNDS, once));
    let (asked, came) = (sys::times(ROUNDS), sys::taken() - start);
    let idle = sys::fewest_ticks("", ROUNDS, empty);
    if asked == came {
        report(name, made.saturating_sub(idle), ROUNDS);
    } else {
        println!("paths: {name} failed: {came} interrupts in {asked} rounds");
    }
}

fn interrupts() {
    row_with_interrupt("sgi_to_self", sys::sgi_to_self::<true>, sys::sgi_to_self::<false>);
    row_with_interrupt("vtimer_expiry", sys::expired_timer::<true>, sys::expired_timer::<false>);
}

/// The null hypercall while an interrupt has been taken and not ended. Nobody can sleep meanwhile: the timer's
/// interrupt would wait for the end of this one.
fn in_flight() {
    sys::sleep(crate::SETTLE_MS);
    sys::sgi_to_self::<true>();
    let interrupt = sys::acknowledge::<true>();
    let made = sys::fewest_ticks("in_flight", ROUNDS, version::<true>);
    let idle = sys::fewest_ticks("", ROUNDS, version::<false>);
    sys::end::<true>(interrupt);
    match interrupt {
        sys::NO_INTERRUPT => println!("paths: null_hypercall_in_flight failed: no interrupt came"),
        _ => report("null_hypercall_in_flight", made.saturating_sub(idle), ROUNDS),
    }
}

/// One `event_channel_op` whose structure stands at `argument`.
#[inline(always)]
pub fn event_op<const MADE: bool>(operation: EvtchnOp, argument: u64) -> u64 {
    sys::hypercall::<MADE>(u64::from(nr::EVENT_CHANNEL_OP), u64::from(operation.raw()), argument, 0)
}

/// Two ports of this domain, connected to each other.
pub fn loopback() -> Option<(EventChannel, EventChannel)> {
    let one = EventChannel::alloc_unbound(DomId::SELF).ok()?;
    let other = EventChannel::bind_interdomain(DomId::SELF, one.port()).ok()?;
    (one.port().0 < 64 && other.port().0 < 64).then_some((one, other))
}

fn events(scratch: Scratch) {
    let Some((from, to)) = loopback() else {
        println!("paths: event_pending failed: no ports");
        return;
    };
    scratch.set(0, u64::from(from.port().0));
    let argument = scratch.at(0);
    sys::make_pending(to.port());
    row(
        "event_pending",
        ROUNDS,
        || event_op::<true>(EvtchnOp::Send, argument),
        || event_op::<false>(EvtchnOp::Send, argument),
    );
    expect("event_pending", event_op::<true>(EvtchnOp::Send, argument), 0);
    sys::unmask(to.port());
    row_with_interrupt(
        "event_to_self",
        || event_op::<true>(EvtchnOp::Send, argument),
        || event_op::<false>(EvtchnOp::Send, argument),
    );
}

/// Allocates a port and closes it: the second structure is the end of the first.
#[inline(always)]
fn port_once<const MADE: bool>(argument: u64) -> u64 {
    event_op::<MADE>(EvtchnOp::AllocUnbound, argument) | event_op::<MADE>(EvtchnOp::Close, argument + 4)
}

fn ports(scratch: Scratch) {
    scratch.set(0, SELF);
    let argument = scratch.at(0);
    row("port_alloc_close", ROUNDS, || port_once::<true>(argument), || port_once::<false>(argument));
    // Were they not closed, none would be left.
    expect("port_alloc_close", port_once::<true>(argument), 0);
}

/// The difference between a long and a short multicall, for each entry.
fn multicall(scratch: Scratch) {
    for entry in 0..=ENTRIES {
        for word in 0..8 {
            scratch.set(entry * 64 + word * 8, 0);
        }
        scratch.set(entry * 64, u64::from(nr::XEN_VERSION));
    }
    sys::sleep(crate::SETTLE_MS);
    let call = |count| sys::hypercall::<true>(u64::from(nr::MULTICALL), scratch.at(0), count, 0);
    let long = sys::fewest_ticks("multicall_entry", ROUNDS, || call(ENTRIES + 1));
    let short = sys::fewest_ticks("", ROUNDS, || call(1));
    report("multicall_entry", long - short, ROUNDS * ENTRIES);
    let version = sys::hypercall::<true>(u64::from(nr::XEN_VERSION), 0, 0, 0);
    expect("multicall_entry", scratch.get(ENTRIES * 64 + 8), version);
}

/// One `memory_op` on a list of frames.
#[inline(always)]
fn memory_op<const MADE: bool>(operation: MemoryOp, argument: u64) -> u64 {
    sys::hypercall::<MADE>(u64::from(nr::MEMORY_OP), u64::from(operation.raw()), argument, 0)
}

#[inline(always)]
fn balloon_once<const MADE: bool>(argument: u64) {
    memory_op::<MADE>(MemoryOp::DecreaseReservation, argument);
    memory_op::<MADE>(MemoryOp::PopulatePhysmap, argument);
}

/// Gives frames back and takes them again; pages 8 and up of the scratch memory hold nothing.
fn balloon(scratch: Scratch) {
    let (structure, list) = (0, 4096);
    for index in 0..BATCH {
        scratch.set(list + index * 8, scratch.frame((8 + index) * 4096));
    }
    scratch.set(structure, scratch.at(list));
    scratch.set(structure + 16, 0);
    scratch.set(structure + 24, SELF);
    let argument = scratch.at(structure);
    for (name, count) in [("balloon_single", 1), ("balloon_batch", BATCH)] {
        scratch.set(structure + 8, count);
        let rounds = ROUNDS / count;
        sys::sleep(crate::SETTLE_MS);
        let made = sys::fewest_ticks(name, rounds, || balloon_once::<true>(argument));
        let idle = sys::fewest_ticks("", rounds, || balloon_once::<false>(argument));
        report(name, made - idle, rounds * count);
        for operation in [MemoryOp::DecreaseReservation, MemoryOp::PopulatePhysmap] {
            expect(name, memory_op::<true>(operation, argument), count);
        }
    }
}
