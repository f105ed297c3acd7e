//! The vGIC against a model of what a GIC promises, with the fake machine's list registers played by a guest.

mod linked;
mod many;
mod model;
mod registers;
mod routes;
mod states;
mod v2;

use hypercall_abi::control::DomainParams;

use super::*;
use crate::context::El1Context;
use crate::domain::Domain;
use crate::fake::{Fake, Shared, params, reset, with};
use crate::hw::{Interrupts, PcpuId};
use crate::local::Current;

const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;
const HW: u64 = 1 << 61;
const EOI: u64 = 1 << 41;
/// Where the distributor is.
const DIST: u64 = 0x0300_1000;

/// Where the redistributor of a vCPU is.
fn redist(vcpu: usize) -> u64 {
    0x0302_0000 + 0x2_0000 * vcpu as u64
}

/// A domain for the sake of its GIC.
struct Gic {
    kernel: Box<Kernel<Fake>>,
    domain: Shared<Domain<Fake>>,
}

impl Gic {
    /// Everything is enabled at the distributor; vCPU 0 is on this pCPU.
    fn new(vcpus: u32) -> Gic {
        Gic::on(Machine::default(), vcpus)
    }

    /// The same on a machine.
    fn on(machine: Machine, vcpus: u32) -> Gic {
        Gic::of(machine, DomainParams { vcpus, ..params(1) })
    }

    /// The same of a domain that was made in another way.
    fn of(machine: Machine, params: DomainParams) -> Gic {
        reset();
        let kernel = Box::new(Kernel::empty());
        kernel.machine.call_once(|| machine);
        let domain = kernel.create(&params, None).unwrap();
        let gic = Gic { kernel, domain };
        gic.write(0x0, 4, 3);
        gic.load(0);
        gic.enter(0);
        gic
    }

    fn vcpu(&self, n: usize) -> &VcpuGic {
        &self.domain.vcpus()[n].gic
    }

    fn current(&self, n: usize) -> Current<Fake> {
        Current { vcpu: self.domain.vcpus()[n].clone(), domain: self.domain.clone() }
    }

    /// A load or store where a guest of Xen has its GIC.
    fn access(&self, ipa: u64, size: u8, store: Option<u64>) -> Option<u64> {
        access(&self.kernel, &self.domain, Ipa::new(ipa), size, store)
    }

    fn read(&self, offset: u64, size: u8) -> u64 {
        self.access(DIST + offset, size, None).unwrap()
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        self.access(DIST + offset, size, Some(value)).unwrap();
    }

    fn read_redist(&self, vcpu: usize, offset: u64, size: u8) -> u64 {
        self.access(redist(vcpu) + offset, size, None).unwrap()
    }

    fn write_redist(&self, vcpu: usize, offset: u64, value: u64) {
        self.access(redist(vcpu) + offset, 4, Some(value)).unwrap();
    }

    /// Writes one interrupt's bit of a bit register, wherever that lies.
    fn set_bit(&self, register: u64, irq: u32) {
        if irq < 32 {
            self.write_redist(0, 0x1_0000 + register, 1 << irq);
        } else {
            self.write(register + u64::from(irq / 32) * 4, 4, 1 << (irq % 32));
        }
    }

    fn bit(&self, register: u64, irq: u32) -> bool {
        let word = if irq < 32 {
            self.read_redist(0, 0x1_0000 + register, 4)
        } else {
            self.read(register + u64::from(irq / 32) * 4, 4)
        };
        word >> (irq % 32) & 1 != 0
    }

    fn set_priority(&self, irq: u32, priority: u8) {
        let at = u64::from(irq) + 0x400;
        if irq < 32 {
            self.access(redist(0) + 0x1_0000 + at, 1, Some(u64::from(priority))).unwrap();
        } else {
            self.write(at, 1, u64::from(priority));
        }
    }

    fn raise(&self, irq: u32) {
        if irq < 16 {
            self.vcpu(0).raise_if::<Fake>(irq, true, Some(true));
        } else if irq < 32 {
            self.vcpu(0).raise::<Fake>(irq);
        } else {
            dist::change(&self.kernel, &self.domain, irq, |bank| bank.raise(irq));
        }
    }

    fn set_level(&self, irq: u32, high: bool) {
        if irq < 32 {
            self.vcpu(0).set_level::<Fake>(irq, || high);
        } else {
            set_level(&self.kernel, &self.domain, irq, high);
        }
    }

    fn load(&self, vcpu: usize) {
        self.vcpu(vcpu).load::<Fake>(false);
    }

    fn unload(&self, vcpu: usize) {
        if VcpuGic::unload(&self.kernel, &self.current(vcpu)) {
            <Fake as Interrupts>::set_active(IntId(27), false);
        }
    }

    /// What every return to the guest does.
    fn enter(&self, vcpu: usize) {
        if self.vcpu(vcpu).dirty() {
            flush(&self.kernel, &self.current(vcpu));
        }
    }

    /// The guest on this pCPU takes its most urgent interrupt.
    fn acknowledge(&self) -> Option<u32> {
        with(|s| {
            let pending = s.lrs.iter_mut().filter(|lr| **lr & (PENDING | ACTIVE) == PENDING);
            let lr = pending.min_by_key(|lr| **lr >> 48 & 0xFF)?;
            *lr = *lr & !PENDING | ACTIVE;
            Some(low(*lr) & 0x3FF)
        })
    }

    /// An interrupt becomes pending, and the guest on this pCPU takes it.
    fn take(&self, irq: u32) {
        self.raise(irq);
        self.enter(0);
        assert_eq!(self.acknowledge(), Some(irq));
    }

    /// The guest ends an interrupt that it took; the maintenance interrupt follows where it is asked for.
    fn end(&self, vcpu: usize, irq: u32) {
        let maintenance = with(|s| {
            let lr = s.lrs.iter_mut().find(|lr| **lr & ACTIVE != 0 && low(**lr) & 0x3FF == irq).unwrap();
            *lr &= !ACTIVE;
            if *lr & HW != 0 {
                s.active.remove(&IntId(irq));
            }
            let ended = *lr & (PENDING | HW | EOI) == EOI;
            let valid = s.lrs.iter().filter(|lr| **lr >> 62 != 0).count();
            ended || s.underflow && valid <= 1
        });
        if maintenance {
            self.vcpu(vcpu).mark(vcpu::ALL);
        }
    }
}

/// Links a shared interrupt to the physical one, as all of Dom0's are.
fn link(gic: &Gic, irq: u32) {
    gic.domain.dist.spis.lock().bank(irq).unwrap().linked |= 1 << (irq % 32);
}

fn enabled(gic: &Gic, irqs: &[u32]) {
    irqs.iter().for_each(|irq| gic.set_bit(0x100, *irq));
}

/// Whether vCPU `n` has something to take once it runs and has looked. vCPU 0 is on the pCPU before and after.
fn can_take(gic: &Gic, n: usize) -> bool {
    gic.unload(0);
    gic.load(n);
    gic.enter(n);
    let can = gic.vcpu(n).deliverable::<Fake>();
    gic.unload(n);
    gic.load(0);
    gic.enter(0);
    can
}
