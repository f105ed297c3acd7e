//! The distributor: the shared interrupts of a domain, and the vCPUs that they are routed to.

use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::bank::{Bank, Homes};
use super::queue::{Flags, Waiting, Withdrawn};
use super::{GicLayout, PRIVATE, SPI_BANKS, Vcpus, Wake, index_of};
use crate::hw::{Hw, IntId};

/// No vCPU.
const NOBODY: u8 = 0xFF;
/// `GICD_IROUTER.Interrupt_Routing_Mode`: any vCPU may take it. The first one does.
const ANY: u64 = 1 << 31;
/// The affinity fields of `GICD_IROUTER`.
const AFFINITY: u64 = 0xFF_00FF_FFFF;

/// 32 shared interrupts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared {
    pub(super) bank: Bank,
    /// `GICD_IROUTER`, the affinity squeezed into 32 bits and [`ANY`] apart.
    route: [u8; 32],
    any: u32,
    /// The vCPU that each was last handed to; it may be there still.
    home: [u8; 32],
}

/// All shared interrupts of a domain.
pub(super) struct Spis {
    /// `GICD_CTLR.EnableGrp1` and `EnableGrp0`, bits 1 and 0.
    pub(super) groups: u8,
    banks: [Shared; SPI_BANKS],
    count: usize,
}

/// The distributor of a domain.
pub struct Distributor {
    layout: GicLayout,
    /// Banks of shared interrupts.
    pub(super) banks: usize,
    /// Guards the shared interrupts. Taken before the lock of a vCPU's GIC.
    spis: SpinMutex<Spis>,
}

/// Where the interrupts of one bank go.
pub(super) struct Routes<'a, V: ?Sized> {
    vcpus: &'a V,
    route: &'a [u8; 32],
    home: &'a mut [u8; 32],
    pub(super) wake: Wake,
}

impl<V: Vcpus + ?Sized> Homes for Routes<'_, V> {
    fn deliver(&mut self, i: u32, entry: Waiting) -> bool {
        let (i, target) = (i as usize & 31, self.route[i as usize & 31]);
        let Some(gic) = self.vcpus.gic(usize::from(target)) else { return false };
        self.home[i] = target;
        if gic.push(entry) {
            self.wake.add(usize::from(target));
        }
        true
    }

    fn withdraw<H: Hw>(&mut self, i: u32, irq: u16, state: Flags) -> Withdrawn {
        let home = usize::from(self.home[i as usize & 31]);
        let Some(gic) = self.vcpus.gic(home) else { return Withdrawn::Absent };
        let withdrawn = gic.withdraw::<H>(irq, state);
        if withdrawn == Withdrawn::Later {
            self.wake.add(home);
        }
        withdrawn
    }

    fn keep(&mut self, i: u32, irq: u16) {
        if let Some(gic) = self.vcpus.gic(usize::from(self.home[i as usize & 31])) {
            gic.keep(irq);
        }
    }

    fn end<H: Hw>(&mut self, irq: u16) {
        H::deactivate(IntId(u32::from(irq)));
    }
}

impl Shared {
    fn new(number: usize, exists: u32) -> Self {
        let base = PRIVATE as usize + 32 * number;
        let bank = Bank::new(u16::try_from(base).unwrap_or(u16::MAX), exists);
        Shared { bank, route: [0; 32], any: 0, home: [NOBODY; 32] }
    }

    pub(super) fn split<'a, V: Vcpus + ?Sized>(&'a mut self, vcpus: &'a V) -> (&'a mut Bank, Routes<'a, V>) {
        let routes = Routes { vcpus, route: &self.route, home: &mut self.home, wake: Wake::NONE };
        (&mut self.bank, routes)
    }

    /// `IROUTER` of interrupt `i` of the bank.
    pub(super) fn route(&self, i: u32) -> u64 {
        let target = self.route[i as usize & 31];
        let any = if self.any >> (i & 31) & 1 != 0 { ANY } else { 0 };
        if target == NOBODY { AFFINITY | any } else { super::affinity(usize::from(target)) | any }
    }

    /// Writes `IROUTER`. An affinity that no vCPU has leaves the interrupt pending. One that waits goes along.
    pub(super) fn set_route<H: Hw>(&mut self, i: u32, value: u64, vcpus: &(impl Vcpus + ?Sized)) -> Wake {
        let (at, bit) = (i as usize & 31, 1 << (i & 31));
        let any = value & ANY != 0;
        let named = if any { Some(0) } else { index_of(value & AFFINITY) };
        let target = named.filter(|index| *index < vcpus.count()).and_then(|index| u8::try_from(index).ok());
        self.any = self.any & !bit | if any { bit } else { 0 };
        let before = core::mem::replace(&mut self.route[at], target.unwrap_or(NOBODY));
        if before == self.route[at] {
            return Wake::NONE;
        }
        let (bank, mut routes) = self.split(vcpus);
        // Off and on again moves what has not been taken yet.
        let enabled = bank.enabled & bit;
        bank.disable::<H>(enabled, &mut routes);
        bank.enable(enabled, &mut routes);
        routes.wake
    }
}

impl Spis {
    fn place(&self, irq: u32) -> Option<usize> {
        let index = (irq.checked_sub(PRIVATE)? / 32) as usize;
        (index < self.count).then_some(index)
    }

    /// The bank of a shared interrupt.
    pub(super) fn bank(&self, irq: u32) -> Option<&Bank> {
        Some(&self.banks.get(self.place(irq)?)?.bank)
    }

    /// The bank of a shared interrupt.
    pub(super) fn bank_mut(&mut self, irq: u32) -> Option<&mut Bank> {
        let index = self.place(irq)?;
        Some(&mut self.banks.get_mut(index)?.bank)
    }

    /// The 32 shared interrupts around one.
    pub(super) fn shared(&mut self, irq: u32) -> Option<&mut Shared> {
        let index = self.place(irq)?;
        self.banks.get_mut(index)
    }
}

impl Distributor {
    /// A distributor of `spis` shared interrupts, rounded up to banks of 32, everything disabled.
    pub fn new(spis: u32, layout: GicLayout) -> Self {
        let count = (spis.div_ceil(32) as usize).min(SPI_BANKS);
        let banks = core::array::from_fn(|n| Shared::new(n, if n < count { u32::MAX } else { 0 }));
        Distributor { layout, banks: count, spis: SpinMutex::new(Spis { groups: 0, banks, count }) }
    }

    /// Where the guest sees it.
    pub fn layout(&self) -> &GicLayout {
        &self.layout
    }

    pub(super) fn lock(&self) -> SpinMutexGuard<'_, Spis> {
        self.spis.lock()
    }

    /// Links a shared interrupt to the physical one of the same number: it is enabled and disabled with it, and ends
    /// with it.
    pub fn link(&self, irq: u32) {
        if let Some(bank) = self.spis.lock().bank_mut(irq) {
            bank.linked |= 1 << (irq % 32);
        }
    }

    /// Whether a shared interrupt is linked to the physical one.
    pub fn is_linked(&self, irq: u32) -> bool {
        self.spis.lock().bank(irq).is_some_and(|bank| bank.linked >> (irq % 32) & 1 != 0)
    }

    /// Makes a shared interrupt pending, as an edge does.
    pub fn raise<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), irq: u32) -> Wake {
        self.change(vcpus, irq, |bank, routes| bank.raise(irq % 32, routes))
    }

    /// Raises or lowers the line of a shared interrupt.
    pub fn set_level<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), irq: u32, high: bool) -> Wake {
        self.change(vcpus, irq, |bank, routes| bank.set_level::<H>(irq % 32, high, routes))
    }

    /// Changes the bank of a shared interrupt; nothing happens if there is none.
    pub(super) fn change<V: Vcpus + ?Sized>(
        &self,
        vcpus: &V,
        irq: u32,
        f: impl FnOnce(&mut Bank, &mut Routes<'_, V>),
    ) -> Wake {
        let mut spis = self.spis.lock();
        let Some(shared) = spis.shared(irq) else { return Wake::NONE };
        let (bank, mut routes) = shared.split(vcpus);
        f(bank, &mut routes);
        routes.wake
    }
}
