//! The private interrupts of a vCPU, and its list registers.
//!
//! While an interrupt is in one, only the hardware knows how far the guest is with it. What is kept here says no more than
//! which interrupt is where.

use super::bank::Bank;
use super::v2::Sources;
use super::vcpu::VTIMER_BIT;
use super::{bits, low};
use crate::hw::{Hw, PcpuId};

/// An interrupt as `ICH_LR<n>_EL2` has it (Arm IHI 0069H, section 12.4.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lr(pub(super) u64);

impl Lr {
    /// It waits for the guest to take it.
    pub(super) const PENDING: u64 = 1 << 62;
    /// The guest has taken it and not ended it.
    pub(super) const ACTIVE: u64 = 1 << 63;
    /// The guest's deactivation ends the physical interrupt of the same number.
    pub(super) const HW: u64 = 1 << 61;
    pub(super) const GROUP1: u64 = 1 << 60;
    /// It is pending because of its line: the end raises a maintenance interrupt, so that the line is looked at.
    /// With `HW` this is bit 9 of the physical number.
    pub(super) const EOI: u64 = 1 << 41;

    pub(super) fn irq(self) -> u32 {
        low(self.0) & 0x3FF
    }

    /// Whether any of these bits is set.
    pub(super) fn is(self, bits: u64) -> bool {
        self.0 & bits != 0
    }

    /// Whether its end is told of.
    pub(super) fn tells_end(self) -> bool {
        self.0 & (Self::HW | Self::EOI) == Self::EOI
    }

    /// What is active keeps its list register, since the guest cannot end it otherwise. Then lower is more urgent; of
    /// equal priorities the lower number, as the hardware chooses.
    pub(super) fn rank(self) -> (bool, u64, u32) {
        (!self.is(Self::ACTIVE), self.0 >> 48 & 0xFF, self.irq())
    }
}

/// The most list registers that a GIC can have.
pub(crate) const MAX_LRS: usize = 16;

/// Whether a list register of this value holds what waits for the guest to take it.
pub(crate) fn is_pending(lr: u64) -> bool {
    Lr(lr).is(Lr::PENDING)
}

/// What a vCPU has for itself: its private interrupts, and its list registers, which are all empty while it is on no pCPU.
pub(super) struct Private {
    pub(super) bank: Bank,
    /// List registers as last written.
    lrs: [Lr; MAX_LRS],
    /// List registers that hold an interrupt, as far as known.
    pub(super) used: u64,
    /// Where the vCPU runs.
    pub(super) on: Option<PcpuId>,
    /// Linked interrupts that were cleared by hand while it ran: the physical ones have to be ended where it does.
    pub(super) orphaned: u32,
    /// Of a GICv2: who has sent its software-generated interrupts.
    pub(super) sources: Option<Sources>,
}

impl Default for Private {
    /// Everything disabled. The virtual timer is linked to the physical one.
    fn default() -> Self {
        let bank = Bank::new(0, VTIMER_BIT, u32::MAX);
        Private { bank, lrs: [Lr::default(); MAX_LRS], used: 0, on: None, orphaned: 0, sources: None }
    }
}

impl Private {
    /// Whether the vCPU runs on this pCPU.
    pub(super) fn is_here<H: Hw>(&self) -> bool {
        self.on == Some(H::pcpu())
    }

    /// Whether nothing is in the list registers of this pCPU.
    pub(super) fn is_idle<H: Hw>(&self) -> bool {
        self.used & !H::empty_lrs() == 0
    }

    /// The list registers in use: from the hardware where they are this pCPU's, else as last written.
    fn contents<H: Hw>(&self) -> impl Iterator<Item = Lr> {
        let here = self.is_here::<H>();
        let written = |n: u32| self.lrs.get(n as usize).copied().unwrap_or_default();
        bits(self.used).map(move |n| if here { Lr(H::read_lr(n as usize)) } else { written(n) })
    }

    /// Which of the 32 interrupts from `base` are in one of these states here.
    pub(super) fn held<H: Hw>(&self, base: u32, states: u64) -> u32 {
        let held = self.contents::<H>().filter(|lr| lr.is(states));
        held.fold(0, |mask, lr| mask | 1u32.checked_shl(lr.irq().wrapping_sub(base)).unwrap_or(0))
    }

    /// Whether the guest, which runs here, could take one of its list registers' interrupts, now or when what has just ended is
    /// looked at.
    #[inline(never)]
    pub(super) fn is_deliverable<H: Hw>(&self) -> bool {
        self.contents::<H>().any(|lr| lr.is(Lr::PENDING) || lr.tells_end() && !lr.is(Lr::ACTIVE))
    }

    /// Puts an interrupt into list register `n` of this pCPU, as the last one for now.
    #[inline(always)]
    pub(super) fn put<H: Hw>(&mut self, n: usize, lr: Lr) {
        H::write_lr(n, lr.0);
        if let Some(written) = self.lrs.get_mut(n) {
            *written = lr;
        }
        self.used = (2 << n) - 1;
    }

    /// Puts the one private interrupt that is ready into the first list register, if there is no more than that, and nothing
    /// in them: the usual case, and the short one.
    #[inline(always)]
    pub(super) fn place_alone<H: Hw>(&mut self) -> bool {
        self.is_idle::<H>() && self.put_alone::<H>(self.bank.ready().trailing_zeros())
    }

    /// Puts private interrupt `i` into the first list register, all of which are empty, if nothing else is ready.
    #[inline(always)]
    pub(super) fn put_alone<H: Hw>(&mut self, i: u32) -> bool {
        let alone = self.bank.ready() == 1 << (i & 31) && self.bank.active == 0;
        if alone {
            let lr = self.bank.take_alone(i);
            self.put::<H>(0, lr);
        }
        alone
    }
}
