//! A pair of domains beside other pairs: how many round trips it makes in a stretch of the machine's clock.
//!
//! `from=MS` says when the stretch begins, by the physical counter, which is the same for all, and `window=MS` how long it is.
//! With the word `all` each trip is followed by what else a domain does without others: it maps a grant and ends that, sends
//! itself an interrupt, and has its timer expire.

use pv_guest_lib::println;

use crate::grants;
use crate::pair::Partner;
use crate::sys::{self, Scratch};

/// How long before the stretch it begins, in milliseconds.
const BEFORE: u64 = 50;

/// Makes the trips and tells how many, then sleeps; its console keeps what it said.
pub fn run(partner: &Partner, from: u64, window: u64, all: bool) {
    let Some(scratch) = Scratch::take(1) else {
        println!("paths: no memory");
        return;
    };
    let ticks = |milliseconds: u64| milliseconds * sys::frequency() / 1000;
    let (begin, end) = (ticks(from), ticks(from + window));
    let now = sys::physical() * 1000 / sys::frequency();
    sys::sleep(from.saturating_sub(now + BEFORE));
    grants::write_mapping(partner, scratch);
    let trips = partner.trips(begin, end, || {
        if all {
            grants::map_once::<true>(scratch);
            sys::with_interrupts(|| (sys::sgi_to_self::<true>(), sys::expired_timer::<true>()));
        }
    });
    if all {
        grants::check_mapping(scratch);
    }
    println!("paths: {trips} trips");
    loop {
        sys::wait_beyond(sys::taken());
    }
}
