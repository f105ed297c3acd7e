//! The distributor: the shared interrupts of a domain, and the choice of what goes into list registers.

use heapless::Vec;
use hypercall_abi::arm::vcpu_of_affinity;
use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;

use super::bank::Bank;
use super::private::{Lr, MAX_LRS};
use super::registers::TYPER_FIXED;
use super::spis::{LIMIT, Spis};
use super::vcpu::{ALL, OWN};
use super::{GicLayout, bits, v2};
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::local::Current;
use crate::sync::{Ordering, SpinMutex};

/// `GICD_IROUTER.Interrupt_Routing_Mode`: any vCPU may take it. The first one does.
const ANY: u32 = 1 << 31;
/// The affinity fields of `GICD_IROUTER`, but for affinity 3.
const AFFINITY: u32 = 0xFF_FFFF;

/// The distributor of a domain.
pub struct Distributor<H: Hw> {
    /// Where the guest sees it.
    pub(super) layout: GicLayout,
    /// `GICD_TYPER`.
    pub(super) typer: u64,
    /// Guards the shared interrupts. Taken before the lock of a vCPU's GIC.
    pub(super) spis: SpinMutex<Spis<H>>,
}

impl<H: Hw> Distributor<H> {
    /// The distributor of domain `id` with so many vCPUs and at least so many shared interrupts. Where it stands for the
    /// host's, these are linked to the physical ones of the same numbers, enabled and disabled with them, and end with them.
    pub fn new(id: DomId, (layout, is_host): (GicLayout, bool), vcpus: usize, spis: u32) -> Result<Self, XenError> {
        let (group1, typer) = if layout.is_v2() { (0, v2::typer(vcpus)) } else { (u32::MAX, TYPER_FIXED) };
        let spis = Spis::new(id, spis, if is_host { u32::MAX } else { 0 }, group1)?;
        Ok(Distributor { layout, typer: typer | u64::from(spis.banks), spis: SpinMutex::new(spis) })
    }
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
                    let state = vcpu.gic.state.lock();
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
    if let Some(bank) = domain.dist.spis.lock().bank(irq).filter(|_| irq < LIMIT) {
        let touched = change(bank);
        bank.settle(kernel, domain, touched);
    }
}

/// Of what is ready the most urgent, which goes into list registers, in order.
struct Choice {
    first: Vec<Lr, MAX_LRS>,
    /// List registers there are for them.
    room: usize,
    /// The most urgent one that is not active.
    waiting: Option<Lr>,
    /// Whether others are ready.
    left: bool,
}

impl Choice {
    #[inline(always)]
    fn add(&mut self, lr: Lr) {
        if !lr.is(Lr::ACTIVE) && self.waiting.is_none_or(|waiting| lr.rank() < waiting.rank()) {
            self.waiting = Some(lr);
        }
        if self.first.len() == self.room {
            self.left = true;
            if self.first.last().is_none_or(|last| last.rank() < lr.rank()) {
                return;
            }
            self.first.pop();
        }
        let place = self.first.partition_point(|other| other.rank() < lr.rank());
        // There is room now.
        let _ = self.first.insert(place, lr);
    }
}

/// Brings the list registers of this pCPU up to date for the vCPU that goes on here.
#[inline(never)]
pub fn flush<H: Hw>(kernel: &Kernel<H>, current: &Current<H>) {
    let gic = &current.vcpu.gic;
    if gic.marks.swap(0, Ordering::SeqCst) != OWN || !gic.state.lock().place_alone::<H>() {
        refill(kernel, current, H::list_registers().min(MAX_LRS));
    }
}

/// Takes everything out of the list registers, and puts the most urgent of what is ready into the first `room` of them.
#[inline(never)]
pub(super) fn refill<H: Hw>(kernel: &Kernel<H>, current: &Current<H>, room: usize) {
    let (gic, index) = (&current.vcpu.gic, u8::try_from(current.vcpu.id.0).ok());
    let (spis, own) = (&mut *current.domain.dist.spis.lock(), &mut *gic.state.lock());
    for n in bits(core::mem::take(&mut own.used)) {
        let lr = Lr(H::read_lr(n as usize));
        H::write_lr(n as usize, 0);
        spis.bank(lr.irq()).unwrap_or(&mut own.bank).fold::<H>(lr);
    }
    own.bank.end::<H>(core::mem::take(&mut own.orphaned));
    if let Some(sources) = &mut own.sources {
        sources.choose(&mut own.bank);
    }
    let mut choice = Choice { first: Vec::new(), room, waiting: None, left: false };
    bits(own.bank.ready()).for_each(|i| choice.add(own.bank.entry(i, own.bank.state(i))));
    for shared in spis.iter_mut() {
        for i in bits(shared.ready()) {
            if shared.claim(kernel, current, i) {
                choice.add(shared.entry(i, shared.state(i)));
            }
        }
    }
    let Choice { mut first, waiting, left: mut again, .. } = choice;
    // The most urgent one that waits may interrupt all that are active: it takes the place of the one that ends last, if
    // the order of the ends is known.
    if let (Some(next), Some(last)) = (waiting, first.last_mut())
        && again
        && last.is(Lr::ACTIVE)
        && room > 1
        && H::ends_nest()
    {
        *last = next;
    }
    if let Some(sources) = &own.sources {
        sources.show(&mut first);
    }
    // With a single list register the underflow condition would hold all the time.
    H::notify_underflow(again && room > 1);
    for (n, lr) in first.into_iter().enumerate() {
        let bank = spis.bank(lr.irq()).unwrap_or(&mut own.bank);
        bank.take(lr, index);
        // A linked one that is active and pending again waits until the guest has ended it.
        again |= (bank.latch & bank.ready()) >> (lr.irq() & 31) & 1 != 0;
        own.put::<H>(n, lr);
    }
    if again {
        gic.mark(ALL);
    }
}
