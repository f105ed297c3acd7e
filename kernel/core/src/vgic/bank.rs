//! What EL2 knows of 32 interrupts: one bit each per property, so that a register of the GIC is one word here.
//!
//! A pending interrupt stands in `latch` or `level` only until it is enabled; then it is handed to the queue of the
//! vCPU that shall take it, and its state lives there. Which queue that is, is the business of [`Homes`]: it differs
//! between private and shared interrupts.

use super::queue::{Lr, Queue, Withdrawn};
use super::{PRIVATE, bits, low, low16};
use crate::hw::{Hw, IntId};

/// A queue, as the interrupts of a bank see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// Of the vCPU that shall take the interrupt.
    Next,
    /// Of the vCPU that it was last handed to.
    Last,
}

/// Where the interrupts of a bank go, and where they may be now.
pub(super) trait Homes {
    /// Works on a queue of interrupt `i` of the bank; `None` if there is no such vCPU. `work` also says whether that
    /// vCPU must look at its queue.
    fn with<R>(&mut self, i: u32, home: Home, work: impl FnOnce(&mut Queue) -> (R, bool)) -> Option<R>;
}

/// 32 interrupts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bank {
    base: u16,
    pub(super) enabled: u32,
    /// Made pending by an edge or by hand, and not yet handed to a queue.
    pub(super) latch: u32,
    /// The line is high.
    level: u32,
    /// Edge-triggered.
    edge: u32,
    pub(super) group1: u32,
    /// Belongs to the physical interrupt of the same number.
    pub(super) linked: u32,
    priority: [u8; 32],
}

/// Priorities have five bits, like those of the hardware's virtual interface; a register has four of them.
const PRIORITIES: u64 = 0xF8F8_F8F8;

/// The first interrupt that the register at `offset` of a distributor or of the SGI frame is about; both are laid
/// out alike (Arm IHI 0069H, sections 12.8 and 12.11).
pub(super) const fn first_irq(offset: u64) -> u32 {
    match offset {
        0x080..0x400 => low(offset % 0x80) * 8,
        0x400..0x800 => low(offset - 0x400),
        0xC00..0xD00 => low(offset - 0xC00) * 4,
        _ => u32::MAX,
    }
}

impl Bank {
    /// Interrupts `base` to `base + 31`. They reset to group 1, so that a guest that takes itself for the
    /// non-secure side of a GIC, where the group cannot be seen, gets them as IRQs.
    pub(super) const fn new(base: u16, edge: u32, linked: u32) -> Self {
        Bank { base, enabled: 0, latch: 0, level: 0, edge, group1: u32::MAX, linked, priority: [0; 32] }
    }

    fn irq(&self, i: u32) -> u16 {
        self.base | low16(i & 31)
    }

    fn physical(&self, i: u32) -> IntId {
        IntId(u32::from(self.irq(i)))
    }

    /// Interrupts that are pending because of their line.
    fn lines(&self) -> u32 {
        self.level & !self.edge
    }

    /// Pending as far as they have not been handed to a queue, or because of the line.
    fn pending(&self) -> u32 {
        self.latch | self.lines()
    }

    fn entry(&self, i: u32, state: u64) -> Lr {
        let is = |mask: u32| mask >> (i & 31) & 1 != 0;
        let priority = self.priority[i as usize & 31];
        Lr::new(self.irq(i), priority, state, is(self.group1), is(self.linked), is(self.lines()))
    }

    /// Hands interrupt `i` on in this state; false if nobody takes it.
    fn deliver(&self, i: u32, state: u64, homes: &mut impl Homes) -> bool {
        let entry = self.entry(i, state);
        homes.with(i, Home::Next, |queue| ((), queue.push(entry))).is_some()
    }

    /// Takes a state of interrupt `i` back. True if it had it; where that is not known yet, its vCPU will look.
    fn withdraw<H: Hw>(&self, i: u32, state: u64, homes: &mut impl Homes) -> bool {
        let withdrawn = homes.with(i, Home::Last, |queue| {
            let withdrawn = queue.withdraw::<H>(self.irq(i), state);
            (withdrawn, withdrawn == Withdrawn::Later)
        });
        withdrawn == Some(Withdrawn::Taken)
    }

    /// Hands interrupt `i` on if it is pending and enabled.
    pub(super) fn submit(&mut self, i: u32, homes: &mut impl Homes) {
        let bit = 1 << (i & 31);
        if self.pending() & self.enabled & bit != 0 && self.deliver(i, Lr::PENDING, homes) {
            self.latch &= !bit;
        }
    }

    /// An edge: makes interrupt `i` pending.
    pub(super) fn raise(&mut self, i: u32, homes: &mut impl Homes) {
        self.latch |= 1 << (i & 31);
        self.submit(i, homes);
    }

    /// As [`Self::raise`], for the vCPU that runs here: what to put into a list register, or `None` if it is
    /// disabled and therefore waits.
    #[inline]
    pub(super) fn take_edge(&mut self, i: u32) -> Option<Lr> {
        let bit = 1 << (i & 31);
        if self.enabled & bit == 0 {
            self.latch |= bit;
            return None;
        }
        Some(self.entry(i, Lr::PENDING))
    }

    /// The line of interrupt `i` is now high or low.
    pub(super) fn set_level<H: Hw>(&mut self, i: u32, high: bool, homes: &mut impl Homes) {
        let bit = 1 << (i & 31);
        if high == (self.level & bit != 0) {
            return;
        }
        self.level ^= bit;
        match (self.edge & bit != 0, high) {
            (true, true) => self.raise(i, homes),
            (true, false) => {}
            (false, true) => self.submit(i, homes),
            (false, false) => {
                self.withdraw::<H>(i, Lr::PENDING, homes);
            }
        }
    }

    /// Takes interrupt `i` back from where it waits to be taken; it stays pending.
    pub(super) fn take_back<H: Hw>(&mut self, i: u32, homes: &mut impl Homes) {
        if self.withdraw::<H>(i, Lr::PENDING, homes) {
            self.latch |= 1 << (i & 31) & !self.lines();
        }
    }

    /// Lets interrupt `i` stay where it was to be taken back, or hands it on.
    pub(super) fn keep(&mut self, i: u32, homes: &mut impl Homes) {
        homes.with(i, Home::Last, |queue| (queue.keep(self.irq(i)), false));
        self.submit(i, homes);
    }

    /// Interrupt `i` was to be taken back, but its vCPU, which now looks, ran elsewhere.
    pub(super) fn recall<H: Hw>(&mut self, i: u32, queue: &mut Queue) {
        let bit = 1 << (i & 31);
        if self.enabled & self.lines() & bit != 0 || queue.withdraw::<H>(self.irq(i), Lr::PENDING) != Withdrawn::Taken {
            return;
        }
        // Pending still, unless the guest has cleared it.
        self.latch |= bit & !self.enabled & !self.lines();
        if self.linked & bit & !self.latch != 0 {
            H::deactivate(self.physical(i));
        }
    }

    /// Ends the physical interrupt of a linked one that nobody else will end. That of a private one is somebody
    /// else's if the vCPU is not here; its own was ended when it was taken off.
    fn end<H: Hw>(&self, i: u32, homes: &mut impl Homes) {
        let private = u32::from(self.base) < PRIVATE;
        if !private || homes.with(i, Home::Last, |queue| (queue.is_here::<H>(), false)) == Some(true) {
            H::deactivate(self.physical(i));
        }
    }

    /// `ISENABLER`. A shared interrupt that is linked is enabled with the physical one.
    fn enable<H: Hw>(&mut self, mask: u32, homes: &mut impl Homes) {
        self.enabled |= mask;
        for i in bits(mask) {
            if self.physical(i).0 >= PRIVATE && self.linked >> i & 1 != 0 {
                H::enable_interrupt(self.physical(i), H::pcpu());
            }
            self.keep(i, homes);
        }
    }

    /// `ICENABLER`. What was pending stays so, but the guest does not see it any more.
    fn disable<H: Hw>(&mut self, mask: u32, homes: &mut impl Homes) {
        self.enabled &= !mask;
        for i in bits(mask) {
            if self.physical(i).0 >= PRIVATE && self.linked >> i & 1 != 0 {
                H::disable_interrupt(self.physical(i));
            }
            self.take_back::<H>(i, homes);
        }
    }

    /// `ICPENDR`. A line that is high keeps its interrupt pending.
    fn clear_pending<H: Hw>(&mut self, mask: u32, homes: &mut impl Homes) {
        for i in bits(mask & !self.lines()) {
            let bit = 1 << i;
            let taken = self.withdraw::<H>(i, Lr::PENDING, homes);
            if self.linked & bit != 0 && (taken || self.latch & bit != 0) {
                self.end::<H>(i, homes);
            }
            self.latch &= !bit;
        }
    }

    /// `ICACTIVER`.
    fn clear_active<H: Hw>(&mut self, mask: u32, homes: &mut impl Homes) {
        for i in bits(mask) {
            if self.withdraw::<H>(i, Lr::ACTIVE, homes) && self.linked >> i & 1 != 0 {
                self.end::<H>(i, homes);
            }
        }
    }

    /// Reads `size` bytes of the register at `offset`. `held` tells what the queues know of a state.
    #[inline]
    pub(super) fn read(&self, offset: u64, size: u8, held: impl FnOnce(u64) -> u32) -> u64 {
        u64::from(match (offset / 0x80, size) {
            (1, 4) => self.group1,
            (2 | 3, 4) => self.enabled,
            (4 | 5, 4) => self.pending() | held(Lr::PENDING),
            (6 | 7, 4) => held(Lr::ACTIVE),
            (8..16, 1 | 4) => {
                let bytes = self.priority.iter().skip((offset % 32) as usize).take(usize::from(size));
                bytes.rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
            }
            // ICFGR: 16 interrupts, two bits each, of which the upper says "edge".
            (24 | 25, 4) => bits(self.edge >> (offset / 4 % 2 * 16) & 0xFFFF).fold(0, |word, i| word | 2 << (2 * i)),
            _ => 0,
        })
    }

    /// Writes `size` bytes of the register at `offset`.
    pub(super) fn write<H: Hw>(&mut self, offset: u64, size: u8, value: u64, homes: &mut impl Homes) {
        let mask = low(value);
        match (offset / 0x80, size) {
            (1, 4) => self.group1 = mask,
            (2, 4) => self.enable::<H>(mask & !self.enabled, homes),
            (3, 4) => self.disable::<H>(mask & self.enabled, homes),
            (4, 4) => {
                self.latch |= mask;
                bits(mask).for_each(|i| self.submit(i, homes));
            }
            (5, 4) => self.clear_pending::<H>(mask, homes),
            (6, 4) => bits(mask).for_each(|i| {
                self.deliver(i, Lr::ACTIVE, homes);
            }),
            (7, 4) => self.clear_active::<H>(mask, homes),
            (8..16, 1 | 4) => {
                let places = self.priority.iter_mut().skip((offset % 32) as usize).take(usize::from(size));
                places.zip((value & PRIORITIES).to_le_bytes()).for_each(|(place, byte)| *place = byte);
            }
            (24 | 25, 4) => {
                let shift = offset / 4 % 2 * 16;
                let edges = (0..16).fold(0, |edges, i| edges | (mask >> (2 * i + 1) & 1) << i);
                let before = self.edge;
                self.edge = before & !(0xFFFF << shift) | edges << shift;
                for i in bits((before ^ self.edge) & self.linked).filter(|_| u32::from(self.base) >= PRIVATE) {
                    H::set_edge(self.physical(i), self.edge >> i & 1 != 0);
                }
            }
            _ => {}
        }
    }
}
