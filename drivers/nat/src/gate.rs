//! The host's ports on the two bridges: what is to be translated goes to the router, the rest to the host itself.

use alloc::rc::Rc;
use core::cell::RefCell;
use core::task::{Context, Poll};

use driver_api::DmaMemory;
use driver_api::net::{Frame, Port, Refused};

use crate::router::Router;

/// Which side of a router a gate stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Facing {
    /// Guests.
    Inside,
    /// The world.
    Outside,
}

/// A router, and the side that a gate is on.
pub type Post<P, M> = (Facing, Rc<Router<P, M>>);

/// A port of the host's, in front of its own. Without a router everything is for the host.
pub struct Gate<H, P, M> {
    host: H,
    router: RefCell<Option<Post<P, M>>>,
}

impl<H, P, M> Gate<H, P, M> {
    /// A gate without a router before the host's own port.
    pub fn new(host: H) -> Rc<Self> {
        Rc::new(Gate { host, router: RefCell::new(None) })
    }

    /// Takes a router on, or dismisses it.
    pub fn set_router(&self, router: Option<Post<P, M>>) {
        *self.router.borrow_mut() = router;
    }

    /// Whether there is a router.
    pub fn has_router(&self) -> bool {
        self.router.borrow().is_some()
    }

    fn router(&self) -> Option<Post<P, M>> {
        self.router.borrow().clone()
    }
}

impl<H: Port, P: Port, M: DmaMemory> Port for Gate<H, P, M> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        let routed = match self.router() {
            Some((Facing::Inside, router)) => router.leave(frame)?,
            Some((Facing::Outside, router)) => router.enter(frame)?,
            None => false,
        };
        if routed { Ok(()) } else { self.host.put(frame) }
    }

    fn commit(&self) {
        if let Some((_, router)) = self.router() {
            router.commit();
        }
        self.host.commit();
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let routed = self.router().is_some_and(|(_, router)| router.poll_room(cx).is_pending());
        let own = self.host.poll_room(cx).is_pending();
        if routed || own { Poll::Pending } else { Poll::Ready(()) }
    }
}
