//! What two domains do with each other: events back and forth, and handing over the processor.
//!
//! The clock counts the time in which everybody sleeps as well. So somebody has always something to do here: the one
//! that waits has woken the other before.

use pv_guest_lib::abi::arm::GUEST_GNTTAB_BASE;
use pv_guest_lib::abi::evtchn::EvtchnOp;
use pv_guest_lib::abi::grant::NR_RESERVED_ENTRIES;
use pv_guest_lib::abi::ids::{DomId, GrantRef, Port};
use pv_guest_lib::addr::{Ipa, IpaRange};
use pv_guest_lib::evtchn::EventChannel;
use pv_guest_lib::grant::{self, Access, GrantedPage, MappedGrant};
use pv_guest_lib::println;

use crate::single::{event_op, yield_once};
use crate::sys::{self, Scratch};
use crate::{SETTLE_MS, report};

/// Rounds of a batch.
const ROUNDS: u64 = 128;
/// The partner's page is its first grant.
const GREF: GrantRef = GrantRef(NR_RESERVED_ENTRIES);
/// The partner's port is one of its first.
const PORTS: core::ops::Range<u32> = 1..64;
/// Address space in the grant table's region that a small table leaves free: the first page for the partner's page.
const WINDOW: u64 = GUEST_GNTTAB_BASE + 0x20_0000;

/// The words of the shared page.
const MODE: u64 = 0;
const YIELDED: u64 = 8;

/// What the partner does when an event comes: answer it.
const ANSWER: u64 = 0;
/// Yield as long as this is the mode.
const YIELD: u64 = 1;
/// End.
const END: u64 = 2;

/// Is the other end for the domain `bench`, until that says it is enough.
pub fn serve(bench: DomId) {
    let (Ok(page), Ok(channel)) = (GrantedPage::new(bench, Access::ReadWrite), EventChannel::alloc_unbound(bench))
    else {
        println!("paths: the partner has no page or no port for domain {bench}");
        return;
    };
    let (Some(shared), Some(scratch)) = (IpaRange::new(page.ipa(), 4096).map(Scratch::of), Scratch::take(1)) else {
        return;
    };
    let argument = scratch.at(0);
    scratch.set(0, u64::from(channel.port().0));
    sys::unmask(channel.port());
    println!("paths: partner of domain {bench}, page {}, port {}", page.gref(), channel.port().0);
    let mut seen = sys::taken();
    loop {
        sys::wait_beyond(seen);
        seen = sys::taken();
        match shared.get(MODE) {
            YIELD => {
                while shared.get(MODE) == YIELD {
                    shared.set(YIELDED, shared.get(YIELDED) + 1);
                    yield_once::<true>();
                }
            }
            END => return,
            _ => event_op::<true>(EvtchnOp::Send, argument),
        }
    }
}

/// The other end, as the measuring domain sees it.
pub struct Partner {
    domid: DomId,
    page: MappedGrant,
    channel: EventChannel,
}

impl Partner {
    /// Maps the partner's page and connects to its port.
    pub fn find(domid: DomId) -> Option<Self> {
        grant::set_window(IpaRange::new(Ipa::new(WINDOW), 4096)?).ok()?;
        let page = MappedGrant::map(domid, GREF, Access::ReadWrite).ok()?;
        let channel = PORTS.into_iter().find_map(|port| EventChannel::bind_interdomain(domid, Port(port)).ok())?;
        sys::unmask(channel.port());
        (channel.port().0 < 64).then_some(Self { domid, page, channel })
    }

    /// Its domain.
    pub fn domid(&self) -> DomId {
        self.domid
    }

    /// Its page.
    pub fn gref(&self) -> GrantRef {
        GREF
    }

    /// A place where a page can be mapped.
    pub fn free_window(&self) -> u64 {
        WINDOW + 4096
    }

    /// Measures what the two do with each other, and ends the partner.
    pub fn run(&self) {
        let (Some(shared), Some(scratch)) = (IpaRange::new(self.page.ipa(), 4096).map(Scratch::of), Scratch::take(1))
        else {
            return;
        };
        scratch.set(0, u64::from(self.channel.port().0));
        let argument = scratch.at(0);
        let send = || event_op::<true>(EvtchnOp::Send, argument);
        shared.set(MODE, ANSWER);
        let there_and_back = || {
            let seen = sys::taken();
            send();
            sys::wait_beyond(seen);
        };
        there_and_back();
        report("round_trip", sys::fewest_ticks(ROUNDS, there_and_back), ROUNDS);
        sys::sleep(SETTLE_MS);

        shared.set(MODE, YIELD);
        send();
        for _ in 0..4 {
            yield_once::<true>();
        }
        let before = shared.get(YIELDED);
        let ticks = sys::fewest_ticks(ROUNDS, yield_once::<true>);
        let theirs = shared.get(YIELDED) - before;
        let idle = sys::fewest_ticks(ROUNDS, yield_once::<false>);
        shared.set(MODE, ANSWER);
        yield_once::<true>();
        if theirs >= ROUNDS && theirs.is_multiple_of(ROUNDS) {
            // Each round goes there and back.
            report("vm_switch", ticks - idle, 2 * ROUNDS);
        } else {
            println!("paths: vm_switch failed: the partner yielded {theirs} times in batches of {ROUNDS}");
        }
        shared.set(MODE, END);
        send();
    }
}
