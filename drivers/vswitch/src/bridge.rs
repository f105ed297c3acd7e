//! A bridge and its ports.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::task::{Context, Poll};

use driver_api::DmaMemory;
use driver_api::net::{CopyGrants, Frame, Port, Refused};
use slab::Slab;

use crate::adapt::Adapter;
use crate::ethernet::{Header, Mac};
use crate::retag::Retagged;
use crate::table::Table;
use crate::vlan::{Form, Vlans};

/// How a port is connected.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PortConfig {
    /// The VLANs whose member it is.
    pub vlans: Vlans,
    /// The one address that it may send from.
    pub only_from: Option<Mac>,
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
}

/// What a bridge knows of a port.
struct Entry {
    name: String,
    port: Rc<dyn Port>,
    config: PortConfig,
    stats: Cell<PortStats>,
    /// Frames were put since the last commit.
    dirty: Cell<bool>,
}

impl Entry {
    fn count(&self, change: impl FnOnce(&mut PortStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }
}

/// A frame that a port has let in.
struct Passed<'a> {
    frame: Frame<'a>,
    /// The VLAN of the tag that it carries.
    tag: Option<u16>,
    /// The VLAN that it is in; 0 for none, where a tag is data.
    vlan: u16,
}

/// A learning switch.
pub struct Bridge<C, M> {
    ports: RefCell<Slab<Entry>>,
    table: RefCell<Table>,
    adapter: Adapter<C, M>,
    /// The time in seconds.
    clock: fn() -> u64,
    /// What it was when the first frame since the last commit came.
    now: Cell<Option<u64>>,
}

impl<C: CopyGrants, M: DmaMemory> Bridge<C, M> {
    /// A bridge without ports. `scratch` has [`SCRATCH_BYTES`](crate::SCRATCH_BYTES); `seed` is a number that guests do not know;
    /// `clock` tells seconds.
    pub fn new(copier: C, scratch: M, seed: u64, clock: fn() -> u64) -> Rc<Self> {
        Rc::new(Bridge {
            ports: RefCell::default(),
            table: RefCell::new(Table::new(seed)),
            adapter: Adapter::new(copier, scratch),
            clock,
            now: Cell::new(None),
        })
    }

    /// The time of a burst: the clock is looked at once for each.
    fn now(&self) -> u64 {
        self.now.get().unwrap_or_else(|| {
            let now = (self.clock)();
            self.now.set(Some(now));
            now
        })
    }

    /// Connects `port` under a name, until the plug is dropped.
    pub fn attach(self: &Rc<Self>, name: String, port: Rc<dyn Port>, config: PortConfig) -> Plug<C, M> {
        let entry = Entry { name, port, config, stats: Cell::default(), dirty: Cell::new(false) };
        let index = self.ports.borrow_mut().insert(entry);
        Plug { bridge: Rc::clone(self), index, full: Cell::new(None) }
    }

    /// The ports that are connected, with their counters.
    pub fn ports(&self) -> Vec<(String, PortStats)> {
        self.ports.borrow().iter().map(|(_, entry)| (entry.name.clone(), entry.stats.get())).collect()
    }

    /// The addresses that were seen: address, VLAN, name of the port, age in seconds.
    pub fn addresses(&self) -> Vec<(Mac, u16, String, u64)> {
        let ports = self.ports.borrow();
        let name = |port: u16| ports.get(usize::from(port)).map(|entry| entry.name.clone()).unwrap_or_default();
        let table = self.table.borrow();
        table.entries((self.clock)()).map(|(mac, vlan, port, age)| (mac, vlan, name(port), age)).collect()
    }

    /// The number of the port where a station was seen last that is no member of a VLAN.
    pub fn port_of(&self, mac: Mac) -> Option<u16> {
        self.table.borrow().find(mac, 0, (self.clock)())
    }

    /// Takes a frame from port `from` to where it belongs. `Err` holds the port that has no room for it.
    fn forward(&self, from: usize, frame: &Frame<'_>) -> Result<(), Option<usize>> {
        let ports = self.ports.borrow();
        let Some(source) = ports.get(from) else { return Ok(()) };
        let admitted = Header::parse(frame.head).and_then(|header| {
            let from_its_own = source.config.only_from.is_none_or(|own| own == header.from);
            let vlan = source.config.vlans.of(header.tag)?;
            (from_its_own && !header.from.is_group()).then_some((header, vlan))
        });
        let Some((header, vlan)) = admitted else {
            source.count(|stats| stats.refused += 1);
            return Err(None);
        };
        let now = self.now();
        let from16 = u16::try_from(from).unwrap_or(u16::MAX);
        let passed = &Passed { frame: Frame { source: from16, ..*frame }, tag: header.tag, vlan };
        let known = {
            let mut table = self.table.borrow_mut();
            table.learn(header.from, vlan, from16, now);
            if header.to.is_group() { None } else { table.find(header.to, vlan, now) }
        };
        match known {
            // The receiver is on the sender's side.
            Some(to) if to == from16 => {}
            Some(to) => {
                if let Some(target) = ports.get(usize::from(to))
                    && self.put(target, passed) == Err(Refused::Full)
                {
                    return Err(Some(usize::from(to)));
                }
            }
            None => {
                let others =
                    ports.iter().filter(|(index, entry)| *index != from && entry.config.vlans.form(vlan).is_some());
                for (_, target) in others {
                    if self.put(target, passed) == Err(Refused::Full) {
                        target.count(|stats| stats.dropped += 1);
                    }
                }
            }
        }
        source.count(|stats| stats.received += 1);
        Ok(())
    }

    /// Puts a frame to one port, in the form that its VLAN has there.
    fn put(&self, target: &Entry, passed: &Passed<'_>) -> Result<(), Refused> {
        let Passed { frame, tag, vlan } = passed;
        let outcome = match (target.config.vlans.form(*vlan), tag) {
            (Some(Form::Untagged), Some(_)) if *vlan != 0 => Retagged::without_tag(frame)
                .map_or(Err(Refused::Unfit), |bare| self.complete(target, &bare.frame(frame))),
            (Some(Form::Tagged), None) => {
                let tagged = self.adapter.with_tag(frame, *vlan);
                tagged.map_or(Err(Refused::Unfit), |tagged| self.complete(target, &tagged.frame(frame)))
            }
            (Some(Form::Untagged), Some(1..)) if target.config.vlans.reads_tags() => Err(Refused::Unfit),
            (Some(Form::Untagged | Form::Tagged), _) => self.complete(target, frame),
            (None, _) => Err(Refused::Unfit),
        };
        match outcome {
            Ok(()) => {
                target.dirty.set(true);
                target.count(|stats| stats.sent += 1);
            }
            Err(Refused::Full) => {}
            Err(Refused::Unfit | Refused::Down) => target.count(|stats| stats.dropped += 1),
        }
        outcome
    }

    /// Puts a frame to one port, completed if the port needs that.
    fn complete(&self, target: &Entry, frame: &Frame<'_>) -> Result<(), Refused> {
        match target.port.put(frame) {
            // What was put before may lie in the same memory, and goes first.
            Err(Refused::Unfit) => {
                target.port.commit();
                self.adapter.put(frame, &*target.port)
            }
            outcome => outcome,
        }
    }

    fn commit(&self) {
        self.now.set(None);
        for (_, entry) in self.ports.borrow().iter() {
            if entry.dirty.replace(false) {
                entry.port.commit();
            }
        }
    }
}

/// A port of a bridge, as the one who is connected there sees it: what is put here goes into the bridge.
pub struct Plug<C: CopyGrants, M: DmaMemory> {
    bridge: Rc<Bridge<C, M>>,
    index: usize,
    /// The port for whose room the last frame waits.
    full: Cell<Option<usize>>,
}

impl<C: CopyGrants, M: DmaMemory> Plug<C, M> {
    /// The number of the port, by which [`Frame::source`] names it.
    pub fn number(&self) -> u16 {
        u16::try_from(self.index).unwrap_or(u16::MAX)
    }
}

impl<C: CopyGrants, M: DmaMemory> Port for Plug<C, M> {
    fn put(&self, frame: &Frame<'_>) -> Result<(), Refused> {
        match self.bridge.forward(self.index, frame) {
            Ok(()) => Ok(()),
            Err(None) => Err(Refused::Unfit),
            Err(full) => {
                self.full.set(full);
                Err(Refused::Full)
            }
        }
    }

    fn commit(&self) {
        self.bridge.commit();
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let ports = self.bridge.ports.borrow();
        self.full.get().and_then(|index| ports.get(index)).map_or(Poll::Ready(()), |entry| entry.port.poll_room(cx))
    }
}

impl<C: CopyGrants, M: DmaMemory> Drop for Plug<C, M> {
    fn drop(&mut self) {
        self.bridge.ports.borrow_mut().try_remove(self.index);
        self.bridge.table.borrow_mut().forget(u16::try_from(self.index).unwrap_or(u16::MAX));
    }
}
