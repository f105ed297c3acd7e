//! One side of a router: its place on a bridge, and the stations that it knows there.

use alloc::rc::{Rc, Weak};
use core::cell::{Cell, RefCell};

use driver_api::net::{Frame, Port, Refused};

use crate::neighbours::{MacBytes, Neighbours};

/// Which side of a router a gate stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Facing {
    /// Guests.
    Inside,
    /// The world.
    Outside,
}

/// A side.
pub struct Face<P> {
    /// Which one.
    pub side: Facing,
    /// The host's Ethernet address there.
    pub mac: MacBytes,
    /// The stations that were seen.
    pub neighbours: RefCell<Neighbours>,
    /// Where frames enter the bridge. The station that the host is there owns it.
    plug: RefCell<Weak<P>>,
    /// Frames were put since the last commit.
    dirty: Cell<bool>,
}

impl<P: Port> Face<P> {
    /// A side that is not connected yet.
    pub fn new(side: Facing, mac: MacBytes) -> Self {
        let neighbours = RefCell::new(Neighbours::new());
        Face { side, mac, plug: RefCell::default(), neighbours, dirty: Cell::new(false) }
    }

    /// Says where frames enter the bridge.
    pub fn connect(&self, plug: &Rc<P>) {
        *self.plug.borrow_mut() = Rc::downgrade(plug);
    }

    /// Where frames enter the bridge, while there is such a place.
    pub fn plug(&self) -> Option<Rc<P>> {
        self.plug.borrow().upgrade()
    }

    /// Puts a frame, which is fetched at the next commit.
    pub fn put(&self, plug: &P, frame: &Frame<'_>) -> Result<(), Refused> {
        self.dirty.set(true);
        plug.put(frame)
    }

    /// Lets the bridge fetch what was put.
    pub fn commit(&self) {
        if self.dirty.replace(false)
            && let Some(plug) = self.plug()
        {
            plug.commit();
        }
    }
}
