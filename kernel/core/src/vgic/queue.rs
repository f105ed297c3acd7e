//! The way of an interrupt into a list register, and back out when it is withdrawn.
//!
//! A waiting interrupt is one that the guest has enabled and that is pending (or was made active by hand). It
//! moves into a list register at the next return to the guest; from there on only the hardware knows how far the
//! guest is with it, and the copy in `lrs` says no more than which interrupt is where.

use heapless::Vec;

use super::{PRIVATE, SPI_BANKS, bits, low16};
use crate::hw::{Hw, PcpuId};

/// An interrupt as `ICH_LR<n>_EL2` has it (Arm IHI 0069H, section 12.4.8), also while it waits for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lr(u64);

impl Lr {
    /// It waits for the guest to take it.
    pub(super) const PENDING: u64 = 1 << 62;
    /// The guest has taken it and not ended it.
    pub(super) const ACTIVE: u64 = 1 << 63;
    const STATE: u64 = Self::PENDING | Self::ACTIVE;
    /// The guest's deactivation ends the physical interrupt of the same number.
    const HW: u64 = 1 << 61;
    const GROUP1: u64 = 1 << 60;
    /// It is pending because of its line: the end raises a maintenance interrupt, so that the line is looked at.
    /// With `HW` this is bit 9 of the physical number, which no interrupt here has.
    const EOI: u64 = 1 << 41;

    #[inline]
    pub(super) fn new(irq: u16, priority: u8, state: u64, group1: bool, linked: bool, line: bool) -> Lr {
        let number = u64::from(irq);
        let group = if group1 { Self::GROUP1 } else { 0 };
        let end = match (linked, line) {
            (true, _) => Self::HW | number << 32,
            (false, true) => Self::EOI,
            (false, false) => 0,
        };
        Lr(state | end | group | u64::from(priority) << 48 | number)
    }

    fn irq(self) -> u16 {
        (self.0 & 0x3FF) as u16
    }

    /// Whether any of these bits is set.
    fn is(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// What is left without this state.
    fn without(self, state: u64) -> Lr {
        Lr(if self.0 & Self::STATE & !state == 0 { 0 } else { self.0 & !state })
    }

    /// Lower is more urgent; of equal priorities the lower number, as the hardware chooses.
    fn rank(self) -> (u64, u16) {
        (self.0 >> 48 & 0xFF, self.irq())
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

/// Room for each interrupt once.
const CAPACITY: usize = PRIVATE as usize + SPI_BANKS * 32;
pub(super) const MAX_LRS: usize = 16;

/// The interrupts that a vCPU is to take, in list registers and waiting for one.
#[derive(Debug)]
pub(super) struct Queue {
    /// The most urgent last.
    waiting: Vec<Lr, CAPACITY>,
    /// List registers as last written; saved values while the vCPU is on no pCPU.
    lrs: [Lr; MAX_LRS],
    /// List registers that hold an interrupt, as far as known.
    used: u16,
    /// List registers whose pending interrupt may have to be taken back.
    suspect: u16,
    /// Groups that the distributor forwards: bit 0 for group 0, bit 1 for group 1.
    pub(super) groups: u8,
    underflow: bool,
    on: Option<PcpuId>,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Queue { waiting: Vec::new(), lrs: [Lr(0); MAX_LRS], used: 0, suspect: 0, groups: 0, underflow: false, on: None }
    }

    fn forwards(&self, entry: Lr) -> bool {
        self.groups & if entry.is(Lr::GROUP1) { 2 } else { 1 } != 0
    }

    fn used(&self) -> impl Iterator<Item = usize> + use<> {
        bits(u32::from(self.used)).map(|n| n as usize)
    }

    /// Whether the list registers are those of this pCPU now.
    pub(super) fn is_here<H: Hw>(&self) -> bool {
        self.on == Some(H::pcpu())
    }

    fn saved(&self, n: usize) -> Lr {
        self.lrs.get(n).copied().unwrap_or_default()
    }

    /// List register `n`: from the hardware where it is this pCPU's, else as last seen.
    fn peek<H: Hw>(&self, n: usize) -> Lr {
        if self.is_here::<H>() { Lr(H::read_lr(n)) } else { self.saved(n) }
    }

    fn poke<H: Hw>(&mut self, n: usize, value: Lr) {
        if self.is_here::<H>() {
            H::write_lr(n, value.0);
        }
        if let Some(lr) = self.lrs.get_mut(n) {
            *lr = value;
        }
        self.used = self.used & !(1 << n) | u16::from(value.0 != 0) << n;
        self.suspect &= !(1 << n);
    }

    fn find(&self, irq: u16) -> Option<usize> {
        self.used().find(|n| self.saved(*n).irq() == irq)
    }

    /// Adds an interrupt. Returns whether the guest could take it now.
    pub(super) fn push(&mut self, entry: Lr) -> bool {
        if let Some(same) = self.waiting.iter_mut().find(|other| other.irq() == entry.irq()) {
            same.0 |= entry.0 & (Lr::STATE | Lr::EOI);
            // A linked interrupt must not be both.
            if same.is(Lr::HW) && same.is(Lr::PENDING) {
                same.0 &= !Lr::ACTIVE;
            }
        } else {
            let urgent = self.waiting.iter().rev().take_while(|other| other.rank() < entry.rank()).count();
            let at = self.waiting.len() - urgent;
            let added = self.waiting.insert(at, entry);
            debug_assert!(added.is_ok(), "there is room for every interrupt once");
        }
        self.forwards(entry)
    }

    /// Whether anything is pending that the guest could take.
    pub(super) fn is_deliverable<H: Hw>(&self) -> bool {
        self.waiting.iter().any(|entry| entry.is(Lr::PENDING) && self.forwards(*entry))
            || self.used().any(|n| {
                let lr = self.peek::<H>(n);
                // One whose end has not been reported yet may be pending again at once.
                lr.is(Lr::PENDING) || !lr.is(Lr::STATE) && lr.is(Lr::EOI)
            })
    }

    /// Which of the 32 interrupts from `base` are pending or active here.
    pub(super) fn held<H: Hw>(&self, base: u32, state: u64) -> u32 {
        let placed = self.used().map(|n| self.peek::<H>(n));
        self.waiting
            .iter()
            .copied()
            .chain(placed)
            .filter(|entry| entry.is(state))
            .fold(0, |mask, entry| mask | 1u32.checked_shl(u32::from(entry.irq()).wrapping_sub(base)).unwrap_or(0))
    }

    /// Takes back the pending or the active state of an interrupt.
    pub(super) fn withdraw<H: Hw>(&mut self, irq: u16, state: u64) -> Withdrawn {
        let mut found = Withdrawn::Absent;
        self.waiting.retain_mut(|entry| {
            if entry.irq() == irq && entry.is(state) {
                found = Withdrawn::Taken;
                *entry = entry.without(state);
            }
            entry.is(Lr::STATE)
        });
        let Some(n) = self.find(irq) else { return found };
        if self.on.is_some() && !self.is_here::<H>() {
            // The active state of a vCPU that runs elsewhere is the guest's own race, and stays.
            if state != Lr::PENDING {
                return found;
            }
            self.suspect |= 1 << n;
            return Withdrawn::Later;
        }
        let lr = self.peek::<H>(n);
        if lr.is(state) {
            self.poke::<H>(n, lr.without(state));
            found = Withdrawn::Taken;
        }
        found
    }

    /// An interrupt that was to be taken back may stay after all.
    pub(super) fn keep(&mut self, irq: u16) {
        if let Some(n) = self.find(irq) {
            self.suspect &= !(1 << n);
        }
    }

    /// Whether [`Self::suspects`] names any.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect != 0
    }

    /// The interrupts that may have to be taken back from list registers; they are not named again.
    pub(super) fn suspects(&mut self) -> Vec<u16, MAX_LRS> {
        let suspect = core::mem::take(&mut self.suspect);
        bits(u32::from(suspect)).map(|n| self.saved(n as usize).irq()).collect()
    }

    /// Frees the list registers that the guest has finished with; returns those interrupts whose line must be looked at.
    pub(super) fn collect<H: Hw>(&mut self) -> Vec<u16, MAX_LRS> {
        let ended = self.used().filter_map(|n| {
            let lr = self.peek::<H>(n);
            if lr.is(Lr::STATE) {
                return None;
            }
            self.poke::<H>(n, Lr(0));
            lr.is(Lr::EOI).then_some(lr.irq())
        });
        ended.collect()
    }

    /// Puts an interrupt straight into the first list register of this pCPU, where nothing else is there or on its
    /// way: the usual case, and the short one. False if it has to queue.
    #[inline]
    pub(super) fn place_alone<H: Hw>(&mut self, entry: Lr) -> bool {
        if !self.waiting.is_empty() || self.suspect != 0 || !self.forwards(entry) {
            return false;
        }
        self.used &= !low16(H::empty_lrs());
        if self.used != 0 {
            return false;
        }
        H::write_lr(0, entry.0);
        self.lrs[0] = entry;
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
        self.used &= !low16(H::empty_lrs());
        let room = H::list_registers().min(MAX_LRS);
        if self.used.count_ones() as usize + self.waiting.len() > room {
            self.take_out::<H>();
        }
        let (mut blocked, mut full) = (false, false);
        for i in (0..self.waiting.len()).rev() {
            let Some(entry) = self.waiting.get(i).copied().filter(|entry| self.forwards(*entry)) else { continue };
            let free = (!self.used).trailing_zeros() as usize;
            match self.find(entry.irq()) {
                Some(n) if !self.merge::<H>(n, entry) => blocked = true,
                // What comes after is no more urgent, but may have a list register already.
                None if free >= room => full = true,
                Some(_) => {
                    self.waiting.remove(i);
                }
                None => {
                    self.poke::<H>(free, entry);
                    self.waiting.remove(i);
                }
            }
        }
        // With a single list register the underflow condition would hold all the time.
        let underflow = full && room > 1;
        if underflow != self.underflow {
            self.underflow = underflow;
            H::notify_underflow(underflow);
        }
        blocked || full
    }

    /// Lets pending interrupts wait again: there is not room for all, and others may be more urgent.
    fn take_out<H: Hw>(&mut self) {
        for n in self.used() {
            let lr = self.peek::<H>(n);
            if lr.0 & Lr::STATE == Lr::PENDING && self.suspect >> n & 1 == 0 {
                self.poke::<H>(n, Lr(0));
                self.push(lr);
            }
        }
    }

    /// The interrupt has a list register already: its state is added there. False if that cannot hold both.
    fn merge<H: Hw>(&mut self, n: usize, entry: Lr) -> bool {
        let lr = self.peek::<H>(n);
        if !lr.is(Lr::STATE) {
            self.poke::<H>(n, entry);
        } else if lr.is(Lr::HW) {
            return !(lr.is(Lr::ACTIVE) && entry.is(Lr::PENDING));
        } else {
            self.poke::<H>(n, Lr(lr.0 | entry.0 & (Lr::STATE | Lr::EOI)));
        }
        true
    }

    /// Takes the list registers off this pCPU.
    pub(super) fn unload<H: Hw>(&mut self) {
        for n in self.used() {
            let lr = Lr(H::read_lr(n));
            H::write_lr(n, 0);
            // One whose end must still be reported stays, and reports when it is loaded again.
            if !lr.is(Lr::STATE | Lr::EOI) {
                self.used &= !(1 << n);
            }
            if let Some(saved) = self.lrs.get_mut(n) {
                *saved = lr;
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
            H::write_lr(n, self.saved(n).0);
        }
        !self.waiting.is_empty() || self.suspect != 0
    }

    /// Whether an interrupt waits or is in a list register, as far as known.
    pub(super) fn holds(&self, irq: u16) -> bool {
        self.find(irq).is_some() || self.waiting.iter().any(|entry| entry.irq() == irq)
    }
}
