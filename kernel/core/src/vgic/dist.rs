//! The distributor: the shared interrupts of a domain, and the choice of what goes into list registers.

use heapless::Vec;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::bank::Bank;
use super::lists::{Lr, MAX_LRS};
use super::vcpu::{ALL, Private};
use super::{GicLayout, PRIVATE, SPI_BANKS, bits, index_of};
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::Current;

/// In place of a vCPU's index: none.
const NOBODY: u8 = 0xFF;
/// `GICD_IROUTER.Interrupt_Routing_Mode`: any vCPU may take it. The first one does.
const ANY: u32 = 1 << 31;
/// The affinity fields of `GICD_IROUTER`, but for affinity 3.
const AFFINITY: u32 = 0xFF_FFFF;

/// The distributor of a domain.
pub struct Distributor {
    /// Where the guest sees it.
    pub layout: GicLayout,
    /// Banks of shared interrupts.
    pub(super) banks: usize,
    /// Guards the shared interrupts. Taken before the lock of a vCPU's GIC.
    spis: SpinMutex<Spis>,
}

/// The shared interrupts.
pub(super) struct Spis(pub(super) Vec<Shared, SPI_BANKS>);

/// 32 shared interrupts.
pub(super) struct Shared {
    pub(super) bank: Bank,
    /// `GICD_IROUTER`, the lower half. An affinity that no vCPU has leaves the interrupt pending.
    pub(super) route: [u32; 32],
    /// The vCPU in whose list registers each may be, or that has not ended it; [`NOBODY`] if that is not so.
    home: [u8; 32],
}

impl Distributor {
    /// A distributor of `spis` shared interrupts, rounded up to banks of 32, everything disabled.
    pub fn new(spis: u32, layout: GicLayout) -> Self {
        let bank = |base| Shared { bank: Bank::new(base, 0, 0), route: [0; 32], home: [NOBODY; 32] };
        let bases = (PRIVATE..).step_by(32).take((spis.div_ceil(32) as usize).min(SPI_BANKS));
        let banks: Vec<_, SPI_BANKS> = bases.map(bank).collect();
        Distributor { layout, banks: banks.len(), spis: SpinMutex::new(Spis(banks)) }
    }

    pub(super) fn lock(&self) -> SpinMutexGuard<'_, Spis> {
        self.spis.lock()
    }

    /// Links a shared interrupt to the physical one of the same number: it is enabled and disabled with it, and ends
    /// with it.
    pub fn link(&self, irq: u32) {
        if let Some(bank) = self.lock().bank(irq) {
            bank.linked |= 1 << (irq % 32);
        }
    }
}

impl Spis {
    /// The 32 shared interrupts around one.
    pub(super) fn get(&mut self, irq: u32) -> Option<&mut Shared> {
        self.0.get_mut((irq.checked_sub(PRIVATE)? / 32) as usize)
    }

    /// The bank of a shared interrupt.
    pub(super) fn bank(&mut self, irq: u32) -> Option<&mut Bank> {
        self.get(irq).map(|shared| &mut shared.bank)
    }
}

impl Shared {
    /// Writes the lower half of `IROUTER`.
    pub(super) fn set_route(&mut self, i: u32, value: u32) -> u32 {
        self.route[i as usize & 31] = value & (ANY | AFFINITY);
        1 << (i & 31)
    }

    /// The vCPU that has interrupt `i`, or else the one that shall take it.
    fn owner(&self, i: u32) -> usize {
        match (self.home[i as usize & 31], self.route[i as usize & 31]) {
            (NOBODY, ANY..) => 0,
            (NOBODY, route) => index_of(u64::from(route)).unwrap_or(usize::MAX),
            (home, _) => usize::from(home),
        }
    }

    /// Makes the owner of interrupt `i` look.
    fn tell<H: Hw>(&self, kernel: &Kernel<H>, domain: &Domain<H>, i: u32) {
        if let Some(vcpu) = domain.vcpus().get(self.owner(i)) {
            vcpu.gic.mark(ALL);
            kernel.notify(vcpu);
        }
    }

    /// Makes the vCPUs look whom a change of these interrupts concerns.
    #[inline(never)]
    pub(super) fn settle<H: Hw>(&mut self, kernel: &Kernel<H>, domain: &Domain<H>, touched: u32) {
        for i in bits(touched) {
            let (bit, home) = (1 << i, &mut self.home[i as usize & 31]);
            let at_home = domain.vcpus().get(usize::from(*home)).is_some_and(|vcpu| {
                let state = vcpu.gic.lock();
                let held = state.lists.held::<H>(self.bank.base, Lr::PENDING | Lr::ACTIVE);
                let at_home = (self.bank.active | held) & bit != 0;
                if at_home {
                    // Inside the lock, so that a vCPU that is being taken off has either given it back or sees this.
                    vcpu.gic.mark(ALL);
                }
                at_home
            });
            if !at_home {
                *home = NOBODY;
            }
            if at_home || self.bank.ready() & bit != 0 {
                self.tell(kernel, domain, i);
            }
        }
    }

    /// Whether vCPU `index`, whose list registers are empty, shall take interrupt `i`, which is ready. One that it had goes
    /// on to where it is routed now, unless it is active.
    pub(super) fn claim<H: Hw>(&mut self, kernel: &Kernel<H>, current: &Current<H>, i: u32) -> bool {
        let index = current.vcpu.id.0 as usize;
        if self.owner(i) == index && self.bank.active >> i & 1 == 0 {
            self.home[i as usize & 31] = NOBODY;
            if self.owner(i) != index {
                self.tell(kernel, &current.domain, i);
                // The other one may wait for this pCPU, which has chosen already: it comes back at once to choose again.
                H::kick(H::pcpu());
            }
        }
        self.owner(i) == index
    }
}

/// Makes a shared interrupt pending, as an edge does.
pub fn raise<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, irq: u32) {
    change(kernel, domain, irq, |shared| shared.bank.raise(irq));
}

/// Raises or lowers the line of a shared interrupt.
pub fn set_level<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, irq: u32, high: bool) {
    change(kernel, domain, irq, |shared| shared.bank.set_level(irq, high));
}

/// Changes shared interrupts around `irq`; nothing happens if there are none.
pub(super) fn change<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, irq: u32, change: impl FnOnce(&mut Shared) -> u32) {
    if let Some(shared) = domain.dist.lock().get(irq) {
        let touched = change(shared);
        shared.settle(kernel, domain, touched);
    }
}

/// Brings the list registers of this pCPU up to date for the vCPU that goes on here.
#[inline(never)]
pub fn flush<H: Hw>(kernel: &Kernel<H>, current: &Current<H>) {
    if !current.vcpu.gic.flush_alone::<H>() {
        refill(kernel, current);
    }
}

/// Takes everything out of the list registers, and puts the most urgent of what is ready there.
#[inline(never)]
fn refill<H: Hw>(kernel: &Kernel<H>, current: &Current<H>) {
    let (gic, index) = (&current.vcpu.gic, u8::try_from(current.vcpu.id.0).unwrap_or(NOBODY));
    let (spis, state) = (&mut *current.domain.dist.lock(), &mut *gic.lock());
    state.sync::<H>(spis);
    let Private { bank, lists, .. } = state;
    let mut ready: Vec<Lr, { PRIVATE as usize + SPI_BANKS * 32 }> =
        bits(bank.ready()).map(|i| bank.entry(i, bank.state(i))).collect();
    for shared in &mut spis.0 {
        for i in bits(shared.bank.ready()) {
            if shared.claim(kernel, current, i) {
                // There is room for every interrupt once.
                let _ = ready.push(shared.bank.entry(i, shared.bank.state(i)));
            }
        }
    }
    ready.sort_unstable_by_key(|lr| lr.rank());
    let room = H::list_registers().min(MAX_LRS);
    let mut again = ready.len() > room;
    // With a single list register the underflow condition would hold all the time.
    lists.notify_underflow::<H>(again && room > 1);
    for (n, lr) in ready.into_iter().take(room).enumerate() {
        let i = lr.irq() % 32;
        if let Some(shared) = spis.get(lr.irq()) {
            shared.home[i as usize] = index;
        }
        let bank = spis.bank(lr.irq()).unwrap_or(&mut *bank);
        bank.take(i, lr);
        // A linked one that is active and pending again waits until the guest has ended it.
        again |= bank.ready() >> i & 1 != 0;
        lists.put::<H>(n, lr);
    }
    if again {
        gic.mark(ALL);
    }
}
