//! The rate at which a guest may send (`rate=` in xl-network-configuration(5)): credit that comes back at intervals.

use core::cell::Cell;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll};

use driver_api::net::{Frame, Port, Refused};
use embassy_time::{Duration, Instant, Timer};

/// So many bytes in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes, at least one.
    pub bytes: u64,
    /// The interval, at least a microsecond.
    pub interval: Duration,
}

/// What may still be sent under a limit.
///
/// A frame passes as long as there is any credit, and what it needs beyond that is owed: so frames that are longer than an
/// interval's credit pass too, and over time the limit is kept to the byte. Credit that is not used is lost with its interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credit {
    limit: Limit,
    /// Bytes that may still be sent; below 0 they are owed.
    left: i64,
    /// When credit came last.
    since: Instant,
}

impl Credit {
    /// The credit of one interval.
    pub(crate) fn new(limit: Limit, now: Instant) -> Self {
        Credit { limit, left: bytes(limit.bytes), since: now }
    }

    /// Whether something may be sent now; if not, when.
    pub(crate) fn at(&mut self, now: Instant) -> Result<(), Instant> {
        let length = self.limit.interval.as_ticks().max(1);
        let amount = bytes(self.limit.bytes);
        let passed = now.saturating_duration_since(self.since).as_ticks() / length;
        self.left = self.left.saturating_add(amount.saturating_mul(bytes(passed))).min(amount);
        self.since += Duration::from_ticks(passed * length);
        if self.left > 0 { Ok(()) } else { Err(self.since + Duration::from_ticks(length)) }
    }

    /// A frame of `len` bytes was sent.
    pub(crate) fn spend(&mut self, len: u32) {
        self.left = self.left.saturating_sub(len.into());
    }
}

/// A wire that takes no more than its limit allows, or everything without one.
pub struct Limited<P> {
    wire: P,
    credit: Cell<Option<Credit>>,
}

impl<P> Limited<P> {
    /// A limited wire.
    pub fn new(wire: P, limit: Option<Limit>) -> Self {
        Limited { wire, credit: Cell::new(limit.map(|limit| Credit::new(limit, Instant::now()))) }
    }

    fn next(&self) -> Result<(), Instant> {
        let Some(mut credit) = self.credit.get() else { return Ok(()) };
        let next = credit.at(Instant::now());
        self.credit.set(Some(credit));
        next
    }
}

/// A count of bytes, with a sign; more than half of what 64 bits hold is no limit any more.
fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl<P: Port> Port for Limited<P> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        if self.next().is_err() {
            return Err(Refused::Full);
        }
        self.wire.put(frame)?;
        if let Some(mut credit) = self.credit.get() {
            credit.spend(frame.len);
            self.credit.set(Some(credit));
        }
        Ok(())
    }

    fn commit(&self) {
        self.wire.commit();
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.next() {
            Ok(()) => self.wire.poll_room(cx),
            Err(at) => pin!(Timer::at(at)).poll(cx),
        }
    }
}
