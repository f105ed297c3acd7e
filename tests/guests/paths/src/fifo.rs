//! Events by the FIFO ABI (Xen public/event_channel.h): the rows of the 2-level one, once more.
//!
//! Nothing but closing all ports leads back from it, so that this comes last.

use pv_guest_lib::abi::evtchn::{EvtchnOp, FIFO_LINKED, FIFO_MASKED, FIFO_PENDING};
use pv_guest_lib::abi::ids::Port;
use pv_guest_lib::println;

use crate::row;
use crate::single::{ROUNDS, event_op, expect, loopback, row_with_interrupt};
use crate::sys::{self, Scratch};

/// In the scratch memory: the arguments of the calls, the control block and the event words.
const SEND: u64 = 0;
const INIT: u64 = 64;
const EXPAND: u64 = 128;
const CONTROL: u64 = 4096;
const WORDS: u64 = 2 * 4096;

const MASKED: u64 = 1 << FIFO_MASKED;

/// Goes over to this ABI and measures.
pub fn run() {
    let (Some(scratch), Some((from, to))) = (Scratch::take(3), loopback()) else {
        println!("paths: event_pending_fifo failed: no memory or no ports");
        return;
    };
    scratch.set(SEND, u64::from(from.port().0));
    scratch.set(INIT, scratch.frame(CONTROL));
    scratch.set(INIT + 8, 0);
    scratch.set(EXPAND, scratch.frame(WORDS));
    (0..9).for_each(|word| scratch.set(CONTROL + word * 8, 0));
    (0..512).for_each(|pair| scratch.set(WORDS + pair * 8, MASKED << 32 | MASKED));
    sys::take_fifo_events(scratch.at(CONTROL), scratch.at(word(to.port())));
    expect("event_pending_fifo", event_op::<true>(EvtchnOp::InitControl, scratch.at(INIT)), 0);
    expect("event_pending_fifo", event_op::<true>(EvtchnOp::ExpandArray, scratch.at(EXPAND)), 0);

    let argument = scratch.at(SEND);
    let send = || event_op::<true>(EvtchnOp::Send, argument);
    let empty = || event_op::<false>(EvtchnOp::Send, argument);
    // As it is from when it is sent to the first time to when the guest takes it off its queue.
    set(scratch, to.port(), 1 << FIFO_PENDING | 1 << FIFO_LINKED);
    row("event_pending_fifo", ROUNDS, send, empty);
    expect("event_pending_fifo", send(), 0);
    set(scratch, to.port(), 0);
    row_with_interrupt("event_to_self_fifo", send, empty);
}

/// Where the word of a port is in the scratch memory.
fn word(port: Port) -> u64 {
    WORDS + u64::from(port.0) * 4
}

/// Writes a port's word. Its neighbour is another end of ours, which nobody sends to.
fn set(scratch: Scratch, port: Port, bits: u64) {
    let at = word(port);
    scratch.set(at & !7, if at & 4 == 0 { MASKED << 32 | bits } else { bits << 32 | MASKED });
}
