//! A line of futures that wait for a resource, served strictly in order of arrival.
//!
//! The one at the front is the only one that is asked, so a large request is not starved by small ones
//! behind it, and a future that is dropped in line hands its turn on.

use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

/// Waiters in order of arrival. For one thread; an interrupt handler must not call it.
#[derive(Debug, Default)]
pub struct WaitQueue {
    line: RefCell<VecDeque<(u64, Waker)>>,
    next_ticket: Cell<u64>,
}

/// A place in line; leaving it, however that happens, lets the next one be asked.
struct Place<'a> {
    queue: &'a WaitQueue,
    ticket: u64,
}

impl WaitQueue {
    /// An empty line.
    pub const fn new() -> Self {
        Self { line: RefCell::new(VecDeque::new()), next_ticket: Cell::new(0) }
    }

    /// Waits until `ready` answers `Some`: it is asked at once if nobody else waits, and otherwise when
    /// this waiter is at the front, each time [`Self::wake`] is called.
    pub async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> T {
        if self.line.borrow().is_empty()
            && let Some(value) = ready()
        {
            return value;
        }
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket.wrapping_add(1));
        let place = Place { queue: self, ticket };
        poll_fn(|cx| place.poll(cx, &mut ready)).await
    }

    /// Says that what the waiters wait for may have become available.
    pub fn wake(&self) {
        if let Some((_, waker)) = self.line.borrow().front() {
            waker.wake_by_ref();
        }
    }
}

impl Place<'_> {
    fn poll<T>(&self, cx: &Context<'_>, ready: &mut impl FnMut() -> Option<T>) -> Poll<T> {
        let at_front = {
            let mut line = self.queue.line.borrow_mut();
            match line.iter_mut().find(|(ticket, _)| *ticket == self.ticket) {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None => line.push_back((self.ticket, cx.waker().clone())),
            }
            line.front().is_some_and(|(ticket, _)| *ticket == self.ticket)
        };
        if at_front { ready().map_or(Poll::Pending, Poll::Ready) } else { Poll::Pending }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = self.queue.line.borrow_mut();
        line.retain(|(ticket, _)| *ticket != self.ticket);
        if let Some((_, waker)) = line.front() {
            waker.wake_by_ref();
        }
    }
}
