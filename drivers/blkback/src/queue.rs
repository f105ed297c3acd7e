//! One ring of a block device: takes requests off it, keeps many in flight, answers as they finish.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::task::Poll;

use driver_api::{BackRing, Disk, EventPort, Grants, SharedPage};
use embassy_futures::yield_now;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use hypercall_abi::blkif::{Request, Response};
use hypercall_abi::ring::RingOverflow;

use crate::limits::Limits;
use crate::request::{Parsed, parse};
use crate::serve::{Done, Server};
use crate::stats::Control;

/// Requests and events handled before the executor gets a turn.
const BUDGET: usize = 64;

/// A ring with its event channel.
pub struct Queue<P, E> {
    intake: Intake<P>,
    port: E,
}

impl<P: SharedPage, E: EventPort> Queue<P, E> {
    /// Takes over a ring; the limits are its own part of the device's.
    pub fn new(ring: BackRing<P, Request, Response>, port: E, limits: Limits, control: Rc<Control>) -> Self {
        Self { intake: Intake::new(ring, limits, control), port }
    }

    /// Serves the ring until the host stops the device or the front end breaks a ring of it. Returns its pages, to be unmapped.
    pub async fn serve<G, D>(self, server: &Server<G, D>) -> Vec<P>
    where
        G: Grants<Page = P>,
        D: Disk,
    {
        let Self { mut intake, port } = self;
        let control = Rc::clone(&intake.control);
        let mut in_flight = FuturesUnordered::new();
        let mut finished: Vec<Done<P>> = Vec::new();
        // This ring's part of the requests in flight that the device counts.
        let mut counted = 0;
        // What those in flight count for together.
        let mut load = 0;
        let mut spent = 0;
        loop {
            while !in_flight.is_empty()
                && let Some(Some(done)) = in_flight.next().now_or_never()
            {
                finished.push(done);
            }
            if !finished.is_empty() {
                load -= finished.iter().map(|done| done.weight).sum::<usize>();
                server.retire(&mut finished, |response| intake.ring.put(&response));
            }
            while spent < BUDGET && intake.take(load) {
                let request = intake.at_hand();
                let weight = request.weight();
                match server.execute_at_once(&request) {
                    Some(response) => intake.ring.put(&response),
                    None => {
                        load += weight;
                        in_flight.push(server.execute(request));
                    }
                }
                spent += weight;
            }
            if intake.ring.publish() {
                control.count(|stats| stats.notifications += 1);
                port.notify();
            }
            let running = in_flight.len();
            control.count(|stats| {
                stats.oo_req += u64::from(load >= intake.limit);
                let running = u32::try_from(running).unwrap_or(u32::MAX);
                stats.in_flight = stats.in_flight.saturating_sub(counted).saturating_add(running);
                counted = running;
            });
            if running == 0 && intake.has_ended() {
                return intake.ring.into_pages();
            }
            if spent >= BUDGET {
                // A front end whose requests are all refused, or that sends events without end, must not keep
                // the executor from everybody else.
                spent = 0;
                yield_now().await;
            } else if !intake.finds_more(load) {
                // Even without anything to do this counts, for an event may have come already.
                spent += 1;
                let listen = intake.wants_more(load);
                if wait(&mut in_flight, &mut finished, listen, &port, &control).await {
                    spent = 0;
                }
            }
        }
    }
}

/// Waits for a completion (which goes to `finished`), an event or a stop; says whether it had to wait at all.
async fn wait<F: Future>(
    in_flight: &mut FuturesUnordered<F>,
    finished: &mut Vec<F::Output>,
    listen: bool,
    port: &impl EventPort,
    control: &Control,
) -> bool {
    let mut waited = false;
    // Once the device is to end there are only completions to wait for.
    let ending = control.is_stopped();
    poll_fn(|cx| {
        if !in_flight.is_empty()
            && let Poll::Ready(Some(done)) = in_flight.poll_next_unpin(cx)
        {
            finished.push(done);
            return Poll::Ready(());
        }
        let woken = (listen && port.poll_event(cx).is_ready()) || (!ending && control.poll_stopped(cx).is_ready());
        waited |= !woken;
        if woken { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waited
}

/// What a barrier makes newer requests wait for.
enum Hold {
    /// Nothing.
    None,
    /// The barrier is at hand and waits until everything older is complete.
    Until,
    /// The barrier runs, alone.
    Running,
}

/// Decides which request starts next, if any may.
struct Intake<P> {
    ring: BackRing<P, Request, Response>,
    limit: usize,
    max_indirect: usize,
    /// The private copy of the slot that was taken last. It stays here, since moving it would cost more than understanding it.
    slot: Request,
    hold: Hold,
    control: Rc<Control>,
}

impl<P: SharedPage> Intake<P> {
    fn new(ring: BackRing<P, Request, Response>, limits: Limits, control: Rc<Control>) -> Self {
        Self {
            limit: limits.in_flight.max(1),
            max_indirect: usize::from(limits.indirect_segments),
            ring,
            slot: Request::default(),
            hold: Hold::None,
            control,
        }
    }

    /// The request that was taken last.
    fn at_hand(&self) -> Parsed<'_> {
        parse(&self.slot, self.max_indirect)
    }

    /// Whether the device is to end and nothing is held back.
    fn has_ended(&self) -> bool {
        self.control.is_stopped() && !matches!(self.hold, Hold::Until)
    }

    /// Whether another request could be started if the ring had one, while others that count for `load` are in flight.
    fn wants_more(&self, load: usize) -> bool {
        !self.control.is_stopped() && matches!(self.hold, Hold::None) && load < self.limit
    }

    /// Takes the request to start now, while others that count for `load` are in flight; false if there is none.
    fn take(&mut self, load: usize) -> bool {
        match self.hold {
            Hold::Until if load == 0 => {
                self.hold = Hold::Running;
                return true;
            }
            Hold::Running if load == 0 => self.hold = Hold::None,
            Hold::None | Hold::Until | Hold::Running => {}
        }
        if !self.wants_more(load) {
            return false;
        }
        match self.ring.pending() {
            Ok(0) => return false,
            Ok(_) => self.ring.take_into(&mut self.slot),
            Err(RingOverflow) => {
                self.control.broken();
                return false;
            }
        }
        if !self.at_hand().command.is_ok_and(|command| command.is_barrier()) {
            return true;
        }
        self.hold = if load == 0 { Hold::Running } else { Hold::Until };
        load == 0
    }

    /// Asks for an event at the next request, if one could be started; true if there is something to do without one.
    fn finds_more(&mut self, load: usize) -> bool {
        if !self.wants_more(load) {
            return false;
        }
        match self.ring.final_check() {
            Ok(found) => found > 0,
            Err(RingOverflow) => {
                self.control.broken();
                true
            }
        }
    }
}
