//! What a GICv2 has that a GICv3 has not (Arm IHI 0048B, section 4.3): private interrupts in the distributor, where each vCPU
//! finds its own, targets in a byte for each shared interrupt, and software-generated interrupts that know their sender.
//!
//! The same SGI from several vCPUs is one interrupt for each of them. One at a time is in the bank: who has sent it is in
//! its list register. The others wait here until it ends, which raises the maintenance interrupt.

use hypercall_abi::arm::{GUEST_GICC_SIZE, vcpu_of_affinity};

use super::bank::{Bank, SGIS, first_irq};
use super::private::Lr;
use super::registers::{ISENABLER0, read_private};
use super::vcpu::{ALL, VTIMER_BIT, VcpuGic};
use super::{PRIVATE, bits, dist, low};
use crate::addr::PAGE_SIZE;
use crate::domain::Domain;
use crate::hw::Hw;
use crate::kernel::Kernel;
use crate::vcpu::Vcpu;

/// The most vCPUs that the targets of an interrupt can name.
pub(super) const MAX_VCPUS: usize = 8;
/// Pages of the CPU interface.
pub const GICC_PAGES: u64 = GUEST_GICC_SIZE / PAGE_SIZE;
/// A route that leads to no vCPU.
const NOWHERE: u32 = 0xFF_FFFF;
/// Where registers start that are handled here: targets, SGIs to send, and the pending SGIs by sender.
const ITARGETSR: u64 = 0x800;
const SGIR: u64 = 0xF00;
const CPENDSGIR: u64 = 0xF10;
const SPENDSGIR: u64 = 0xF20;

/// `GICD_TYPER`, but for the banks of shared interrupts.
pub(super) const fn typer(vcpus: usize) -> u64 {
    ((vcpus as u64).wrapping_sub(1) & 7) << 5
}

/// Who has sent the SGIs of a vCPU.
#[derive(Default)]
pub(super) struct Sources {
    /// vCPUs whose SGI of each number waits, a bit each.
    waiting: [u8; 16],
    /// Who has sent the one that is in the bank or in a list register.
    current: [u8; 16],
}

impl Sources {
    /// Numbers of the SGIs that wait, a bit each.
    fn waiting(&self) -> u32 {
        self.waiting.iter().rev().fold(0, |mask, senders| mask << 1 | u32::from(*senders != 0))
    }

    /// Puts one of each SGI that waits into the bank, if the guest could take it and has ended the one before. List
    /// registers are empty.
    #[cold]
    pub(super) fn choose(&mut self, bank: &mut Bank) {
        let Sources { waiting, current } = self;
        for irq in bits(bank.latch & SGIS) {
            waiting[irq as usize & 15] |= 1 << current[irq as usize & 15];
        }
        bank.latch &= !SGIS;
        for irq in bits(bank.enabled & bank.forwarded & !bank.active & SGIS) {
            let senders = &mut waiting[irq as usize & 15];
            if let Some(first) = bits(*senders).next() {
                *senders &= *senders - 1;
                current[irq as usize & 15] = first.to_le_bytes()[0];
                bank.raise(irq);
            }
        }
    }

    /// Says in SGIs who has sent them, and that the end of those is to be told of on which others wait.
    #[cold]
    pub(super) fn show(&self, ready: &mut [Lr]) {
        let sgis = ready.iter_mut().filter_map(|lr| Some((lr.irq() as usize, lr)).filter(|(irq, _)| *irq < 16));
        for (irq, lr) in sgis {
            let eoi = if self.waiting[irq & 15] != 0 { Lr::EOI } else { 0 };
            lr.0 |= eoi | u64::from(self.current[irq & 15]) << 32;
        }
    }
}

impl VcpuGic {
    /// Makes it that of a GICv2. It has not run yet.
    pub fn make_v2(&self) {
        let state = &mut *self.state.lock();
        state.bank = Bank::new(0, state.bank.linked, 0);
        state.sources = Some(Sources::default());
    }

    /// A store of the vCPU itself to the registers of its private interrupts.
    #[inline(never)]
    fn write_own<H: Hw>(&self, offset: u64, size: u8, value: u64) {
        if offset == ISENABLER0 && low(value) & VTIMER_BIT != 0 {
            self.drop_late_timer::<H>();
        }
        self.change::<H>(|state| state.bank.write(offset, size, value, Bank::end::<H>));
        // Others may wait for it that are not in the bank.
        self.mark(ALL);
    }

    /// Changes which vCPUs have an SGI pending here, a bit each; the vCPU must look, and the caller notifies it.
    fn set_senders(&self, irq: u32, change: impl FnOnce(&mut u8)) {
        let state = &mut *self.state.lock();
        if let Some(Sources { waiting, .. }) = &mut state.sources {
            change(&mut waiting[irq as usize & 15]);
            self.mark(ALL);
        }
    }
}

/// A load or store of the vCPU that runs here at `offset` in the distributor. `None` of a register that is as a GICv3 has
/// it.
#[cold]
#[inline(never)]
pub(super) fn access<H: Hw>(
    kernel: &Kernel<H>,
    domain: &Domain<H>,
    offset: u64,
    size: u8,
    store: Option<u64>,
) -> Option<u64> {
    let vcpu = domain.vcpus().iter().find(|vcpu| vcpu.gic.state.lock().is_here::<H>())?;
    let gic = &vcpu.gic;
    Some(match (offset, size, store) {
        (0x000, 4, None) => u64::from(domain.dist.spis.lock().first.groups),
        // PIDR2: GICv2.
        (0xFE8, 4, None) => 0x2B,
        // SGIs become pending and not pending by sender.
        (0x200 | 0x280, 4, None) => {
            let sent = gic.state.lock().sources.as_ref().map_or(0, Sources::waiting);
            read_private(kernel, vcpu, offset, size) | u64::from(sent)
        }
        (0x080..0xD00, _, None) if first_irq(offset) < PRIVATE => read_private(kernel, vcpu, offset, size),
        (0x080..0xD00, _, Some(value)) if first_irq(offset) < PRIVATE => {
            let fixed = if matches!(offset, 0x200 | 0x280) { u64::from(SGIS) } else { 0 };
            gic.write_own::<H>(offset, size, value & !fixed);
            0
        }
        (ITARGETSR..0xC00 | CPENDSGIR..0xF30, 1 | 4, None) => {
            let bytes = (offset..offset + u64::from(size)).map(|at| read_byte(kernel, domain, vcpu, at));
            bytes.rev().fold(0, |word, byte| word << 8 | u64::from(byte))
        }
        (ITARGETSR..0xC00 | CPENDSGIR..0xF30, 1 | 4, Some(value)) => {
            let bytes = (offset..).zip(value.to_le_bytes()).take(usize::from(size));
            bytes.for_each(|(at, byte)| write_byte(kernel, domain, vcpu, at, byte));
            0
        }
        (SGIR, 4, Some(value)) => {
            let own = 1 << (vcpu.id.0 & 7);
            let targets = match value >> 24 & 3 {
                0 => (value >> 16).to_le_bytes()[0],
                1 => !own,
                2 => own,
                _ => 0,
            };
            for vcpu in bits(targets).map_while(|index| domain.vcpus().get(index as usize)) {
                vcpu.gic.set_senders(low(value), |senders| *senders |= own);
                kernel.notify(vcpu);
            }
            0
        }
        _ => return None,
    })
}

/// Loads the byte at `offset` of the registers that have one for each interrupt: its targets, or who has sent an SGI.
fn read_byte<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, vcpu: &H::Shared<Vcpu<H>>, offset: u64) -> u8 {
    let (irq, sgi) = (low(offset - ITARGETSR), (offset & 15) as usize);
    match offset {
        ITARGETSR..0x820 => 1 << (vcpu.id.0 & 7),
        0x820..0xC00 => {
            let route = domain.dist.spis.lock().bank(irq).map_or(NOWHERE, |bank| bank.route[irq as usize % 32]);
            vcpu_of_affinity(u64::from(route)).map_or(0, |index| 1u8.checked_shl(index).unwrap_or(0))
        }
        CPENDSGIR..0xF30 => {
            // One may be in the bank or in a list register, too.
            let pending = read_private(kernel, vcpu, 0x200, 4) >> sgi & 1;
            let state = vcpu.gic.state.lock();
            state.sources.as_ref().map_or(0, |of| of.waiting[sgi] | (pending << of.current[sgi]).to_le_bytes()[0])
        }
        _ => 0,
    }
}

/// Stores a byte there.
fn write_byte<H: Hw>(kernel: &Kernel<H>, domain: &Domain<H>, vcpu: &H::Shared<Vcpu<H>>, offset: u64, mask: u8) {
    let irq = low(offset - ITARGETSR);
    match offset {
        // Of several targets the first one takes it.
        0x820..0xC00 => {
            let target = bits(mask).next().unwrap_or(NOWHERE);
            dist::change(kernel, domain, irq, |bank| bank.set_route(irq, target));
        }
        CPENDSGIR..SPENDSGIR => {
            // The one that is in the bank comes back unless it is meant.
            let before = read_byte(kernel, domain, vcpu, offset);
            vcpu.gic.write_own::<H>(0x280, 4, 1 << (irq & 15));
            vcpu.gic.set_senders(irq, |senders| *senders = (*senders | before) & !mask);
        }
        SPENDSGIR..0xF30 => vcpu.gic.set_senders(irq, |senders| *senders |= mask),
        _ => {}
    }
}
