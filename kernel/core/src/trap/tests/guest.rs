//! A guest on the fake machine, and what it can do to exit.

use hypercall_abi::control::DomainParams;

use crate::addr::{GuestVa, Ipa};
use crate::context::TrapFrame;
use crate::domain::Domain;
use crate::fake::{Fake, Shared, reset, with};
use crate::hw::PcpuId;
use crate::kernel::Kernel;
use crate::local::LocalCpu;
use crate::{exit, memory};

/// Where its RAM and its vectors are.
pub const RAM: u64 = 0x4000_0000;
pub const VECTORS: u64 = 0x8_0000;

/// A guest with two vCPUs, the first on the only pCPU.
pub struct Guest {
    pub kernel: &'static Kernel<Fake>,
    pub cpu: LocalCpu<Fake>,
    pub frame: TrapFrame,
    pub domain: Shared<Domain<Fake>>,
}

impl Guest {
    pub fn new() -> Guest {
        reset();
        let kernel: &'static Kernel<Fake> = Box::leak(Box::new(Kernel::empty()));
        // Takes the id of Dom0, whose end would be the machine's.
        create(kernel);
        let domain = create(kernel);
        kernel.unpause(&domain).unwrap();
        kernel.start_vcpu(&domain, &domain.vcpus()[0], RAM, 0).unwrap();
        let mut guest = Guest { kernel, cpu: LocalCpu::new(PcpuId(0)), frame: TrapFrame::default(), domain };
        crate::fake::choose(kernel, &mut guest.cpu, &mut guest.frame);
        with(|s| s.el1.vbar_el1 = VECTORS);
        guest
    }

    pub fn exit<const KIND: u8>(&mut self, esr: u64) {
        crate::fake::exit::<KIND>(self.kernel, &mut self.cpu, &mut self.frame, esr);
    }

    pub fn trap(&mut self, class: u64, iss: u64, ipa: u64) {
        self.abort(class, iss, ipa, ipa);
    }

    pub fn abort(&mut self, class: u64, iss: u64, far: u64, ipa: u64) {
        with(|s| s.fault = (GuestVa::new(far), Ipa::new(ipa)));
        self.exit::<{ exit::SYNC }>(class << 26 | 1 << 25 | iss);
    }

    /// A 32-bit access with x1.
    pub fn access(&mut self, write: bool, ipa: u64) {
        self.trap(0x24, 1 << 24 | 2 << 22 | 1 << 16 | u64::from(write) << 6 | 7, ipa);
    }

    pub fn load(&mut self, ipa: u64) -> u64 {
        self.frame.x[1] = u64::MAX;
        self.access(false, ipa);
        self.frame.x[1]
    }

    pub fn store(&mut self, ipa: u64, value: u64) {
        self.frame.x[1] = value;
        self.access(true, ipa);
    }

    pub fn msr(&mut self, register: u32, value: u64) {
        self.frame.x[1] = value;
        self.trap(0x18, u64::from(register) | 1 << 5, 0);
    }

    pub fn mrs(&mut self, register: u32) -> u64 {
        self.trap(0x18, u64::from(register) | 1 << 5 | 1, 0);
        self.frame.x[1]
    }

    pub fn smccc(&mut self, function: u32, args: [u64; 3]) -> u64 {
        self.frame.x[0] = u64::from(function);
        self.frame.x[1..4].copy_from_slice(&args);
        self.trap(0x16, 0, 0);
        self.frame.x[0]
    }

    /// Whether the guest has been sent to its handler, with this exception class.
    pub fn has_taken(&self, class: u64) -> bool {
        self.frame.pc == VECTORS + 0x200 && with(|s| s.el1.esr_el1 >> 26) == class
    }

    pub fn list_register(&self, n: usize) -> (u64, u64) {
        with(|s| (s.lrs[n] >> 62, s.lrs[n] & 0x3FF))
    }
}

fn create(kernel: &Kernel<Fake>) -> Shared<Domain<Fake>> {
    let params = DomainParams { vcpus: 2, max_pages: 32, max_grant_frames: 4, ..DomainParams::default() };
    let domain = kernel.create(&params, None).unwrap();
    assert_eq!(memory::populate(&domain, Ipa::new(RAM), 4), (4, Ok(())));
    domain
}
