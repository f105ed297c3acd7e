//! The part of the GIC that belongs to one vCPU: its private interrupts and its list registers.

use hypercall_abi::arm::GUEST_TIMER_VIRT_PPI;

use super::dist::refill;
use super::private::{Lr, Private};
use crate::exit::VTIMER_PPI;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::Current;
use crate::sync::{AtomicU8, Ordering, SpinMutex};
use crate::vtimer;

/// The GIC of one vCPU.
#[derive(Default)]
pub struct VcpuGic {
    /// What the next return to the guest must look at, [`OWN`] or [`ALL`]. Set after what it is about has changed, and
    /// taken before that is looked at.
    pub(super) marks: AtomicU8,
    /// Guards the private interrupts and the list registers. Taken inside the distributor's lock where both are
    /// held, and never together with that of another vCPU.
    pub(super) state: SpinMutex<Private>,
}

/// A private interrupt has changed.
pub(super) const OWN: u8 = 1;
/// A shared interrupt of this vCPU has changed, or list registers have to be filled anew for another reason.
pub(super) const ALL: u8 = 2;
/// The virtual timer's interrupt among the private ones.
pub(super) const VTIMER_BIT: u32 = 1 << GUEST_TIMER_VIRT_PPI;

impl VcpuGic {
    /// Makes the next return to the guest look. SeqCst as in `deliverable`.
    pub(super) fn mark(&self, what: u8) {
        self.marks.fetch_or(what, Ordering::SeqCst);
    }

    /// Whether the next return to the guest must look, through [`flush`]. Relaxed: who marks from elsewhere kicks behind it.
    pub fn dirty(&self) -> bool {
        self.marks.load(Ordering::Relaxed) != 0
    }

    /// Whether an interrupt is pending that the guest here could take, or may be after a look. A vCPU that goes to sleep
    /// says so before it asks, and whoever makes an interrupt pending marks it before waking it: one sees the other.
    #[inline(always)]
    pub fn deliverable<H: Hw>(&self) -> bool {
        if self.marks.load(Ordering::SeqCst) != 0 {
            return true;
        }
        let state = self.state.lock();
        !state.is_idle::<H>() && state.is_deliverable::<H>()
    }

    /// Changes private interrupts; true if the vCPU must look, so that the caller must notify it.
    #[inline]
    pub(super) fn change<H: Hw>(&self, change: impl FnOnce(&mut Private) -> u32) -> bool {
        let state = &mut *self.state.lock();
        let touched = change(state);
        let concerns = |mask: u32| touched & mask != 0;
        let held = || state.held::<H>(0, Lr::PENDING | Lr::ACTIVE);
        let look = touched != 0 && (concerns(state.bank.ready() | state.orphaned) || concerns(held()));
        if look {
            self.mark(if state.orphaned == 0 { OWN } else { ALL });
        }
        look
    }

    /// Makes a private interrupt pending, as an edge does. True if the caller must notify the vCPU.
    #[inline]
    pub fn raise<H: Hw>(&self, irq: u32) -> bool {
        self.raise_if::<H>(irq, false, None)
    }

    /// The same, if the interrupt is of this group, should one be given. A vCPU that is said to be `here` runs here, and need
    /// not be notified.
    #[inline(always)]
    pub(crate) fn raise_if<H: Hw>(&self, irq: u32, here: bool, group1: Option<bool>) -> bool {
        let mut state = self.state.lock();
        if group1.is_some_and(|group1| state.bank.is_group1(irq) != group1) {
            return false;
        }
        state.bank.raise(irq);
        if (here || state.is_here::<H>()) && state.is_idle::<H>() && state.put_alone::<H>(irq) {
            return false;
        }
        let look = state.bank.ready() >> (irq & 31) & 1 != 0;
        if look {
            self.mark(OWN);
        }
        look
    }

    /// Raises or lowers the line of a private interrupt, as `high` says under the lock. True if the caller must notify the
    /// vCPU.
    pub fn set_level<H: Hw>(&self, irq: u32, high: impl FnOnce() -> bool) -> bool {
        self.change::<H>(|state| state.bank.set_level(irq, high()))
    }

    /// A timer interrupt that came while it was disabled is delivered only if the timer still wants it.
    #[cold]
    #[inline(never)]
    pub(super) fn drop_late_timer<H: Hw>(&self) {
        let state = &mut *self.state.lock();
        if VTIMER_BIT & state.bank.latch & !state.bank.enabled != 0 && state.is_here::<H>() && !vtimer::line::<H>() {
            state.bank.latch &= !VTIMER_BIT;
            H::deactivate(VTIMER_PPI);
        }
    }

    /// Puts the vCPU on this pCPU. A virtual timer that is due is delivered right away instead of by a physical interrupt
    /// after the entry, and so is the one private interrupt that the vCPU was woken for.
    #[inline(always)]
    pub fn load<H: Hw>(&self, due: bool) {
        let mut state = self.state.lock();
        state.on = Some(H::pcpu());
        let bank = &mut state.bank;
        if due && VTIMER_BIT & bank.enabled & !(bank.latch | bank.active) != 0 {
            bank.raise(GUEST_TIMER_VIRT_PPI);
            self.mark(OWN);
        }
        if (bank.latch | bank.active) & VTIMER_BIT != 0 {
            // The guest's deactivation ends the physical interrupt of the pCPU that it runs on by then.
            H::set_active(VTIMER_PPI, true);
        }
        // Its list registers are empty. What is not so simple is left to `flush`.
        if self.marks.compare_exchange(OWN, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            let first = state.bank.ready().trailing_zeros();
            if !state.put_alone::<H>(first) {
                self.mark(OWN);
            }
        }
    }

    /// Takes the vCPU off this pCPU. What its list registers hold waits until it is on one again; a shared interrupt that
    /// goes to another one by now is handed on, since this one may never be back. True if the virtual timer's interrupt is
    /// in flight: when that timer is stopped, the caller ends the physical one, so that the next vCPU's can come.
    #[inline]
    pub fn unload<H: Hw>(kernel: &Kernel<H>, current: &Current<H>) -> bool {
        let gic = &current.vcpu.gic;
        let mut state = gic.state.lock();
        if gic.marks.load(Ordering::SeqCst) & ALL != 0 || !state.is_idle::<H>() {
            drop(state);
            refill(kernel, current, 0);
            state = gic.state.lock();
        }
        (state.used, state.on) = (0, None);
        (state.bank.latch | state.bank.active) & VTIMER_BIT != 0
    }
}
