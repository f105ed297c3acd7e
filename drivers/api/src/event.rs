//! One end of an event channel, as a back end sees it.

use core::future::poll_fn;
use core::task::{Context, Poll};

/// A bound interdomain event channel.
#[allow(async_fn_in_trait, reason = "one thread: the futures need not be Send")]
pub trait EventPort {
    /// Sends an event to the other side. Failures (the other side is gone) are not reported here: its
    /// death arrives through the store.
    fn notify(&self);

    /// Completes once at least one event has arrived since the last completion of this call; events
    /// that arrive while nobody waits are remembered (as one). Dropping the future loses nothing.
    async fn wait(&self) {
        poll_fn(|cx| self.poll_event(cx)).await;
    }

    /// The poll function under [`Self::wait`].
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<()>;
}

impl<E: EventPort + ?Sized> EventPort for &E {
    fn notify(&self) {
        (**self).notify();
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_event(cx)
    }
}

impl<E: EventPort + ?Sized> EventPort for alloc::rc::Rc<E> {
    fn notify(&self) {
        (**self).notify();
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<()> {
        (**self).poll_event(cx)
    }
}
