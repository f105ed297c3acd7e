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
use crate::port::{Change, Entry, PortConfig, PortStats};
use crate::retag::Retagged;
use crate::table::Table;
use crate::way::{Way, judged};

/// A frame that a port has let in.
struct Passed<'a> {
    frame: Frame<'a>,
    /// The VLAN of the tag that it carries.
    tag: Option<u16>,
    /// The VLAN that it is in; 0 for none, where a tag is data.
    vlan: u16,
}

/// Seconds for which a way is taken without another look at the table, which so knows to as many when a station was heard last.
const EPOCH: u64 = 10;

/// The epoch while nobody has looked at the clock, which is no way's.
const UNKNOWN: u64 = u64::MAX;

/// A learning switch.
pub struct Bridge<C, M> {
    ports: RefCell<Slab<Entry>>,
    table: RefCell<Table>,
    adapter: Adapter<C, M>,
    /// The time in seconds.
    clock: fn() -> u64,
    /// What it was when somebody looked last.
    now: Cell<u64>,
    /// What it was when the epoch began by the clock.
    since: Cell<u64>,
    /// Another one begins whenever a way may have become another: when stations, ports or links change, and each [`EPOCH`], so
    /// that the table learns that its stations are there.
    epoch: Cell<u64>,
    /// The same, or [`UNKNOWN`] until somebody has looked at the clock after a commit, which is once for each burst.
    current: Cell<u64>,
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
            now: Cell::new(0),
            since: Cell::new(0),
            epoch: Cell::new(1),
            current: Cell::new(UNKNOWN),
        })
    }

    /// Looks at the clock at the beginning of a burst.
    #[inline(never)]
    fn look(&self) {
        let now = (self.clock)();
        if now.abs_diff(self.since.get()) >= EPOCH {
            self.since.set(now);
            self.begin_epoch();
        }
        self.now.set(now);
        self.current.set(self.epoch.get());
    }

    /// No way that was noted is of use any more.
    fn begin_epoch(&self) {
        let next = self.epoch.get() + 1;
        self.epoch.set(next);
        if self.current.get() != UNKNOWN {
            self.current.set(next);
        }
    }

    /// Connects `port` under a name, until the plug is dropped.
    pub fn attach(self: &Rc<Self>, name: String, port: Rc<dyn Port>, config: PortConfig) -> Plug<C, M> {
        let (stats, dirty, way) = (Cell::default(), Cell::new(false), Cell::default());
        let index = self.ports.borrow_mut().insert(Entry { name, port, config, stats, dirty, way });
        self.begin_epoch();
        Plug { bridge: Rc::clone(self), index, full: Cell::new(None) }
    }

    /// The ports that are connected, with their counters.
    pub fn ports(&self) -> Vec<(String, PortStats)> {
        let seen = |entry: &Entry| PortStats { down: entry.config.down.get(), ..entry.stats.get() };
        self.ports.borrow().iter().map(|(_, entry)| (entry.name.clone(), seen(entry))).collect()
    }

    /// Takes the link of the port of that name down, or up again; whether there is one.
    pub fn set_link(&self, name: &str, up: bool) -> bool {
        let ports = self.ports.borrow();
        let found = ports.iter().find(|(_, entry)| entry.name == name);
        found.inspect(|(_, entry)| entry.config.down.set(!up));
        self.begin_epoch();
        found.is_some()
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

    /// The port where a frame goes that is like the last one from its port.
    #[inline]
    fn way(&self, source: &Entry, head: &[u8]) -> Option<usize> {
        let way = source.way.get();
        (way.epoch == self.current.get() && judged(head) == Some(way.judged)).then_some(way.to)
    }

    /// Takes a frame from port `from` to where it belongs. `Err` holds the port that has no room for it.
    #[inline]
    fn forward(&self, from: usize, frame: &Frame<'_>) -> Result<(), Option<usize>> {
        let ports = self.ports.borrow();
        if let Some(source) = ports.get(from)
            && let Some(to) = self.way(source, frame.head)
            && let Some(target) = ports.get(to)
        {
            return self.follow(source, from, target, to, frame);
        }
        self.decide(&ports, from, frame)
    }

    /// Takes a frame the way of the last.
    #[inline]
    fn follow(
        &self,
        source: &Entry,
        from: usize,
        target: &Entry,
        to: usize,
        frame: &Frame<'_>,
    ) -> Result<(), Option<usize>> {
        let frame = &Frame { source: u16::try_from(from).unwrap_or(u16::MAX), ..*frame };
        if self.deliver(target, frame) == Err(Refused::Full) {
            return Err(Some(to));
        }
        source.count(|stats| stats.received += 1);
        Ok(())
    }

    /// The same, for a frame unlike the last or the first of a burst.
    #[inline(never)]
    fn decide(&self, ports: &Slab<Entry>, from: usize, frame: &Frame<'_>) -> Result<(), Option<usize>> {
        let Some(source) = ports.get(from) else { return Ok(()) };
        if self.current.get() == UNKNOWN {
            self.look();
            if let Some(to) = self.way(source, frame.head)
                && let Some(target) = ports.get(to)
            {
                return self.follow(source, from, target, to, frame);
            }
        }
        let admitted = Header::parse(frame.head).and_then(|header| {
            let is_up = !source.config.down.get();
            let from_its_own = source.config.only_from.is_none_or(|own| own == header.from);
            let vlan = source.config.vlans.of(header.tag)?;
            (is_up && from_its_own && !header.from.is_group()).then_some((header, vlan))
        });
        let Some((header, vlan)) = admitted else {
            source.count(|stats| stats.refused += 1);
            return Err(None);
        };
        let now = self.now.get();
        let from16 = u16::try_from(from).unwrap_or(u16::MAX);
        let passed = &Passed { frame: Frame { source: from16, ..*frame }, tag: header.tag, vlan };
        let known = {
            let mut table = self.table.borrow_mut();
            if table.learn(header.from, vlan, from16, now) {
                self.begin_epoch();
            }
            if header.to.is_group() { None } else { table.find(header.to, vlan, now) }
        };
        match known {
            // The receiver is on the sender's side.
            Some(to) if to == from16 => {}
            Some(to) => {
                let to = usize::from(to);
                if let Some(target) = ports.get(to)
                    && self.put_alone(source, to, target, passed) == Err(Refused::Full)
                {
                    return Err(Some(to));
                }
            }
            None => {
                let others =
                    ports.iter().filter(|(index, entry)| *index != from && entry.config.vlans.form(vlan).is_some());
                for (_, target) in others {
                    if !target.port.has_room_for_all() || self.put(target, passed) == Err(Refused::Full) {
                        target.count(|stats| stats.dropped += 1);
                    }
                }
            }
        }
        source.count(|stats| stats.received += 1);
        Ok(())
    }

    /// Puts a frame to the one port `to` that it is for, and notes the way.
    fn put_alone(&self, source: &Entry, to: usize, target: &Entry, passed: &Passed<'_>) -> Result<(), Refused> {
        if let Some(Change::Nothing) = target.change(passed.vlan, passed.tag)
            && let Some(judged) = judged(passed.frame.head)
        {
            // Before it is delivered: whoever takes it may send something through this bridge at once.
            source.way.set(Way { judged, epoch: self.epoch.get(), to });
        }
        self.put(target, passed)
    }

    /// Puts a frame to one port, in the form that its VLAN has there.
    fn put(&self, target: &Entry, passed: &Passed<'_>) -> Result<(), Refused> {
        let Passed { frame, tag, vlan } = passed;
        let changed = match target.change(*vlan, *tag) {
            Some(Change::Nothing) => return self.deliver(target, frame),
            Some(Change::TakeOff) => Retagged::without_tag(frame),
            Some(Change::PutOn) => self.adapter.with_tag(frame, *vlan),
            None => None,
        };
        let Some(changed) = changed else {
            target.count(|stats| stats.dropped += 1);
            return Err(Refused::Unfit);
        };
        self.deliver(target, &changed.frame(frame))
    }

    /// Puts a frame to one port as it is, completed if the port needs that.
    #[inline]
    fn deliver(&self, target: &Entry, frame: &Frame<'_>) -> Result<(), Refused> {
        let outcome = match target.port.put(frame) {
            Err(Refused::Unfit) => self.complete(target, frame),
            outcome => outcome,
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

    /// Puts a frame to a port that cannot do what was left to it.
    #[inline(never)]
    fn complete(&self, target: &Entry, frame: &Frame<'_>) -> Result<(), Refused> {
        // What was put before may lie in the same memory, and goes first.
        target.port.commit();
        self.adapter.put(frame, &*target.port)
    }

    fn commit(&self) {
        self.current.set(UNKNOWN);
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
        self.bridge.begin_epoch();
        self.bridge.ports.borrow_mut().try_remove(self.index);
        self.bridge.table.borrow_mut().forget(u16::try_from(self.index).unwrap_or(u16::MAX));
    }
}
