//! A microkernel on the fake machine, with domains whose hypercalls a test makes for them.

use hypercall_abi::control::DomainParams;
use hypercall_abi::ids::{DomId, Port, VcpuId};
use hypercall_abi::vcpu::Runstate;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Fake, Shared};
use crate::addr::{Ipa, PAGE_SIZE, Pa};
use crate::context::TrapFrame;
use crate::domain::Domain;
use crate::evtchn::Binding;
use crate::exit::{self, Source};
use crate::hw::{Hw, Memory, PcpuId, Translation};
use crate::hypercall::dispatch;
use crate::kernel::Kernel;
use crate::lifecycle::destroy;
use crate::local::{Current, LocalCpu};
use crate::memory::populate;
use crate::vcpu::Vcpu;
use crate::vgic::GicLayout;

/// Where the RAM of test domains starts. The first page is for arguments.
pub const GUEST_RAM: u64 = 0x4000_0000;

/// A microkernel, and the pCPU that the test plays.
pub struct World {
    /// The microkernel.
    pub kernel: &'static Kernel<Fake>,
    /// Rounds that the last call took.
    pub rounds: u32,
    cpu: LocalCpu<Fake>,
}

impl World {
    /// A fresh machine with a privileged domain that has 16 pages.
    pub fn new() -> (World, Shared<Domain<Fake>>) {
        super::reset();
        let mut world =
            World { kernel: Box::leak(Box::new(Kernel::empty())), rounds: 0, cpu: LocalCpu::new(PcpuId(0)) };
        let dom0 = world.domain_on(&params(16), Some(GicLayout::of_guest(None)), 16);
        (world, dom0)
    }

    /// A domain with RAM, which may own as much again.
    pub fn domain(&mut self, pages: u64) -> Shared<Domain<Fake>> {
        self.domain_like(&params(pages), pages)
    }

    /// A domain after a plan of the test's own, with RAM.
    pub fn domain_like(&mut self, params: &DomainParams, pages: u64) -> Shared<Domain<Fake>> {
        self.domain_on(params, None, pages)
    }

    fn domain_on(&mut self, params: &DomainParams, host: Option<GicLayout>, pages: u64) -> Shared<Domain<Fake>> {
        let domain = self.kernel.create(params, host).expect("the domain can be made");
        assert_eq!(populate(&domain, Ipa::new(GUEST_RAM), pages), (pages, Ok(())));
        domain
    }

    /// Makes a hypercall as the domain's first vCPU, in as many rounds as it takes; returns x0.
    pub fn call(&mut self, domain: &Shared<Domain<Fake>>, number: u32, args: &[u64]) -> i64 {
        self.call_of(domain, 0, number, args)[0].cast_signed()
    }

    /// Makes a hypercall as this vCPU of the domain, in as many rounds as it takes; returns x0 to x2.
    pub fn call_of(&mut self, domain: &Shared<Domain<Fake>>, vcpu: usize, number: u32, args: &[u64]) -> [u64; 3] {
        Fake::load_stage2(domain.p2m.vttbr(&self.kernel.vmids, PcpuId(0)));
        let vcpu = domain.vcpus()[vcpu].clone();
        self.cpu.current = Some(Current { vcpu, domain: domain.clone() });
        let mut frame = TrapFrame::default();
        frame.x[..args.len()].copy_from_slice(args);
        frame.x[16] = u64::from(number);
        self.rounds = 0;
        loop {
            self.rounds += 1;
            assert!(self.rounds < 100_000, "the call makes no progress");
            if !dispatch(self.kernel, &self.cpu, frame.x.first_chunk_mut().unwrap()) {
                break;
            }
        }
        self.cpu.current = None;
        [frame.x[0], frame.x[1], frame.x[2]]
    }

    /// Destroys a domain to the end.
    pub fn destroy(&mut self, domain: &Shared<Domain<Fake>>) {
        for _ in 0..100_000 {
            if destroy(self.kernel, domain) {
                return;
            }
        }
        panic!("the destruction of d{} does not end", domain.id);
    }

    /// The domain with this id, if it is still there.
    pub fn find(&self, id: DomId) -> Option<Shared<Domain<Fake>>> {
        self.kernel.domains.get(id)
    }
}

/// Makes the scheduler believe that nothing holds the vCPU and that it runs on this pCPU, or that it sleeps.
pub fn pretend(vcpu: &Vcpu<Fake>, on: Option<PcpuId>) {
    let mut run = vcpu.run.lock();
    vcpu.take_back(u32::MAX);
    run.pcpu = on.unwrap_or_default();
    run.enter(if on.is_some() { Runstate::Running } else { Runstate::Blocked }, Fake::now());
}

/// An exit that is no hypercall, to its end.
pub fn exit<const KIND: u8>(kernel: &'static Kernel<Fake>, cpu: &mut LocalCpu<Fake>, frame: &mut TrapFrame, esr: u64) {
    if exit::handle::<_, KIND>(kernel, cpu, frame, || esr) {
        choose(kernel, cpu, frame);
    }
}

/// Chooses until somebody runs, as the vectors do.
pub fn choose(kernel: &'static Kernel<Fake>, cpu: &mut LocalCpu<Fake>, frame: &mut TrapFrame) {
    while exit::choose(kernel, cpu, frame) == Source::Nobody {}
}

/// The plan of a plain domain with one vCPU, which may own twice as many pages as it starts with.
pub fn params(pages: u64) -> DomainParams {
    DomainParams { vcpus: 1, max_pages: pages * 2, max_grant_frames: 4, ..DomainParams::default() }
}

/// A new port of the domain that `remote` may connect to.
pub fn open_port(domain: &Domain<Fake>, remote: DomId) -> Port {
    domain.events.open(Binding::Unbound(remote), VcpuId(0)).expect("there is a free port")
}

/// The frame behind a page of the domain.
pub fn frame_of(domain: &Domain<Fake>, ipa: u64) -> Pa {
    domain.p2m.lookup(Ipa::new(ipa)).expect("the page is mapped").pa
}

/// Writes into the domain's memory, across pages.
pub fn poke_bytes(domain: &Domain<Fake>, ipa: u64, bytes: &[u8]) {
    for (at, byte) in (ipa..).zip(bytes) {
        Fake::write_bytes(frame_of(domain, at).add(at % PAGE_SIZE), &[*byte]);
    }
}

/// Writes a value into the domain's memory.
pub fn poke<T: IntoBytes + Immutable>(domain: &Domain<Fake>, ipa: u64, value: &T) {
    poke_bytes(domain, ipa, value.as_bytes());
}

/// Reads a value from the domain's memory.
pub fn peek<T: FromBytes + IntoBytes>(domain: &Domain<Fake>, ipa: u64) -> T {
    let mut value = T::new_zeroed();
    for (at, byte) in (ipa..).zip(value.as_mut_bytes()) {
        Fake::read_bytes(frame_of(domain, at).add(at % PAGE_SIZE), core::slice::from_mut(byte));
    }
    value
}
