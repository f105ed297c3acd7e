//! What EL2 knows of 32 interrupts: one bit each per property, so that a register of the GIC is one word here.
//!
//! A pending interrupt stands in `latch` or `level` only until it is enabled; then it is handed to the queue of the
//! vCPU that shall take it, and its state lives there. Where that is, is the business of [`Homes`]: it differs
//! between private and shared interrupts.

use super::bits;
use super::queue::{Flags, Waiting, Withdrawn};
use crate::hw::{Hw, IntId};

/// Where the interrupts of a bank go, and where they may be now.
pub(super) trait Homes {
    /// Hands an interrupt to the vCPU that shall take it; `i` is its number in the bank. False if there is none.
    fn deliver(&mut self, i: u32, entry: Waiting) -> bool;
    /// Takes its pending or active state back from where it is.
    fn withdraw<H: Hw>(&mut self, i: u32, irq: u16, state: Flags) -> Withdrawn;
    /// Lets it stay where it was to be taken back.
    fn keep(&mut self, i: u32, irq: u16);
    /// Ends the physical interrupt that it is linked to.
    fn end<H: Hw>(&mut self, irq: u16);
}

/// 32 interrupts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bank {
    base: u16,
    /// Interrupts that this GIC has; the bits of others stay clear.
    exists: u32,
    pub(super) enabled: u32,
    /// Made pending by an edge or by hand, and not yet handed to a queue.
    pub(super) latch: u32,
    /// The line is high.
    pub(super) level: u32,
    /// Edge-triggered.
    pub(super) edge: u32,
    pub(super) group1: u32,
    /// Belongs to the physical interrupt of the same number.
    pub(super) linked: u32,
    priority: [u8; 32],
}

/// Priorities have five bits, like those of the hardware's virtual interface.
const PRIORITY_MASK: u8 = 0xF8;
/// What a byte of the four in a priority register is masked with.
const PRIORITY_WORD: u64 = 0xF8F8_F8F8;

impl Bank {
    /// Interrupts `base` to `base + 31`. They reset to group 1, so that a guest that takes itself for the
    /// non-secure side of a GIC, where the group cannot be seen, gets them as IRQs.
    pub(super) const fn new(base: u16, exists: u32) -> Self {
        Bank { base, exists, enabled: 0, latch: 0, level: 0, edge: 0, group1: exists, linked: 0, priority: [0; 32] }
    }

    fn irq(&self, i: u32) -> u16 {
        self.base | super::low16(i & 31)
    }

    /// Interrupts that are pending because of their line.
    fn lines(&self) -> u32 {
        self.level & !self.edge
    }

    fn entry(&self, i: u32, state: Flags) -> Waiting {
        let bit = 1 << (i & 31);
        let mut flags = state;
        flags.set(Flags::GROUP1, self.group1 & bit != 0);
        flags.set(Flags::LINKED, self.linked & bit != 0);
        flags.set(Flags::LINE, self.lines() & bit != 0);
        let priority = self.priority.get(i as usize).copied().unwrap_or(PRIORITY_MASK);
        Waiting { irq: self.irq(i), priority, flags }
    }

    /// Hands interrupt `i` on if it is pending and enabled.
    pub(super) fn submit(&mut self, i: u32, homes: &mut impl Homes) {
        let bit = 1 << (i & 31);
        if (self.latch | self.lines()) & self.enabled & bit != 0 {
            let entry = self.entry(i, Flags::PENDING);
            if homes.deliver(i, entry) {
                self.latch &= !bit;
            }
        }
    }

    /// An edge: makes interrupt `i` pending.
    pub(super) fn raise(&mut self, i: u32, homes: &mut impl Homes) {
        self.latch |= self.exists & 1 << (i & 31);
        self.submit(i, homes);
    }

    /// As [`Self::raise`], for the vCPU that runs here: what to put into a list register, or `None` if it is
    /// disabled and therefore waits.
    #[inline]
    pub(super) fn take_edge(&mut self, i: u32) -> Option<Waiting> {
        let bit = 1 << (i & 31);
        if self.enabled & bit == 0 {
            self.latch |= bit;
            return None;
        }
        Some(self.entry(i, Flags::PENDING))
    }

    /// The line of interrupt `i` is now high or low.
    pub(super) fn set_level<H: Hw>(&mut self, i: u32, high: bool, homes: &mut impl Homes) {
        let bit = self.exists & 1 << (i & 31);
        let was = self.level & bit != 0;
        if high == was {
            return;
        }
        self.level ^= bit;
        if self.edge & bit != 0 {
            if high {
                self.raise(i, homes);
            }
        } else if high {
            self.submit(i, homes);
        } else {
            homes.withdraw::<H>(i, self.irq(i), Flags::PENDING);
        }
    }

    /// `ISENABLER`.
    pub(super) fn enable(&mut self, mask: u32, homes: &mut impl Homes) {
        let new = mask & self.exists & !self.enabled;
        self.enabled |= new;
        for i in bits(new) {
            homes.keep(i, self.irq(i));
            self.submit(i, homes);
        }
    }

    /// `ICENABLER`. What was pending stays so, but the guest does not see it any more.
    pub(super) fn disable<H: Hw>(&mut self, mask: u32, homes: &mut impl Homes) {
        let gone = mask & self.enabled;
        self.enabled &= !gone;
        for i in bits(gone) {
            if homes.withdraw::<H>(i, self.irq(i), Flags::PENDING) == Withdrawn::Taken {
                self.latch |= 1 << i & !self.lines();
            }
        }
    }

    /// `ISPENDR`.
    pub(super) fn set_pending(&mut self, mask: u32, homes: &mut impl Homes) {
        self.latch |= mask & self.exists;
        for i in bits(mask & self.exists) {
            self.submit(i, homes);
        }
    }

    /// `ICPENDR`. A line that is high keeps its interrupt pending.
    pub(super) fn clear_pending<H: Hw>(&mut self, mask: u32, homes: &mut impl Homes) {
        for i in bits(mask & self.exists & !self.lines()) {
            let bit = 1 << i;
            let taken = homes.withdraw::<H>(i, self.irq(i), Flags::PENDING) == Withdrawn::Taken;
            if self.linked & bit != 0 && (taken || self.latch & bit != 0) {
                // It will not be delivered, so nobody else ends it.
                homes.end::<H>(self.irq(i));
            }
            self.latch &= !bit;
        }
    }

    /// `ISACTIVER`.
    pub(super) fn set_active(&mut self, mask: u32, homes: &mut impl Homes) {
        for i in bits(mask & self.exists) {
            homes.deliver(i, self.entry(i, Flags::ACTIVE));
        }
    }

    /// `ICACTIVER`.
    pub(super) fn clear_active<H: Hw>(&mut self, mask: u32, homes: &mut impl Homes) {
        for i in bits(mask & self.exists) {
            let taken = homes.withdraw::<H>(i, self.irq(i), Flags::ACTIVE) == Withdrawn::Taken;
            if taken && self.linked & 1 << i != 0 {
                homes.end::<H>(self.irq(i));
            }
        }
    }

    /// Pending as far as it has not been handed to a queue, or because of the line.
    pub(super) fn pending(&self) -> u32 {
        self.latch | self.lines()
    }

    /// Whether an interrupt in a list register may stay pending there.
    pub(super) fn may_stay(&self, i: u32) -> bool {
        let bit = 1 << (i & 31);
        self.enabled & self.lines() & bit != 0
    }

    /// It was taken back from a list register: pending still, unless the guest has cleared it.
    pub(super) fn took_back<H: Hw>(&mut self, i: u32) {
        let bit = 1 << (i & 31);
        self.latch |= bit & !self.enabled & !self.lines();
        if self.linked & bit & !self.latch != 0 {
            H::deactivate(IntId(u32::from(self.irq(i))));
        }
    }

    /// `IGROUPR`.
    pub(super) fn set_groups(&mut self, mask: u32) {
        self.group1 = mask & self.exists;
    }

    /// `ICFGR`: 16 interrupts, two bits each, of which the upper says "edge". `half` is 0 or 1.
    pub(super) fn config(&self, half: u32) -> u64 {
        let edges = self.edge >> (16 * (half & 1)) & 0xFFFF;
        bits(edges).fold(0, |word, i| word | 2 << (2 * i))
    }

    /// Writes `ICFGR`.
    pub(super) fn set_config(&mut self, half: u32, value: u32) {
        let shift = 16 * (half & 1);
        let edges = (0..16).fold(0, |mask, i| mask | (value >> (2 * i + 1) & 1) << i);
        self.edge = self.edge & !(0xFFFF << shift) | edges << shift & self.exists;
    }

    /// `IPRIORITYR`: `size` bytes from interrupt `at` of the bank.
    pub(super) fn priorities(&self, at: usize, size: usize) -> u64 {
        let bytes = self.priority.iter().skip(at).take(size);
        bytes.rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }

    /// Writes `IPRIORITYR`.
    pub(super) fn set_priorities(&mut self, at: usize, size: usize, value: u64) {
        let bytes = (value & PRIORITY_WORD).to_le_bytes();
        let there = (at..).map(|i| i < 32 && self.exists >> i & 1 != 0);
        let places = self.priority.iter_mut().skip(at).take(size.min(4));
        for ((place, byte), exists) in places.zip(bytes).zip(there) {
            if exists {
                *place = byte;
            }
        }
    }
}
