//! A guest that uses the FIFO ABI, and takes its queues apart as Linux does.

use super::*;

/// Pages of the guest's RAM: of control blocks, of event words, and of the second vCPU's record.
pub(super) const CONTROL: u64 = 4;
pub(super) const ARRAY: u64 = 6;
pub(super) const RECORD: u64 = 10;
pub(super) const PAGES: u64 = 12;

pub(super) fn gfn(page: u64) -> Gfn {
    Gfn(GUEST_RAM / PAGE_SIZE + page)
}

pub(super) fn init(
    world: &mut World,
    domain: &Dom,
    vcpu: u32,
    page: u64,
    offset: u32,
) -> Result<InitControl, XenError> {
    let arg = InitControl { control_gfn: gfn(page), offset, vcpu: VcpuId(vcpu), ..InitControl::default() };
    op(world, domain, EvtchnOp::InitControl, &arg)
}

pub(super) fn expand(world: &mut World, domain: &Dom, page: u64) -> Result<(), XenError> {
    op(world, domain, EvtchnOp::ExpandArray, &ExpandArray { array_gfn: gfn(page) }).map(|_| ())
}

pub(super) fn set_priority(world: &mut World, domain: &Dom, port: Port, priority: u32) -> Result<(), XenError> {
    op(world, domain, EvtchnOp::SetPriority, &SetPriority { port, priority }).map(|_| ())
}

/// A guest of two vCPUs.
pub(super) struct Guest {
    pub(super) domain: Dom,
    heads: [[u32; FIFO_MAX_QUEUES]; 2],
}

impl Guest {
    pub(super) fn new(world: &mut World) -> Guest {
        let domain = world.domain_like(&DomainParams { vcpus: 2, ..params(PAGES) }, PAGES);
        poke(&domain, GUEST_RAM, &RegisterVcpuInfo { mfn: gfn(RECORD), ..RegisterVcpuInfo::default() });
        assert_eq!(world.call(&domain, VCPU_OP, &[VcpuOp::RegisterVcpuInfo as u64, 1, GUEST_RAM]), 0);
        let guest = Guest { domain, heads: Default::default() };
        assert!(guest.interrupted(1), "it may have missed something");
        guest
    }

    /// One that uses the FIFO ABI, with words for the first 1024 ports.
    pub(super) fn on_fifo(world: &mut World) -> Guest {
        let guest = Guest::new(world);
        for vcpu in [0, 1] {
            assert_eq!(
                init(world, &guest.domain, vcpu, CONTROL + u64::from(vcpu), 64).map(|arg| arg.link_bits),
                Ok(17)
            );
        }
        expand(world, &guest.domain, ARRAY).unwrap();
        guest
    }

    pub(super) fn at(port: u32) -> u64 {
        GUEST_RAM + (ARRAY + u64::from(port) / 1024) * PAGE_SIZE + u64::from(port) % 1024 * 4
    }

    pub(super) fn word(&self, port: u32) -> u32 {
        peek(&self.domain, Self::at(port))
    }

    pub(super) fn set(&self, port: u32, word: u32) {
        poke(&self.domain, Self::at(port), &word);
    }

    pub(super) fn is(&self, port: u32, bit: u32) -> bool {
        self.word(port) & 1 << bit != 0
    }

    /// Takes the next event off a vCPU's queues; the port, and whether it is to be handled.
    pub(super) fn next(&mut self, vcpu: usize) -> Option<(u32, bool)> {
        let control = GUEST_RAM + (CONTROL + vcpu as u64) * PAGE_SIZE + 64;
        let ready: u32 = peek(&self.domain, control);
        let heads = &mut self.heads[vcpu];
        let priority = (0..FIFO_MAX_QUEUES).find(|n| ready & 1 << n != 0)?;
        if heads[priority] == 0 {
            heads[priority] = peek(&self.domain, control + 8 + 4 * priority as u64);
        }
        let port = heads[priority];
        let word = self.word(port);
        self.set(port, word & !(1 << FIFO_LINKED | FIFO_LINK_MASK));
        self.heads[vcpu][priority] = word & FIFO_LINK_MASK;
        if word & FIFO_LINK_MASK == 0 {
            poke(&self.domain, control, &(ready & !(1 << priority)));
        }
        let handled = word & (1 << FIFO_PENDING | 1 << FIFO_MASKED) == 1 << FIFO_PENDING;
        if handled {
            self.set(port, self.word(port) & !(1 << FIFO_PENDING));
        }
        Some((port, handled))
    }

    /// All that a vCPU has to handle, in order.
    pub(super) fn drain(&mut self, vcpu: usize) -> Vec<u32> {
        let mut handled = Vec::new();
        // As many turns as there are words: a queue without end is a mistake.
        for _ in 0..4096 {
            match self.next(vcpu) {
                Some((port, true)) => handled.push(port),
                Some(_) => {}
                None => return handled,
            }
        }
        panic!("the queue of vCPU {vcpu} has no end");
    }

    /// Whether the vCPU was interrupted since it was asked last.
    pub(super) fn interrupted(&self, vcpu: usize) -> bool {
        Fake::clear_bits64(self.domain.vcpus()[vcpu].info().unwrap(), 0xFF) & 0xFF != 0
    }
}
