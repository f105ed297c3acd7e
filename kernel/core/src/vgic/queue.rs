//! The way of an interrupt into a list register, and back out when it is withdrawn.
//!
//! A waiting interrupt is one that the guest has enabled and that is pending (or was made active by hand). It
//! moves into a list register at the next return to the guest; from there on only the hardware knows how far the
//! guest is with it, and the copy in `lrs` says no more than which interrupt is where.

use heapless::Vec;

use super::{PRIVATE, SPI_BANKS};
use crate::hw::{Hw, PcpuId};

bitflags::bitflags! {
    /// What a list register says of an interrupt besides its number and priority.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Flags: u8 {
        /// It waits for the guest to take it.
        const PENDING = 1 << 0;
        /// The guest has taken it and not ended it.
        const ACTIVE = 1 << 1;
        /// The guest's deactivation ends the physical interrupt of the same number.
        const LINKED = 1 << 2;
        /// It is pending because of its line, which must be looked at when the guest ends it.
        const LINE = 1 << 3;
        /// Group 1 (IRQ), not group 0 (FIQ).
        const GROUP1 = 1 << 4;
    }
}

/// Fields of `ICH_LR<n>_EL2` (Arm IHI 0069H, section 12.4.8).
mod lr {
    pub(super) const PENDING: u64 = 1 << 62;
    pub(super) const ACTIVE: u64 = 1 << 63;
    pub(super) const STATE: u64 = PENDING | ACTIVE;
    pub(super) const HW: u64 = 1 << 61;
    pub(super) const GROUP1: u64 = 1 << 60;
    pub(super) const PRIORITY_SHIFT: u32 = 48;
    /// Maintenance interrupt at the end; only where HW is clear.
    pub(super) const EOI: u64 = 1 << 41;
    pub(super) const PHYSICAL_SHIFT: u32 = 32;
}

/// An interrupt on its way to a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) irq: u16,
    pub(super) priority: u8,
    pub(super) flags: Flags,
}

impl Waiting {
    fn state(self) -> u64 {
        let pending = if self.flags.contains(Flags::PENDING) { lr::PENDING } else { 0 };
        let active = if self.flags.contains(Flags::ACTIVE) { lr::ACTIVE } else { 0 };
        // A linked interrupt must not be both.
        if self.flags.contains(Flags::LINKED | Flags::PENDING) { pending } else { pending | active }
    }

    fn to_lr(self) -> u64 {
        let mut value = u64::from(self.irq) | u64::from(self.priority) << lr::PRIORITY_SHIFT | self.state();
        if self.flags.contains(Flags::GROUP1) {
            value |= lr::GROUP1;
        }
        if self.flags.contains(Flags::LINKED) {
            value |= lr::HW | u64::from(self.irq) << lr::PHYSICAL_SHIFT;
        } else if self.flags.contains(Flags::LINE) {
            value |= lr::EOI;
        }
        value
    }

    fn from_lr(value: u64) -> Waiting {
        let mut flags = Flags::empty();
        flags.set(Flags::PENDING, value & lr::PENDING != 0);
        flags.set(Flags::ACTIVE, value & lr::ACTIVE != 0);
        flags.set(Flags::LINKED, value & lr::HW != 0);
        flags.set(Flags::LINE, value & (lr::HW | lr::EOI) == lr::EOI);
        flags.set(Flags::GROUP1, value & lr::GROUP1 != 0);
        Waiting { irq: (value & 0x3FF) as u16, priority: (value >> lr::PRIORITY_SHIFT & 0xFF) as u8, flags }
    }
}

/// What became of a request to take an interrupt back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Withdrawn {
    /// It was not there: the guest has taken it, or it never was.
    Absent,
    /// It was there and is not any more.
    Taken,
    /// It may be in a list register of another pCPU, which looks before it next enters the guest.
    Later,
}

enum Placed {
    Yes,
    /// A list register was made free by sending this one back.
    Instead(Waiting),
    /// Its own list register is still in use and cannot hold both.
    Blocked,
    Full,
}

/// Room for each interrupt once.
const CAPACITY: usize = PRIVATE as usize + SPI_BANKS * 32;
const MAX_LRS: usize = 16;

/// The interrupts that a vCPU is to take, in list registers and waiting for one.
#[derive(Debug)]
pub(super) struct Queue {
    /// The most urgent last; of equal ones the oldest last.
    waiting: Vec<Waiting, CAPACITY>,
    /// List registers as last written; saved values while the vCPU is on no pCPU.
    lrs: [u64; MAX_LRS],
    /// List registers that hold an interrupt, as far as known.
    used: u16,
    /// List registers whose pending interrupt may have to be taken back.
    pub(super) suspect: u16,
    /// Groups that the distributor forwards: bit 0 for group 0, bit 1 for group 1.
    pub(super) groups: u8,
    underflow: bool,
    on: Option<PcpuId>,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Queue { waiting: Vec::new(), lrs: [0; MAX_LRS], used: 0, suspect: 0, groups: 0, underflow: false, on: None }
    }

    fn forwards(&self, entry: Waiting) -> bool {
        self.groups & if entry.flags.contains(Flags::GROUP1) { 2 } else { 1 } != 0
    }

    fn used(&self) -> impl Iterator<Item = usize> + use<> {
        super::bits(u32::from(self.used)).map(|n| n as usize)
    }

    /// Whether the list registers are those of this pCPU now.
    pub(super) fn is_here<H: Hw>(&self) -> bool {
        self.on == Some(H::pcpu())
    }

    /// List register `n`: from the hardware where it is this pCPU's, else as last seen.
    fn peek<H: Hw>(&self, n: usize) -> u64 {
        if self.is_here::<H>() { H::read_lr(n) } else { self.lrs.get(n).copied().unwrap_or(0) }
    }

    fn poke<H: Hw>(&mut self, n: usize, value: u64) {
        if self.is_here::<H>() {
            H::write_lr(n, value);
        }
        if let Some(lr) = self.lrs.get_mut(n) {
            *lr = value;
        }
        if value == 0 {
            self.used &= !(1 << n);
        } else {
            self.used |= 1 << n;
        }
        self.suspect &= !(1 << n);
    }

    fn find(&self, irq: u16) -> Option<usize> {
        self.used().find(|n| self.lrs.get(*n).is_some_and(|lr| lr & 0x3FF == u64::from(irq)))
    }

    /// Adds an interrupt. Returns whether the guest could take it now.
    pub(super) fn push(&mut self, entry: Waiting) -> bool {
        if let Some(same) = self.waiting.iter_mut().find(|other| other.irq == entry.irq) {
            same.flags |= entry.flags;
        } else {
            let urgent = self.waiting.iter().rev().take_while(|other| other.priority <= entry.priority).count();
            let last = self.waiting.len();
            let added = self.waiting.push(entry);
            debug_assert!(added.is_ok(), "there is room for every interrupt once");
            for at in (last - urgent..last).rev() {
                self.waiting.swap(at, at + 1);
            }
        }
        self.forwards(entry)
    }

    /// Whether anything is pending that the guest could take.
    pub(super) fn is_deliverable<H: Hw>(&self) -> bool {
        self.waiting.iter().any(|entry| entry.flags.contains(Flags::PENDING) && self.forwards(*entry))
            || self.used().any(|n| {
                let value = self.peek::<H>(n);
                // One whose end has not been reported yet may be pending again at once.
                value & lr::PENDING != 0 || value & (lr::STATE | lr::HW | lr::EOI) == lr::EOI
            })
    }

    /// Which of the 32 interrupts from `base` are pending or active here.
    pub(super) fn held<H: Hw>(&self, base: u32, state: Flags) -> u32 {
        let bit = |irq: u16| 1u32.checked_shl(u32::from(irq).wrapping_sub(base)).unwrap_or(0);
        let waiting = self.waiting.iter().copied();
        let placed = self.used().map(|n| Waiting::from_lr(self.peek::<H>(n)));
        waiting.chain(placed).filter(|entry| entry.flags.intersects(state)).fold(0, |mask, entry| mask | bit(entry.irq))
    }

    /// Takes back the pending or the active state of an interrupt.
    pub(super) fn withdraw<H: Hw>(&mut self, irq: u16, state: Flags) -> Withdrawn {
        let mut found = Withdrawn::Absent;
        if let Some(at) = self.waiting.iter().position(|entry| entry.irq == irq)
            && let Some(entry) = self.waiting.get_mut(at)
        {
            if entry.flags.intersects(state) {
                found = Withdrawn::Taken;
            }
            entry.flags -= state;
            if !entry.flags.intersects(Flags::PENDING | Flags::ACTIVE) {
                self.waiting.remove(at);
            }
        }
        let Some(n) = self.find(irq) else { return found };
        if self.on.is_some() && !self.is_here::<H>() {
            // The active state of a vCPU that runs elsewhere is the guest's own race, and stays.
            if state != Flags::PENDING {
                return found;
            }
            self.suspect |= 1 << n;
            return Withdrawn::Later;
        }
        let value = self.peek::<H>(n);
        let mask = if state == Flags::PENDING { lr::PENDING } else { lr::ACTIVE };
        if value & mask != 0 {
            found = Withdrawn::Taken;
            let rest = value & !mask;
            self.poke::<H>(n, if rest & lr::STATE == 0 { 0 } else { rest });
        }
        found
    }

    /// An interrupt that was to be taken back may stay after all.
    pub(super) fn keep(&mut self, irq: u16) {
        if let Some(n) = self.find(irq) {
            self.suspect &= !(1 << n);
        }
    }

    /// Looks at the suspect list registers of this pCPU. `stays` says whether an interrupt may stay pending; those
    /// that may not are taken back and handed to `back`.
    pub(super) fn recall<H: Hw>(&mut self, stays: impl Fn(u16) -> bool, mut back: impl FnMut(u16)) {
        for n in super::bits(u32::from(self.suspect)).map(|n| n as usize) {
            let value = self.peek::<H>(n);
            let irq = Waiting::from_lr(value).irq;
            if value & lr::PENDING != 0 && !stays(irq) {
                let rest = value & !lr::PENDING;
                self.poke::<H>(n, if rest & lr::STATE == 0 { 0 } else { rest });
                back(irq);
            }
        }
        self.suspect = 0;
    }

    /// Frees the list registers that the guest has finished with; `ended` hears of those whose line must be looked at.
    pub(super) fn collect<H: Hw>(&mut self, mut ended: impl FnMut(u16)) {
        for n in self.used() {
            let value = self.peek::<H>(n);
            if value & lr::STATE == 0 {
                let entry = Waiting::from_lr(value);
                self.poke::<H>(n, 0);
                if entry.flags.contains(Flags::LINE) {
                    ended(entry.irq);
                }
            }
        }
    }

    /// Puts an interrupt straight into the first list register of this pCPU, where nothing else is there or on its
    /// way: the usual case, and the short one. False if it has to queue.
    #[inline]
    pub(super) fn place_alone<H: Hw>(&mut self, entry: Waiting) -> bool {
        if !self.waiting.is_empty() || self.suspect != 0 || !self.forwards(entry) {
            return false;
        }
        self.used &= !super::low16(H::empty_lrs());
        if self.used != 0 {
            return false;
        }
        let value = entry.to_lr();
        H::write_lr(0, value);
        self.lrs[0] = value;
        self.used = 1;
        true
    }

    /// As [`Self::place`], where one interrupt waits and nothing else is in the way. False if that is not so.
    #[inline]
    pub(super) fn place_only<H: Hw>(&mut self) -> bool {
        if self.waiting.len() != 1 || self.underflow {
            return false;
        }
        let Some(entry) = self.waiting.pop() else { return false };
        let placed = self.place_alone::<H>(entry);
        if !placed {
            self.push(entry);
        }
        placed
    }

    /// Moves waiting interrupts into the list registers of this pCPU. True when some must be tried again.
    pub(super) fn place<H: Hw>(&mut self) -> bool {
        self.used &= !super::low16(H::empty_lrs());
        let room = H::list_registers().min(MAX_LRS);
        let (mut again, mut full) = (false, false);
        let mut i = self.waiting.len();
        while i > 0 {
            i -= 1;
            let Some(entry) = self.waiting.get(i).copied().filter(|entry| self.forwards(*entry)) else { continue };
            let placed = match self.find(entry.irq) {
                Some(n) => self.merge::<H>(n, entry),
                // What comes after is no more urgent, but may have a list register already.
                None if full => Placed::Full,
                None => self.fill::<H>(room, entry),
            };
            match placed {
                // The common case: there is one, and it goes.
                Placed::Yes if i + 1 == self.waiting.len() => self.waiting.truncate(i),
                Placed::Yes => {
                    self.waiting.remove(i);
                }
                Placed::Instead(evicted) => {
                    self.waiting.remove(i);
                    self.push(evicted);
                    full = true;
                }
                Placed::Blocked => again = true,
                Placed::Full => full = true,
            }
        }
        // With a single list register the underflow condition would hold all the time.
        let underflow = full && room > 1;
        if underflow != self.underflow {
            self.underflow = underflow;
            H::notify_underflow(underflow);
        }
        again || full
    }

    /// The interrupt has a list register already: its state is added there.
    fn merge<H: Hw>(&mut self, n: usize, entry: Waiting) -> Placed {
        let value = H::read_lr(n);
        let state = value & lr::STATE;
        if state == 0 {
            self.poke::<H>(n, entry.to_lr());
            return Placed::Yes;
        }
        if value & lr::HW != 0 {
            // Pending and active at once is not allowed for a linked interrupt.
            let again = state == lr::ACTIVE && entry.flags.contains(Flags::PENDING);
            return if again { Placed::Blocked } else { Placed::Yes };
        }
        let line = if entry.flags.contains(Flags::LINE) { lr::EOI } else { 0 };
        self.poke::<H>(n, value | entry.state() | line);
        Placed::Yes
    }

    fn fill<H: Hw>(&mut self, room: usize, entry: Waiting) -> Placed {
        let free = (!self.used).trailing_zeros() as usize;
        if free >= room {
            return self.evict::<H>(entry);
        }
        self.poke::<H>(free, entry.to_lr());
        Placed::Yes
    }

    /// Sends the least urgent pending interrupt back if it is less urgent than `entry`.
    fn evict<H: Hw>(&mut self, entry: Waiting) -> Placed {
        let pending = self.used().map(|n| (n, self.peek::<H>(n))).filter(|(_, lr)| lr & lr::STATE == lr::PENDING);
        let least = pending.map(|(n, lr)| (n, Waiting::from_lr(lr))).max_by_key(|(_, other)| other.priority);
        match least.filter(|(_, other)| other.priority > entry.priority) {
            Some((n, other)) => {
                self.poke::<H>(n, entry.to_lr());
                Placed::Instead(other)
            }
            None => Placed::Full,
        }
    }

    /// Takes the list registers off this pCPU.
    pub(super) fn unload<H: Hw>(&mut self) {
        for n in self.used() {
            let value = H::read_lr(n);
            H::write_lr(n, 0);
            // One whose end must still be reported stays, and reports when it is loaded again.
            let finished = value & lr::STATE == 0 && value & (lr::HW | lr::EOI) != lr::EOI;
            if finished {
                self.used &= !(1 << n);
            }
            if let Some(lr) = self.lrs.get_mut(n) {
                *lr = value;
            }
        }
        if core::mem::take(&mut self.underflow) {
            H::notify_underflow(false);
        }
        self.on = None;
    }

    /// Puts the list registers on this pCPU. True when interrupts wait for one.
    pub(super) fn load<H: Hw>(&mut self) -> bool {
        self.on = Some(H::pcpu());
        for n in self.used() {
            H::write_lr(n, self.lrs.get(n).copied().unwrap_or(0));
        }
        !self.waiting.is_empty() || self.suspect != 0
    }

    /// Whether an interrupt waits or is in a list register, as far as known.
    pub(super) fn holds(&self, irq: u16) -> bool {
        self.find(irq).is_some() || self.waiting.iter().any(|entry| entry.irq == irq)
    }
}
