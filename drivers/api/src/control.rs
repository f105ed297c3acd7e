//! The host's hold on a running back end, and how that ended: the same for every kind of device.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

/// How a device ended. Either way nothing is in flight and nothing is mapped any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The host asked for it.
    Stopped,
    /// The front end's producer index cannot be true.
    Broken,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Broken => "the front end produced more requests than the ring holds",
        })
    }
}

/// The host's hold on a running device, with the device's counters.
#[derive(Debug, Default)]
pub struct Control<S> {
    end: Cell<Option<End>>,
    wakers: RefCell<Vec<Waker>>,
    stats: RefCell<S>,
}

impl<S: Clone> Control<S> {
    /// Asks the device to end: no further request is taken, those in flight are finished and answered.
    pub fn stop(&self) {
        self.end(self.end.get().unwrap_or(End::Stopped));
    }

    /// One of the device's rings is broken, which ends all of them.
    pub fn broken(&self) {
        self.end(End::Broken);
    }

    fn end(&self, end: End) {
        self.end.set(Some(end));
        self.wakers.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// How the device that was asked to end, or whose ring is broken, ends.
    pub fn ended(&self) -> End {
        self.end.get().unwrap_or(End::Stopped)
    }

    /// The counters.
    pub fn stats(&self) -> S {
        self.stats.borrow().clone()
    }

    /// Changes the counters.
    pub fn count(&self, change: impl FnOnce(&mut S)) {
        change(&mut self.stats.borrow_mut());
    }

    /// Whether the device is to end.
    pub fn is_stopped(&self) -> bool {
        self.end.get().is_some()
    }

    /// Completes once the device is to end.
    pub async fn stopped(&self) {
        poll_fn(|cx| self.poll_stopped(cx)).await;
    }

    /// The poll function under [`Self::stopped`].
    pub fn poll_stopped(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_stopped() {
            return Poll::Ready(());
        }
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
