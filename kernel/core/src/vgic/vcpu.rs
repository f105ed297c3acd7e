//! The part of the GIC that belongs to one vCPU: its private interrupts and its list registers.

use core::sync::atomic::{AtomicU8, Ordering};

use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::bank::Bank;
use super::bits;
use super::dist::Spis;
use super::lists::{Lists, Lr};
use crate::context::El1Context;
use crate::hw::{Hw, IntId};
use crate::kernel::Kernel;
use crate::local::Current;
use crate::vtimer;

/// Private interrupts and list registers, together under one lock.
pub(super) struct Private {
    pub(super) bank: Bank,
    pub(super) lists: Lists,
}

/// The GIC of one vCPU.
pub struct VcpuGic {
    /// What the next return to the guest must look at, [`OWN`] or [`ALL`]. Set after what it is about has changed, and
    /// taken before that is looked at.
    marks: AtomicU8,
    /// Guards the private interrupts and the list registers. Taken inside the distributor's lock where both are
    /// held, and never together with that of another vCPU.
    state: SpinMutex<Private>,
}

/// A private interrupt has changed.
pub(super) const OWN: u8 = 1;
/// A shared interrupt of this vCPU has changed, or list registers have to be filled anew for another reason.
pub(super) const ALL: u8 = 2;
/// Software-generated interrupts are edges, always.
const SGIS: u32 = 0xFFFF;
const VTIMER: IntId = IntId(vtimer::VIRTUAL_PPI);
pub(super) const VTIMER_BIT: u32 = 1 << vtimer::VIRTUAL_PPI;

impl VcpuGic {
    pub(super) fn lock(&self) -> SpinMutexGuard<'_, Private> {
        self.state.lock()
    }

    /// Makes the next return to the guest look. SeqCst as in `deliverable`.
    pub(super) fn mark(&self, what: u8) {
        self.marks.fetch_or(what, Ordering::SeqCst);
    }

    /// Whether the next return to the guest must look, through [`flush`].
    pub fn dirty(&self) -> bool {
        self.marks.load(Ordering::Relaxed) != 0
    }

    /// Whether an interrupt is pending that the guest could take, or one may be after a look. A vCPU that goes to sleep
    /// says so before it asks, and whoever makes an interrupt pending marks it before waking it, so that one sees the other.
    pub fn deliverable<H: Hw>(&self) -> bool {
        self.marks.load(Ordering::SeqCst) != 0 || self.lock().lists.is_deliverable::<H>()
    }

    /// Changes private interrupts; true if the vCPU must look, so that the caller must notify it.
    #[inline]
    pub(super) fn change<H: Hw>(&self, change: impl FnOnce(&mut Bank, &Lists) -> u32) -> bool {
        let Private { bank, lists } = &mut *self.lock();
        let touched = change(bank, lists);
        let concerns = |mask: u32| touched & mask != 0;
        let look = touched != 0 && (concerns(bank.ready()) || concerns(lists.held::<H>(0, Lr::PENDING | Lr::ACTIVE)));
        if look {
            self.mark(OWN);
        }
        look
    }

    /// Makes a private interrupt pending, as an edge does. True if the caller must notify the vCPU.
    #[inline]
    pub fn raise<H: Hw>(&self, irq: u32) -> bool {
        self.raise_if::<H>(irq, false, |_| true)
    }

    /// The same for the vCPU that runs here.
    #[inline]
    pub(crate) fn raise_here<H: Hw>(&self, irq: u32) {
        self.raise_if::<H>(irq, true, |_| true);
    }

    /// A vCPU sends a software-generated interrupt to another or itself, if it is of this group here. True if the caller
    /// must notify the vCPU, unless that runs here.
    #[inline(always)]
    pub(super) fn raise_sgi<H: Hw>(&self, irq: u32, here: bool, group1: bool) -> bool {
        self.raise_if::<H>(irq, here, |bank| bank.is_group1(irq) == group1)
    }

    #[inline(always)]
    fn raise_if<H: Hw>(&self, irq: u32, here: bool, condition: impl FnOnce(&Bank) -> bool) -> bool {
        let mut state = self.lock();
        if !condition(&state.bank) {
            return false;
        }
        state.bank.raise(irq);
        if (here || state.lists.is_here::<H>()) && state.place_alone::<H>(irq) {
            return false;
        }
        let look = state.bank.ready() >> (irq & 31) & 1 != 0;
        if look {
            self.mark(OWN);
        }
        look
    }

    /// Raises or lowers the line of a private interrupt. True if the caller must notify the vCPU.
    pub fn set_level<H: Hw>(&self, irq: u32, high: bool) -> bool {
        self.change::<H>(|bank, _| bank.set_level(irq, high))
    }

    /// Brings the list registers of this pCPU, where the vCPU runs, up to date, if no more than one private interrupt is to
    /// be put into an idle one: the usual case, and the short one.
    #[inline]
    pub(super) fn flush_alone<H: Hw>(&self) -> bool {
        if self.marks.swap(0, Ordering::SeqCst) & ALL != 0 {
            return false;
        }
        let mut state = self.lock();
        let first = state.bank.ready().trailing_zeros();
        state.place_alone::<H>(first)
    }

    /// A timer interrupt that came while it was disabled is delivered only if the timer still wants it.
    #[cold]
    #[inline(never)]
    pub(super) fn drop_late_timer<H: Hw>(&self) {
        let Private { bank, lists } = &mut *self.lock();
        if VTIMER_BIT & bank.latch & !bank.enabled != 0 && lists.is_here::<H>() && !vtimer::line::<H>() {
            bank.latch &= !VTIMER_BIT;
            H::deactivate(VTIMER);
        }
    }

    /// Puts the vCPU on this pCPU. `el1` is what is being loaded: a virtual timer that is due is delivered right away
    /// instead of by a physical interrupt after the entry.
    pub fn load<H: Hw>(&self, el1: &El1Context) {
        let Private { bank, lists } = &mut *self.lock();
        lists.on = Some(H::pcpu());
        if bank.enabled & VTIMER_BIT != 0 && !bank.is_in_flight(VTIMER_BIT) && vtimer::is_due(el1, H::now()) {
            bank.raise(vtimer::VIRTUAL_PPI);
            self.mark(OWN);
        }
        if bank.is_in_flight(VTIMER_BIT) {
            // The guest's deactivation ends the physical interrupt of the pCPU that it runs on by then.
            H::set_active(VTIMER, true);
        }
    }

    /// Takes the vCPU off this pCPU. What its list registers hold waits until it is on one again; a shared interrupt that
    /// goes to another one by now is handed on, since this one may never be back.
    pub fn unload<H: Hw>(kernel: &Kernel<H>, current: &Current<H>) {
        let gic = &current.vcpu.gic;
        let in_use = {
            let lists = &mut gic.lock().lists;
            lists.used &= !H::empty_lrs();
            lists.used != 0
        };
        if in_use || gic.marks.load(Ordering::SeqCst) & ALL != 0 {
            let spis = &mut *current.domain.dist.lock();
            gic.lock().sync::<H>(spis);
            for shared in &mut spis.0 {
                for i in bits(shared.bank.ready()) {
                    shared.claim(kernel, current, i);
                }
            }
            gic.mark(ALL);
        }
        let Private { bank, lists } = &mut *gic.lock();
        lists.notify_underflow::<H>(false);
        lists.on = None;
        if bank.is_in_flight(VTIMER_BIT) {
            // The next vCPU's timer must be able to interrupt.
            H::set_active(VTIMER, false);
        }
    }
}

impl Private {
    /// Puts private interrupt `i` into the first list register, if nothing else is ready and nothing is there.
    #[inline(always)]
    fn place_alone<H: Hw>(&mut self, i: u32) -> bool {
        let alone = self.bank.ready() == 1 << (i & 31) && self.bank.active == 0 && self.lists.is_idle::<H>();
        if alone {
            self.lists.put::<H>(0, self.bank.take_alone(i));
        }
        alone
    }

    /// Takes everything out of the list registers of this pCPU, so that it is known again.
    pub(super) fn sync<H: Hw>(&mut self, spis: &mut Spis) {
        let Private { bank, lists } = self;
        lists.drain::<H>(|lr| spis.bank(lr.irq()).unwrap_or(&mut *bank).fold::<H>(lr));
    }
}

impl Default for VcpuGic {
    /// A GIC with everything disabled. The virtual timer is linked to the physical one.
    fn default() -> Self {
        let bank = Bank::new(0, SGIS, VTIMER_BIT);
        let state = Private { bank, lists: Lists::default() };
        VcpuGic { marks: AtomicU8::new(0), state: SpinMutex::new(state) }
    }
}
