//! A port of a bridge: how it is connected, what it has counted, and what becomes of a frame's tag there.

use alloc::rc::Rc;
use alloc::string::String;
use core::cell::Cell;

use driver_api::net::Port;

use crate::ethernet::Mac;
use crate::vlan::{Form, Vlans};
use crate::way::Way;

/// How a port is connected.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortConfig {
    /// The VLANs whose member it is.
    pub vlans: Vlans,
    /// The one address that it may send from.
    pub only_from: Option<Mac>,
    /// Whether its link is down, so that nothing passes. Whoever connects the port keeps this from one connection to the next.
    pub down: Rc<Cell<bool>>,
}

/// Totals of a port, in the directions of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Frames that came in.
    pub received: u64,
    /// Frames that came in and went nowhere: wrong address, wrong VLAN, no header.
    pub refused: u64,
    /// Frames that went out.
    pub sent: u64,
    /// Frames that could not go out.
    pub dropped: u64,
    /// Its link is down.
    pub down: bool,
}

/// What a bridge knows of a port.
pub struct Entry {
    pub name: String,
    pub port: Rc<dyn Port>,
    pub config: PortConfig,
    pub stats: Cell<PortStats>,
    /// Frames were put since the last commit.
    pub dirty: Cell<bool>,
    /// The way of the last frame that came in here.
    pub way: Cell<Way>,
}

impl Entry {
    /// Changes the counters.
    pub fn count(&self, change: impl FnOnce(&mut PortStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    /// What becomes of the tag of a frame that goes out here; `None` if it may not.
    pub fn change(&self, vlan: u16, tag: Option<u16>) -> Option<Change> {
        if self.config.down.get() {
            return None;
        }
        match (self.config.vlans.form(vlan)?, tag) {
            (Form::Untagged, Some(_)) if vlan != 0 => Some(Change::TakeOff),
            (Form::Untagged, Some(1..)) if self.config.vlans.reads_tags() => None,
            (Form::Tagged, None) => Some(Change::PutOn),
            (Form::Untagged | Form::Tagged, _) => Some(Change::Nothing),
        }
    }
}

/// What becomes of a frame's tag at the port where it goes out.
pub enum Change {
    /// It stays as it is, or there is none.
    Nothing,
    /// It is taken off.
    TakeOff,
    /// The VLAN's is put on.
    PutOn,
}
