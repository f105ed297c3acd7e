//! What EL2 knows of 32 interrupts: one bit each per property, so that a register of the GIC is one word here.
//!
//! What is pending or active stands here until it is put into a list register ([`Bank::take`]), and again when it comes
//! back from there ([`Bank::fold`]). Changes return which interrupts they concern, a bit each: for those the choice of what
//! is in list registers may be another one now.

use super::private::Lr;
use super::{PRIVATE, bits, low};
use crate::hw::{Hw, IntId};

/// 32 interrupts.
#[derive(Default)]
pub(super) struct Bank {
    /// The first of them.
    pub(super) base: u32,
    /// The groups that the distributor forwards (bit 0 for group 0, bit 1 for group 1), and the interrupts in them.
    pub(super) groups: u32,
    pub(super) forwarded: u32,
    pub(super) enabled: u32,
    /// Made pending by an edge or by hand.
    pub(super) latch: u32,
    pub(super) active: u32,
    /// Cleared by hand: a list register that still shows it pending is out of date.
    not_pending: u32,
    /// Cleared by hand: a list register that still shows it active is out of date.
    not_active: u32,
    /// The line is high.
    level: u32,
    /// Edge-triggered.
    pub(super) edge: u32,
    group1: u32,
    /// Belongs to the physical interrupt of the same number.
    pub(super) linked: u32,
    priority: [u8; 32],
    /// Of shared interrupts: `GICD_IROUTER`, the lower half. An affinity that no vCPU has leaves the interrupt pending.
    pub(super) route: [u32; 32],
    /// Of shared interrupts: the vCPU in whose list registers each may be, or that has not ended it.
    pub(super) home: [Option<u8>; 32],
}

/// Software-generated interrupts are edges, always.
pub(super) const SGIS: u32 = 0xFFFF;
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
    /// Interrupts `base` to `base + 31`. Those of a GICv3 reset to group 1, so that a guest that takes itself for the
    /// non-secure side of a GIC, where the group cannot be seen, gets them as IRQs. On a GICv2 group 0 does that.
    pub(super) fn new(base: u32, linked: u32, group1: u32) -> Self {
        let edge = if base < PRIVATE { SGIS } else { 0 };
        Bank { base, edge, linked, group1, ..Bank::default() }
    }

    pub(super) fn is_group1(&self, i: u32) -> bool {
        self.group1 >> (i & 31) & 1 != 0
    }

    /// Pending, but for what list registers hold: by the latch, or because of the line.
    fn pending(&self) -> u32 {
        self.latch | self.level & !self.edge
    }

    /// Pending, and nothing keeps it from the guest.
    fn deliverable(&self) -> u32 {
        self.pending() & self.enabled & self.forwarded
    }

    /// What shall be in a list register and is not.
    pub(super) fn ready(&self) -> u32 {
        self.deliverable() | self.active
    }

    /// The state of interrupt `i` in a list register. A linked one must not be both pending and active.
    pub(super) fn state(&self, i: u32) -> u64 {
        let is = |mask: u32| mask >> (i & 31) & 1 != 0;
        let active = if is(self.active) { Lr::ACTIVE } else { 0 };
        if is(self.deliverable() & !(self.active & self.linked)) { active | Lr::PENDING } else { active }
    }

    /// Interrupt `i` as a list register shall have it. The end of a linked one is that of the physical one too; that of one
    /// which is pending because of its line makes EL2 look at the line.
    #[inline(always)]
    pub(super) fn entry(&self, i: u32, state: u64) -> Lr {
        let is = |mask: u32| mask >> (i & 31) & 1 != 0;
        let number = u64::from(self.base | i & 31);
        let eoi = if is(self.level & !self.edge) { Lr::EOI } else { 0 };
        let end = if is(self.linked) { Lr::HW | number << 32 } else { eoi };
        let group = if is(self.group1) { Lr::GROUP1 } else { 0 };
        Lr(state | end | group | u64::from(self.priority[i as usize & 31]) << 48 | number)
    }

    /// An interrupt goes into a list register of vCPU `home`.
    #[inline]
    pub(super) fn take(&mut self, lr: Lr, home: Option<u8>) {
        let i = lr.irq() & 31;
        let others = !(1 << i);
        self.home[i as usize] = home;
        self.latch &= if lr.is(Lr::PENDING) { others } else { u32::MAX };
        self.active &= others;
        self.not_pending &= others;
        self.not_active &= others;
    }

    /// Interrupt `i` goes into a list register as pending, and no other of these is in one.
    #[inline(always)]
    pub(super) fn take_alone(&mut self, i: u32) -> Lr {
        self.latch &= !(1 << (i & 31));
        (self.not_pending, self.not_active) = (0, 0);
        self.entry(i, Lr::PENDING)
    }

    /// An interrupt comes back from a list register. Whether one is pending that was so because of its line, the line
    /// says. If it is linked and was cleared by hand, nobody else will end the physical one.
    pub(super) fn fold<H: Hw>(&mut self, lr: Lr) {
        let bit = 1 << (lr.irq() & 31);
        let pending = if lr.is(Lr::PENDING) { bit } else { 0 };
        let active = if lr.is(Lr::ACTIVE) { bit } else { 0 };
        if (pending & self.not_pending | active & self.not_active) & self.linked != 0 {
            H::deactivate(IntId(lr.irq()));
        }
        self.latch |= if lr.tells_end() { 0 } else { pending & !self.not_pending };
        self.active |= active & !self.not_active;
    }

    /// `GICD_CTLR`: the groups that the distributor forwards.
    pub(super) fn set_groups(&mut self, groups: u32) -> u32 {
        self.groups = groups;
        let [group0, group1] = [groups & 1, groups >> 1 & 1].map(|on| 0u32.wrapping_sub(on));
        self.forwarded = group0 & !self.group1 | group1 & self.group1;
        u32::MAX
    }

    /// An edge: makes interrupt `i` pending.
    pub(super) fn raise(&mut self, i: u32) -> u32 {
        let bit = 1 << (i & 31);
        self.latch |= bit;
        bit
    }

    /// The line of interrupt `i` is now high or low.
    pub(super) fn set_level(&mut self, i: u32, high: bool) -> u32 {
        let bit = 1 << (i & 31);
        let changed = (self.level ^ if high { bit } else { 0 }) & bit;
        self.level ^= changed;
        self.latch |= changed & self.level & self.edge;
        changed
    }

    /// A shared interrupt that is linked is enabled with the physical one, and signals as it does.
    #[inline(always)]
    pub(super) fn configure<H: Hw>(&self, changed: u32) {
        for i in bits(changed & self.linked) {
            H::configure(IntId(self.base + i), self.enabled >> i & 1 != 0, self.edge >> i & 1 != 0);
        }
    }

    /// Ends the physical interrupts of linked ones.
    pub(super) fn end<H: Hw>(&self, linked: u32) {
        bits(linked).for_each(|i| H::deactivate(IntId(self.base + i)));
    }

    /// Reads `size` bytes of the register at `offset`. `held` tells what list registers know of a state.
    #[inline]
    pub(super) fn read(&self, offset: u64, size: u8, held: impl FnOnce(u64) -> u32) -> u64 {
        u64::from(match (offset / 0x80, size) {
            (1, 4) => self.group1,
            (2 | 3, 4) => self.enabled,
            (4 | 5, 4) => self.pending() | held(Lr::PENDING) & !self.not_pending,
            (6 | 7, 4) => self.active | held(Lr::ACTIVE) & !self.not_active,
            (8..16, 1 | 4) => {
                let bytes = self.priority.iter().skip((offset % 32) as usize).take(usize::from(size));
                bytes.rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
            }
            // ICFGR: 16 interrupts, two bits each, of which the upper says "edge".
            (24 | 25, 4) => bits(self.edge >> (offset / 4 % 2 * 16) & 0xFFFF).fold(0, |word, i| word | 2 << (2 * i)),
            _ => 0,
        })
    }

    /// Writes `size` bytes of the register at `offset`; `end` does what follows for physical interrupts when the guest will not
    /// end them.
    pub(super) fn write(&mut self, offset: u64, size: u8, value: u64, end: impl FnOnce(&Bank, u32)) -> u32 {
        let mask = low(value);
        match (offset / 0x80, size) {
            (1, 4) => {
                self.group1 = mask;
                return self.set_groups(self.groups);
            }
            (enable @ (2 | 3), 4) => {
                let changed = mask & if enable == 2 { !self.enabled } else { self.enabled };
                self.enabled ^= changed;
                return changed;
            }
            (4, 4) => self.latch |= mask,
            (6, 4) => self.active |= mask,
            (clear @ (5 | 7), 4) => {
                let (state, gone) = match clear {
                    5 => (&mut self.latch, &mut self.not_pending),
                    _ => (&mut self.active, &mut self.not_active),
                };
                let linked = *state & mask & self.linked;
                *state &= !mask;
                *gone |= mask;
                end(self, linked);
            }
            (8..16, 1 | 4) => {
                let places = self.priority.iter_mut().zip(0..).skip((offset % 32) as usize).take(usize::from(size));
                return places.zip((value & PRIORITIES).to_le_bytes()).fold(0, |changed, ((place, i), byte)| {
                    changed | u32::from(core::mem::replace(place, byte) != byte) << i
                });
            }
            (24 | 25, 4) => {
                let shift = offset / 4 % 2 * 16;
                let edges = (0..16).fold(0, |edges, i| edges | (mask >> (2 * i + 1) & 1) << i);
                let fixed = if self.base < PRIVATE { SGIS } else { 0 };
                self.edge ^= (self.edge ^ edges << shift) & 0xFFFF << shift & !fixed;
                return 0;
            }
            _ => return 0,
        }
        mask
    }
}
