//! The distributor: the shared interrupts of a domain, and the choice of what goes into list registers.

use heapless::Vec;
use hypercall_abi::arm::vcpu_of_affinity;

use super::bank::Bank;
use super::private::{Lr, MAX_LRS};
use super::vcpu::ALL;
use super::{GicLayout, PRIVATE, SPI_BANKS, bits};
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::Current;
use crate::sync::{Ordering, SpinMutex, SpinMutexGuard};

/// `GICD_IROUTER.Interrupt_Routing_Mode`: any vCPU may take it. The first one does.
const ANY: u32 = 1 << 31;
/// The affinity fields of `GICD_IROUTER`, but for affinity 3.
const AFFINITY: u32 = 0xFF_FFFF;

/// The distributor of a domain.
pub struct Distributor {
    /// Where the guest sees it.
    pub(super) layout: GicLayout,
    /// Banks of shared interrupts.
    pub(super) banks: usize,
    /// Guards the shared interrupts. Taken before the lock of a vCPU's GIC.
    spis: SpinMutex<Vec<Bank, SPI_BANKS>>,
}

impl Distributor {
    /// A guest's distributor, or the one that stands for the host's: its shared interrupts are linked to the physical ones
    /// of the same numbers, enabled and disabled with them, and end with them.
    pub fn new(host: Option<GicLayout>) -> Self {
        let (banks, linked) = if host.is_some() { (SPI_BANKS, u32::MAX) } else { (1, 0) };
        let bases = (PRIVATE..).step_by(32).take(banks);
        let spis = bases.map(|base| Bank::new(base, linked)).collect();
        Distributor { layout: host.unwrap_or(GicLayout::GUEST), banks, spis: SpinMutex::new(spis) }
    }

    pub(super) fn lock(&self) -> SpinMutexGuard<'_, Vec<Bank, SPI_BANKS>> {
        self.spis.lock()
    }
}

/// The bank of a shared interrupt.
pub(super) fn bank(spis: &mut [Bank], irq: u32) -> Option<&mut Bank> {
    spis.get_mut((irq.checked_sub(PRIVATE)? / 32) as usize)
}

/// What only shared interrupts know: which vCPU they go to.
impl Bank {
    /// Writes the lower half of `IROUTER`.
    pub(super) fn set_route(&mut self, i: u32, value: u32) -> u32 {
        self.route[i as usize & 31] = value & (ANY | AFFINITY);
        1 << (i & 31)
    }

    /// The vCPU that has interrupt `i`, or else the one that shall take it.
    fn owner(&self, i: u32) -> usize {
        match (self.home[i as usize & 31], self.route[i as usize & 31]) {
            (Some(home), _) => usize::from(home),
            (None, ANY..) => 0,
            (None, route) => vcpu_of_affinity(u64::from(route)).map_or(usize::MAX, |index| index as usize),
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
            *home = home.filter(|home| {
                domain.vcpus().get(usize::from(*home)).is_some_and(|vcpu| {
                    let state = vcpu.gic.lock();
                    let held = state.held::<H>(self.base, Lr::PENDING | Lr::ACTIVE);
                    let at_home = (self.active | held) & bit != 0;
                    if at_home {
                        // Inside the lock, so that a vCPU that is being taken off has either given it back or sees this.
                        vcpu.gic.mark(ALL);
                    }
                    at_home
                })
            });
            if home.is_some() || self.ready() & bit != 0 {
                self.tell(kernel, domain, i);
            }
        }
    }

    /// Whether vCPU `index`, whose list registers are empty, shall take interrupt `i`, which is ready. One that it had goes
    /// on to where it is routed now, unless it is active.
    fn claim<H: Hw>(&mut self, kernel: &Kernel<H>, current: &Current<H>, i: u32) -> bool {
        let index = current.vcpu.id.0 as usize;
        if self.owner(i) == index && self.active >> i & 1 == 0 {
            self.home[i as usize & 31] = None;
            if self.owner(i) != index {
                self.tell(kernel, &current.domain, i);
                // The other one may wait for this pCPU, which has chosen already: it comes back at once to choose again.
                H::kick(H::pcpu());
            }
        }
        self.owner(i) == index
    }
}

/// Raises or lowers the line of a shared interrupt.
pub fn set_level<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, irq: u32, high: bool) {
    change(kernel, domain, irq, |bank| bank.set_level(irq, high));
}

/// Changes shared interrupts around `irq`; nothing happens if there are none.
pub(super) fn change<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, irq: u32, change: impl FnOnce(&mut Bank) -> u32) {
    if let Some(bank) = bank(&mut domain.dist.lock(), irq) {
        let touched = change(bank);
        bank.settle(kernel, domain, touched);
    }
}

/// Brings the list registers of this pCPU up to date for the vCPU that goes on here.
#[inline(never)]
pub fn flush<H: Hw>(kernel: &Kernel<H>, current: &Current<H>) {
    let gic = &current.vcpu.gic;
    if !gic.flush_alone::<H>(&mut gic.lock()) {
        gic.marks.store(0, Ordering::SeqCst);
        refill(kernel, current, H::list_registers().min(MAX_LRS));
    }
}

/// Takes everything out of the list registers, and puts the most urgent of what is ready into the first `room` of them.
#[inline(never)]
pub(super) fn refill<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, room: usize) {
    let (gic, index) = (&current.vcpu.gic, u8::try_from(current.vcpu.id.0).ok());
    let (spis, own) = (&mut *current.domain.dist.lock(), &mut *gic.lock());
    for n in bits(core::mem::take(&mut own.used)) {
        let lr = Lr(H::read_lr(n as usize));
        H::write_lr(n as usize, 0);
        bank(spis, lr.irq()).unwrap_or(&mut own.bank).fold::<H>(lr);
    }
    let mut ready: Vec<Lr, { PRIVATE as usize + SPI_BANKS * 32 }> =
        bits(own.bank.ready()).map(|i| own.bank.entry(i, own.bank.state(i))).collect();
    for shared in spis.iter_mut() {
        for i in bits(shared.ready()) {
            if shared.claim(kernel, current, i) {
                // There is room for every interrupt once.
                let _ = ready.push(shared.entry(i, shared.state(i)));
            }
        }
    }
    ready.sort_unstable_by_key(|lr| lr.rank());
    // The most urgent one that waits may interrupt all that are active: it takes the place of the one that ends last, if
    // the order of the ends is known.
    if let Some(next) = ready.iter().position(|lr| !lr.is(Lr::ACTIVE))
        && next >= room
        && room > 1
        && H::ends_nest()
    {
        ready.swap(room - 1, next);
    }
    let mut again = ready.len() > room;
    // With a single list register the underflow condition would hold all the time.
    H::notify_underflow(again && room > 1);
    for (n, lr) in ready.into_iter().take(room).enumerate() {
        let bank = bank(spis, lr.irq()).unwrap_or(&mut own.bank);
        bank.take(lr, index);
        // A linked one that is active and pending again waits until the guest has ended it.
        again |= (bank.latch & bank.ready()) >> (lr.irq() & 31) & 1 != 0;
        own.put::<H>(n, lr);
    }
    if again {
        gic.mark(ALL);
    }
}
