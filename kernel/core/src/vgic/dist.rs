//! The distributor: the shared interrupts of a domain, and the vCPUs that they are routed to.

use heapless::Vec;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::bank::{Bank, Home, Homes};
use super::queue::Queue;
use super::{Frame, GicLayout, PRIVATE, SPI_BANKS, Vcpus, Wake, index_of, low16};
use crate::hw::Hw;

/// No vCPU.
const NOBODY: u8 = 0xFF;
/// `GICD_IROUTER.Interrupt_Routing_Mode`: any vCPU may take it. The first one does.
const ANY: u64 = 1 << 31;
/// The affinity fields of `GICD_IROUTER`.
const AFFINITY: u64 = 0xFF_00FF_FFFF;

/// 32 shared interrupts.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) bank: Bank,
    /// The vCPU of each `GICD_IROUTER`, with [`ANY`] apart.
    route: [u8; 32],
    any: u32,
    /// The vCPU that each was last handed to; it may be there still.
    home: [u8; 32],
}

/// All shared interrupts of a domain.
pub(super) struct Spis {
    /// `GICD_CTLR.EnableGrp1` and `EnableGrp0`, bits 1 and 0.
    pub(super) groups: u8,
    banks: Vec<Shared, SPI_BANKS>,
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
    wake: Wake,
}

impl<V: Vcpus + ?Sized> Homes for Routes<'_, V> {
    fn with<R>(&mut self, i: u32, home: Home, work: impl FnOnce(&mut Queue) -> (R, bool)) -> Option<R> {
        let i = i as usize & 31;
        let index = match home {
            Home::Next => self.route[i],
            Home::Last => self.home[i],
        };
        let gic = self.vcpus.gic(usize::from(index))?;
        self.home[i] = index;
        let (result, wake) = gic.with_queue(work);
        if wake {
            self.wake.add(usize::from(index));
        }
        Some(result)
    }
}

impl Shared {
    fn split<'a, V: Vcpus + ?Sized>(&'a mut self, vcpus: &'a V) -> (&'a mut Bank, Routes<'a, V>) {
        (&mut self.bank, Routes { vcpus, route: &self.route, home: &mut self.home, wake: Wake::NONE })
    }

    /// `IROUTER` of interrupt `i` of the bank.
    pub(super) fn route(&self, i: u32) -> u64 {
        let any = if self.any >> (i & 31) & 1 != 0 { ANY } else { 0 };
        match self.route[i as usize & 31] {
            NOBODY => AFFINITY | any,
            index => super::affinity(usize::from(index)) | any,
        }
    }

    /// Writes `IROUTER`. An affinity that no vCPU has leaves the interrupt pending. One that waits goes along.
    pub(super) fn set_route<H: Hw>(&mut self, i: u32, value: u64, vcpus: &(impl Vcpus + ?Sized)) -> Wake {
        let (at, bit) = (i as usize & 31, 1 << (i & 31));
        let any = value & ANY != 0;
        let named = if any { Some(0) } else { index_of(value & AFFINITY) };
        let target = named.filter(|index| *index < vcpus.count()).and_then(|index| u8::try_from(index).ok());
        self.any = self.any & !bit | if any { bit } else { 0 };
        let before = core::mem::replace(&mut self.route[at], target.unwrap_or(NOBODY));
        let (bank, mut routes) = self.split(vcpus);
        if before != routes.route[at] && bank.enabled & bit != 0 {
            bank.take_back::<H>(i, &mut routes);
            bank.keep(i, &mut routes);
        }
        routes.wake
    }
}

impl Spis {
    fn index(irq: u32) -> Option<usize> {
        Some((irq.checked_sub(PRIVATE)? / 32) as usize)
    }

    /// The 32 shared interrupts around one.
    pub(super) fn get(&self, irq: u32) -> Option<&Shared> {
        self.banks.get(Self::index(irq)?)
    }

    /// The 32 shared interrupts around one.
    pub(super) fn get_mut(&mut self, irq: u32) -> Option<&mut Shared> {
        self.banks.get_mut(Self::index(irq)?)
    }
}

impl Distributor {
    /// A distributor of `spis` shared interrupts, rounded up to banks of 32, everything disabled.
    pub fn new(spis: u32, layout: GicLayout) -> Self {
        let shared = |base| Shared { bank: Bank::new(low16(base), 0, 0), route: [0; 32], any: 0, home: [NOBODY; 32] };
        let bases = (PRIVATE..).step_by(32).take((spis.div_ceil(32) as usize).min(SPI_BANKS));
        let banks: Vec<_, SPI_BANKS> = bases.map(shared).collect();
        Distributor { layout, banks: banks.len(), spis: SpinMutex::new(Spis { groups: 0, banks }) }
    }

    /// Where the guest sees it.
    pub fn layout(&self) -> &GicLayout {
        &self.layout
    }

    pub(super) fn lock(&self) -> SpinMutexGuard<'_, Spis> {
        self.spis.lock()
    }

    /// Reads `size` bytes of a register; `None` if it is of a vCPU that does not exist.
    #[inline]
    pub fn read<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), at: Frame, size: u8) -> Option<u64> {
        match at {
            Frame::Distributor(offset) => Some(self.read_dist::<H>(vcpus, offset, size)),
            Frame::Redistributor(index, offset) => self.read_redist::<H>(vcpus, index, offset, size),
        }
    }

    /// Writes `size` bytes of a register; `None` if it is of a vCPU that does not exist.
    #[inline]
    pub fn write<H: Hw>(&self, vcpus: &(impl Vcpus + ?Sized), at: Frame, size: u8, value: u64) -> Option<Wake> {
        match at {
            Frame::Distributor(offset) => Some(self.write_dist::<H>(vcpus, offset, size, value)),
            Frame::Redistributor(index, offset) => self.write_redist::<H>(vcpus, index, offset, size, value),
        }
    }

    /// Links a shared interrupt to the physical one of the same number: it is enabled and disabled with it, and ends
    /// with it.
    pub fn link(&self, irq: u32) {
        if let Some(shared) = self.lock().get_mut(irq) {
            shared.bank.linked |= 1 << (irq % 32);
        }
    }

    /// Whether a shared interrupt is linked to the physical one.
    pub fn is_linked(&self, irq: u32) -> bool {
        self.lock().get(irq).is_some_and(|shared| shared.bank.linked >> (irq % 32) & 1 != 0)
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
        change: impl FnOnce(&mut Bank, &mut Routes<'_, V>),
    ) -> Wake {
        let mut spis = self.lock();
        let Some(shared) = spis.get_mut(irq) else { return Wake::NONE };
        let (bank, mut routes) = shared.split(vcpus);
        change(bank, &mut routes);
        routes.wake
    }
}
