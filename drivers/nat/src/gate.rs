//! The host's ports on the two bridges: what is to be translated goes to the router, the rest to the host itself.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::task::{Context, Poll};

use driver_api::DmaMemory;
use driver_api::net::{Frame, Port, Refused};

use crate::face::Facing;
use crate::router::Router;

/// A router, and the side that a gate is on.
pub type Post<P, M> = (Facing, Rc<Router<P, M>>);

/// A port of the host's, in front of its own. Without a router everything is for the host.
pub struct Gate<H, P, M> {
    host: H,
    routers: RefCell<Vec<Post<P, M>>>,
}

impl<H, P: Port, M: DmaMemory> Gate<H, P, M> {
    /// A gate without a router before the host's own port.
    pub fn new(host: H) -> Rc<Self> {
        Rc::new(Gate { host, routers: RefCell::default() })
    }

    /// Takes a router on. Those that face outside share the host's address there.
    pub fn add_router(&self, facing: Facing, router: &Rc<Router<P, M>>) {
        let mut routers = self.routers.borrow_mut();
        if facing == Facing::Outside {
            routers.iter().for_each(|(_, other)| router.share_with(other));
        }
        routers.push((facing, Rc::clone(router)));
    }

    /// Dismisses a router.
    pub fn remove_router(&self, router: &Rc<Router<P, M>>) {
        self.routers.borrow_mut().retain(|(_, other)| !Rc::ptr_eq(router, other));
    }

    /// The routers, from the first on.
    fn routers(&self) -> impl Iterator<Item = Post<P, M>> {
        // A frame that goes on may come by another gate, but never holds this list.
        (0..).map_while(|n| self.routers.borrow().get(n).cloned())
    }
}

impl<H: Port, P: Port, M: DmaMemory> Port for Gate<H, P, M> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        for (facing, router) in self.routers() {
            let routed = match facing {
                Facing::Inside => router.leave(frame)?,
                Facing::Outside => router.enter(frame)?,
            };
            if routed {
                return Ok(());
            }
        }
        self.host.put(frame)
    }

    fn commit(&self) {
        self.routers().for_each(|(_, router)| router.commit());
        self.host.commit();
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let routed = self.routers().fold(false, |full, (_, router)| router.poll_room(cx).is_pending() || full);
        let own = self.host.poll_room(cx).is_pending();
        if routed || own { Poll::Pending } else { Poll::Ready(()) }
    }
}
