//! The part of the GIC that belongs to one vCPU: its private interrupts, and its way to the list registers.

use core::sync::atomic::{AtomicBool, Ordering};

use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::PRIVATE;
use super::bank::{Bank, Home, Homes};
use super::dist::Distributor;
use super::queue::Queue;
use crate::context::El1Context;
use crate::hw::{Hw, IntId};
use crate::vtimer;

/// Private interrupts and the queue, together under one lock.
pub(super) struct Private {
    pub(super) bank: Bank,
    pub(super) queue: Queue,
    /// The physical timer interrupt of the pCPU may be active on behalf of this vCPU, and must not stay so when
    /// another vCPU comes on.
    timer_taken: bool,
}

/// The GIC of one vCPU.
pub struct VcpuGic {
    /// Set when the return to the guest must look at the queue.
    dirty: AtomicBool,
    /// Guards the private interrupts and the queue. Taken inside the distributor's lock where both are held, and
    /// never together with that of another vCPU.
    state: SpinMutex<Private>,
}

/// The one queue where private interrupts go.
pub(super) struct Own<'a> {
    queue: &'a mut Queue,
    woken: bool,
}

impl Homes for Own<'_> {
    #[inline]
    fn with<R>(&mut self, _: u32, _: Home, work: impl FnOnce(&mut Queue) -> (R, bool)) -> Option<R> {
        let (result, wake) = work(self.queue);
        self.woken |= wake;
        Some(result)
    }
}

impl Private {
    fn split(&mut self) -> (&mut Bank, Own<'_>) {
        (&mut self.bank, Own { queue: &mut self.queue, woken: false })
    }
}

/// Software-generated interrupts are edges, always.
const SGIS: u32 = 0xFFFF;

impl VcpuGic {
    /// A GIC with everything disabled. The virtual timer is linked to the physical one.
    pub const fn new() -> Self {
        let bank = Bank::new(0, SGIS, 1 << vtimer::VIRTUAL_PPI);
        let state = Private { bank, queue: Queue::new(), timer_taken: false };
        VcpuGic { dirty: AtomicBool::new(false), state: SpinMutex::new(state) }
    }

    pub(super) fn lock(&self) -> SpinMutexGuard<'_, Private> {
        self.state.lock()
    }

    fn mark(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    /// Changes private interrupts; true if the guest could take one now that it could not before, so that the
    /// caller must notify the vCPU.
    pub(super) fn change(&self, f: impl FnOnce(&mut Bank, &mut Own<'_>)) -> bool {
        let mut state = self.state.lock();
        let (bank, mut own) = state.split();
        f(bank, &mut own);
        let woken = own.woken;
        if woken {
            self.mark();
        }
        woken
    }

    /// Makes a private interrupt pending, as an edge does. True if the caller must notify the vCPU.
    pub fn raise(&self, irq: u32) -> bool {
        irq < PRIVATE && self.change(|bank, own| bank.raise(irq, own))
    }

    /// The virtual timer's physical interrupt has come in on the pCPU where the vCPU runs, and is active until the
    /// guest ends it.
    pub(crate) fn raise_timer<H: Hw>(&self) {
        let mut state = self.state.lock();
        state.timer_taken = true;
        self.raise_here::<H>(&mut state, vtimer::VIRTUAL_PPI);
    }

    /// The vCPU, which runs here, interrupts itself.
    #[inline]
    pub(crate) fn raise_own_sgi<H: Hw>(&self, irq: u32, group1: bool) {
        let mut state = self.state.lock();
        if (state.bank.group1 >> (irq & 15) & 1 != 0) == group1 {
            self.raise_here::<H>(&mut state, irq & 15);
        }
    }

    /// Makes a private interrupt pending for the vCPU, which runs here and looks at its queue before it goes on.
    #[inline]
    fn raise_here<H: Hw>(&self, state: &mut Private, irq: u32) {
        if let Some(entry) = state.bank.take_edge(irq)
            && !state.queue.place_alone::<H>(entry)
        {
            state.queue.push(entry);
            self.mark();
        }
    }

    /// Raises or lowers the line of a private interrupt. True if the caller must notify the vCPU.
    pub fn set_level<H: Hw>(&self, irq: u32, high: bool) -> bool {
        irq < PRIVATE && self.change(|bank, own| bank.set_level::<H>(irq, high, own))
    }

    /// Works on its queue; `work` also says whether the vCPU must look at it, and the caller then notifies it.
    pub(super) fn with_queue<R>(&self, work: impl FnOnce(&mut Queue) -> (R, bool)) -> (R, bool) {
        let (result, wake) = work(&mut self.state.lock().queue);
        if wake {
            self.mark();
        }
        (result, wake)
    }

    /// Whether an interrupt is pending that the guest could take.
    pub fn deliverable<H: Hw>(&self) -> bool {
        self.state.lock().queue.is_deliverable::<H>()
    }

    /// Whether [`Self::flush`] has something to do.
    pub fn dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Brings the list registers of this pCPU, where the vCPU runs, up to date.
    #[inline(never)]
    pub fn flush<H: Hw>(&self, dist: &Distributor) {
        self.dirty.store(false, Ordering::Relaxed);
        if !self.state.lock().queue.place_only::<H>() {
            self.flush_all::<H>(dist);
        }
    }

    #[inline(never)]
    fn flush_all<H: Hw>(&self, dist: &Distributor) {
        if self.state.lock().queue.is_suspect() {
            self.recall::<H>(dist);
        }
        if self.state.lock().queue.place::<H>() {
            self.mark();
        }
    }

    /// Takes back interrupts that were disabled or cleared by another vCPU while they were in list registers here.
    fn recall<H: Hw>(&self, dist: &Distributor) {
        let mut spis = dist.lock();
        let Private { bank, queue, .. } = &mut *self.state.lock();
        for irq in queue.suspects().into_iter().map(u32::from) {
            let bank = spis.get_mut(irq).map_or(&mut *bank, |shared| &mut shared.bank);
            bank.recall::<H>(irq % 32, queue);
        }
    }

    /// Looks at what the guest has ended: a level interrupt whose line is still high becomes pending again.
    pub(super) fn maintain<H: Hw>(&self, dist: &Distributor) {
        let mut spis = dist.lock();
        let mut state = self.state.lock();
        let (bank, mut own) = state.split();
        for irq in own.queue.collect::<H>().into_iter().map(u32::from) {
            spis.get_mut(irq).map_or(&mut *bank, |shared| &mut shared.bank).submit(irq % 32, &mut own);
        }
        self.mark();
    }

    /// Puts the vCPU's list registers on this pCPU. `el1` is what is being loaded: a virtual timer that is due is
    /// delivered right away instead of by a physical interrupt after the entry.
    pub fn load<H: Hw>(&self, el1: &El1Context) {
        let mut state = self.state.lock();
        let bit = 1 << vtimer::VIRTUAL_PPI;
        let mut flight = state.bank.latch & bit != 0 || state.queue.holds(VTIMER_IRQ);
        let mut again = state.queue.load::<H>();
        if !flight && state.bank.enabled & bit != 0 && vtimer::is_due(el1, H::now()) {
            let (bank, mut own) = state.split();
            bank.raise(vtimer::VIRTUAL_PPI, &mut own);
            (flight, again) = (true, true);
        }
        state.timer_taken = flight;
        if flight {
            // The guest's deactivation ends the physical interrupt of the pCPU that it runs on by then.
            H::set_active(VTIMER, true);
        }
        if again {
            self.mark();
        }
    }

    /// Takes the vCPU's list registers off this pCPU.
    pub fn unload<H: Hw>(&self) {
        let mut state = self.state.lock();
        state.queue.unload::<H>();
        if core::mem::take(&mut state.timer_taken) {
            H::set_active(VTIMER, false);
        }
    }

    /// Which of the 32 interrupts from `base` are pending or active in its queue or list registers.
    pub(super) fn held<H: Hw>(&self, base: u32, state: u64) -> u32 {
        self.state.lock().queue.held::<H>(base, state)
    }

    /// The distributor forwards these groups from now on.
    pub(super) fn set_groups(&self, groups: u8) -> bool {
        let mut state = self.state.lock();
        state.queue.groups = groups;
        self.mark();
        groups != 0
    }

    /// The group of each private interrupt, for who sends a software-generated one.
    pub(super) fn raise_sgi(&self, irq: u32, group1: bool) -> bool {
        self.change(|bank, own| {
            if (bank.group1 >> (irq & 15) & 1 != 0) == group1 {
                bank.raise(irq & 15, own);
            }
        })
    }
}

const VTIMER: IntId = IntId(vtimer::VIRTUAL_PPI);
const VTIMER_IRQ: u16 = 27;
const _: () = assert!(VTIMER_IRQ as u32 == vtimer::VIRTUAL_PPI);

impl Default for VcpuGic {
    fn default() -> Self {
        Self::new()
    }
}
