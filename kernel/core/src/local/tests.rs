//! Whose FP and SIMD registers are on a pCPU, and that nobody else sees them.

use crate::context::TrapFrame;
use crate::domain::Domain;
use crate::fake::{Fake, Shared, World, with};
use crate::hw::PcpuId;
use crate::kernel::Kernel;
use crate::local::{Current, LocalCpu};
use crate::vcpu::VcpuContext;

/// One pCPU; the machine has its FP registers alone, so that with two of them only one is used at a time.
struct Pcpu(LocalCpu<Fake>);

impl Pcpu {
    fn put_on(&mut self, kernel: &Kernel<Fake>, domain: &Shared<Domain<Fake>>) {
        let vcpu = domain.vcpus()[0].clone();
        self.0.load(kernel, &vcpu.run.lock().context, domain, &mut TrapFrame::default());
        self.0.current = Some(Current { vcpu, domain: domain.clone() });
    }

    fn take_off(&mut self) {
        let current = self.0.current.take().unwrap();
        self.0.save(&TrapFrame::default(), &mut current.vcpu.run.lock().context);
        assert!(traps(), "nobody is on the pCPU");
    }

    /// The guest reads q0, and writes it.
    fn exchange(&mut self, value: u128) -> u128 {
        if traps() {
            self.0.fp_trap();
        }
        with(|s| core::mem::replace(&mut s.fp.q[0], value))
    }
}

fn traps() -> bool {
    with(|s| s.fp_traps)
}

fn two_domains() -> (&'static Kernel<Fake>, [Shared<Domain<Fake>>; 2]) {
    let (mut world, _) = World::new();
    (world.kernel, [world.domain(4), world.domain(4)])
}

#[test]
fn registers_that_nobody_else_used_need_no_trap_and_others_are_not_seen() {
    let (kernel, [first, second]) = two_domains();
    let mut pcpu = Pcpu(LocalCpu::new(PcpuId(0)));
    pcpu.put_on(kernel, &first);
    assert!(traps(), "it has used none yet");
    assert_eq!(pcpu.exchange(1), 0);
    pcpu.take_off();
    pcpu.put_on(kernel, &second);
    assert!(traps(), "they are another's");
    pcpu.take_off();
    pcpu.put_on(kernel, &first);
    assert!(!traps(), "the other one has not used them");
    assert_eq!(pcpu.exchange(2), 1);
    pcpu.take_off();
    pcpu.put_on(kernel, &second);
    assert_eq!(pcpu.exchange(7), 0);
    pcpu.take_off();
    pcpu.put_on(kernel, &first);
    assert!(traps(), "the other one has used them");
    assert_eq!(pcpu.exchange(3), 2);
}

#[test]
fn registers_that_were_used_on_another_pcpu_are_not_taken_from_here() {
    let (kernel, [guest, _]) = two_domains();
    let [mut here, mut there] = [0, 1].map(|id| Pcpu(LocalCpu::new(PcpuId(id))));
    here.put_on(kernel, &guest);
    here.exchange(1);
    here.take_off();
    there.put_on(kernel, &guest);
    assert!(traps(), "they are on the other pCPU");
    assert_eq!(there.exchange(2), 1);
    there.take_off();
    here.put_on(kernel, &guest);
    assert!(traps(), "what is here is old");
    assert_eq!(here.exchange(3), 2);
}

#[test]
fn a_vcpu_that_starts_anew_finds_no_register_as_it_was() {
    let (kernel, [guest, _]) = two_domains();
    let mut pcpu = Pcpu(LocalCpu::new(PcpuId(0)));
    pcpu.put_on(kernel, &guest);
    pcpu.exchange(1);
    pcpu.take_off();
    let vcpu = guest.vcpus()[0].clone();
    vcpu.run.lock().context = VcpuContext::at_start(vcpu.id, 0, 0, 0);
    pcpu.put_on(kernel, &guest);
    assert_eq!(pcpu.exchange(2), 0);
}
