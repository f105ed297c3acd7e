//! What two domains do with each other: events back and forth, and handing over the processor.
//!
//! The clock counts the time in which everybody sleeps as well. So somebody has always something to do here: the one
//! that waits has woken the other before. Where the time from one domain to the other counts, both look at the physical
//! counter, which is the same for all.

use pv_guest_lib::abi::arm::GUEST_GNTTAB_BASE;
use pv_guest_lib::abi::evtchn::EvtchnOp;
use pv_guest_lib::abi::grant::NR_RESERVED_ENTRIES;
use pv_guest_lib::abi::ids::{DomId, GrantRef, Port};
use pv_guest_lib::addr::{Ipa, IpaRange};
use pv_guest_lib::evtchn::EventChannel;
use pv_guest_lib::grant::{self, Access, GrantedPage, MappedGrant};
use pv_guest_lib::println;

use crate::single::event_op;
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

/// The words of the shared page: what the partner is to do, and when it last went to sleep.
const MODE: u64 = 0;
const LEFT: u64 = 8;

/// The path from the one domain to the other.
const SWITCH: &str = "vm_switch";

/// What the partner does when an event comes: answer it.
const ANSWER: u64 = 0;
/// Answer, and note when it goes to sleep again.
const TIMED: u64 = 1;
/// End.
const END: u64 = 2;
/// Answer, and tell the debugger when it goes to sleep again.
const MARKED: u64 = 3;

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
    let mut seen = sys::taken();
    loop {
        match shared.get(MODE) {
            TIMED => drop(sys::leave(shared.at(LEFT))),
            MARKED => sys::mark(SWITCH),
            _ => {}
        }
        sys::wait_beyond(seen);
        seen = sys::taken();
        if shared.get(MODE) == END {
            return;
        }
        event_op::<true>(EvtchnOp::Send, argument);
    }
}

/// The other end, as the measuring domain sees it.
pub struct Partner {
    domid: DomId,
    page: MappedGrant,
    channel: EventChannel,
}

impl Partner {
    /// Maps the partner's page and connects to its port, or says what it lacks.
    pub fn find(domid: DomId) -> Result<Self, &'static str> {
        let window = IpaRange::new(Ipa::new(WINDOW), 4096).ok_or("no window")?;
        grant::set_window(window).map_err(|_| "no window")?;
        let page = MappedGrant::map(domid, GREF, Access::ReadWrite).map_err(|_| "no page")?;
        let bound = PORTS.into_iter().find_map(|port| EventChannel::bind_interdomain(domid, Port(port)).ok());
        let channel = bound.filter(|channel| channel.port().0 < 64).ok_or("no port")?;
        sys::unmask(channel.port());
        Ok(Self { domid, page, channel })
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

    /// What the two need for round trips; the partner answers at once.
    fn pair(&self) -> Option<Pair> {
        let shared = Scratch::of(IpaRange::new(self.page.ipa(), 4096)?);
        let scratch = Scratch::take(1)?;
        scratch.set(0, u64::from(self.channel.port().0));
        shared.set(MODE, ANSWER);
        let pair = Pair { shared, argument: scratch.at(0) };
        pair.there_and_back();
        Some(pair)
    }

    /// How many round trips the two make between two times of the machine's clock, in ticks, each followed by `more`.
    pub fn trips(&self, from: u64, until: u64, mut more: impl FnMut()) -> u64 {
        let Some(pair) = self.pair() else { return 0 };
        let mut trips = 0;
        loop {
            pair.there_and_back();
            more();
            match sys::physical() {
                now if now >= until => return trips,
                now => trips += u64::from(now >= from),
            }
        }
    }

    /// Measures what the two do with each other, and ends the partner.
    pub fn run(&self) {
        let Some(pair) = self.pair() else { return };
        sys::sleep(SETTLE_MS);
        report("round_trip", sys::fewest_ticks("round_trip", ROUNDS, || pair.there_and_back()), ROUNDS);
        sys::sleep(SETTLE_MS);
        if sys::watched() {
            pair.marked_switches();
        } else {
            pair.timed_switches();
        }
        pair.shared.set(MODE, END);
        pair.send();
    }
}

/// What is used while the two are measured.
struct Pair {
    shared: Scratch,
    argument: u64,
}

impl Pair {
    #[inline(always)]
    fn send(&self) {
        event_op::<true>(EvtchnOp::Send, self.argument);
    }

    #[inline(always)]
    fn there_and_back(&self) {
        let seen = sys::taken();
        self.send();
        sys::wait_beyond(seen);
    }

    /// Has a debugger count what lies between the partner's mark, before it sleeps, and that of this domain, which goes on.
    fn marked_switches(&self) {
        self.shared.set(MODE, MARKED);
        for _ in 0..sys::WATCHED_TIMES {
            self.there_and_back();
            sys::mark("");
        }
    }

    /// Measures the switch by the clock.
    fn timed_switches(&self) {
        self.shared.set(MODE, TIMED);
        self.there_and_back();
        match self.switches::<0>().min(self.switches::<1>()) {
            u64::MAX => println!("paths: vm_switch failed: the partner did not sleep"),
            ticks => report(SWITCH, ticks, ROUNDS),
        }
    }

    /// The ticks from where the partner goes to sleep to where this domain goes on, in the quickest batch.
    ///
    /// The parts of ticks that are cut off at each look at the clock cancel out when a round takes an odd number of
    /// instructions, for then every part of a tick occurs equally often. `PADDING` is the instructions that are added;
    /// batches of even rounds are left out.
    fn switches<const PADDING: usize>(&self) -> u64 {
        let mut fewest = u64::MAX;
        for _ in 0..sys::BATCHES {
            let start = sys::now();
            let gaps: Option<u64> = (0..ROUNDS).map(|_| self.switch::<PADDING>()).sum();
            let instructions = ((sys::now() - start) * sys::instructions_per_tick() + ROUNDS / 2) / ROUNDS;
            if instructions % 2 == 1 {
                fewest = fewest.min(gaps.unwrap_or(u64::MAX));
            }
        }
        fewest
    }

    /// One round. Who is woken may run at once or when the other sleeps; so the partner may have slept and be asleep
    /// again as the call returns, or else when this domain has slept.
    #[inline(always)]
    fn switch<const PADDING: usize>(&self) -> Option<u64> {
        let seen = sys::taken();
        sys::pad::<PADDING>();
        let before = sys::physical();
        self.send();
        let mut back = sys::physical();
        if self.shared.get(LEFT) <= before {
            back = sys::leave(self.argument + 8);
        }
        let left = self.shared.get(LEFT);
        sys::wait_beyond(seen);
        (left > before).then(|| back - left)
    }
}
