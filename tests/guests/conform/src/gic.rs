//! The interrupt controller, by interrupt: where its bit of a register stands, and how it is taken.

use pv_guest_lib::abi::arm::{GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICR0_BASE};

use crate::{Outcome, is, other, sys};

/// Registers of a bit for each interrupt, as offsets (sections 12.9 and 12.11).
pub const GROUP: u64 = 0x80;
pub const ENABLE: u64 = 0x100;
pub const DISABLE: u64 = 0x180;
pub const PEND: u64 = 0x200;
pub const UNPEND: u64 = 0x280;
pub const ACTIVATE: u64 = 0x300;
pub const DEACTIVATE: u64 = 0x380;
/// Registers of a byte and of two bits for each.
pub const PRIORITY: u64 = 0x400;
pub const CONFIG: u64 = 0xC00;
/// Registers of eight bytes for each.
pub const ROUTE: u64 = 0x6000;

/// `GICD_CTLR`: group 1 is forwarded; group 0 is; there is one security state.
pub const GROUP1: u64 = 1 << 1;
pub const GROUP0: u64 = 1 << 0;
const ONE_STATE: u64 = 1 << 6;

/// What the acknowledge register says when nothing is there.
pub const NOTHING: u64 = 1023;
/// Seconds after which what has not come is taken for lost.
const PATIENCE: u64 = 2;
/// The priority that interrupts have where nothing else is said.
pub const USUAL: u64 = 0x80;
/// Interrupts of the physical and of the virtual timer.
pub const PHYSICAL_TIMER: u64 = 30;
pub const VIRTUAL_TIMER: u64 = 27;
/// Interrupts without a source: software-generated, private, shared.
pub const SGI: u64 = 5;
pub const PPI: u64 = 20;
pub const SPI: u64 = 40;
/// One of each kind.
pub const KINDS: [u64; 3] = [SGI, PPI, SPI];

/// An address in the distributor.
pub const fn dist(offset: u64) -> u64 {
    GUEST_GICV3_GICD_BASE + offset
}

/// An address in the redistributor of a vCPU.
pub const fn redist(cpu: u64, offset: u64) -> u64 {
    GUEST_GICV3_GICR0_BASE + cpu * 0x2_0000 + offset
}

/// An address among the registers of the interrupts that a vCPU has for itself.
pub const fn private(cpu: u64, offset: u64) -> u64 {
    redist(cpu, 0x1_0000 + offset)
}

/// An address of a register that all interrupts have, for this vCPU's or for shared ones.
const fn base(irq: u64, offset: u64) -> u64 {
    if irq < 32 { private(0, offset) } else { dist(offset) }
}

/// The first interrupt that does not exist.
pub fn limit() -> u64 {
    (32 * ((sys::load(dist(4)) & 31) + 1)).min(1020)
}

/// Whether there is one security state, so that group 0 is this guest's as well.
pub fn has_group0() -> bool {
    sys::load(dist(0)) & ONE_STATE != 0
}

/// Sets the interrupt's bit of a register.
pub fn set(register: u64, irq: u64) {
    sys::store(base(irq, register) + irq / 32 * 4, 1 << (irq % 32));
}

/// The interrupt's bit of a register.
pub fn bit(register: u64, irq: u64) -> u64 {
    sys::load(base(irq, register) + irq / 32 * 4) >> (irq % 32) & 1
}

/// How urgent an interrupt is; less is more.
pub fn set_priority(irq: u64, priority: u64) {
    sys::store_byte(base(irq, PRIORITY) + irq, priority);
}

/// Makes an interrupt edge-triggered, or level-sensitive. True if it is so then.
pub fn set_edge(irq: u64, edge: bool) -> bool {
    let (at, shift) = (base(irq, CONFIG) + irq / 16 * 4, irq % 16 * 2);
    let wanted = if edge { 2 << shift } else { 0 };
    sys::store(at, sys::load(at) & !(3 << shift) | wanted);
    sys::load(at) >> shift & 2 == u64::from(edge) * 2
}

/// Where a shared interrupt goes.
pub fn route(irq: u64, to: u64) {
    sys::store_double(dist(ROUTE) + irq * 8, to);
}

/// Enables an interrupt and makes it pending.
pub fn raise(irq: u64) {
    set(ENABLE, irq);
    set(PEND, irq);
}

/// Takes an interrupt, which may take a moment to come, and longer where a busy host emulates the processors.
pub fn take() -> u64 {
    take_within(PATIENCE * sys::frequency())
}

/// Takes an interrupt if one comes within so many ticks.
pub fn take_within(ticks: u64) -> u64 {
    let until = sys::now() + ticks;
    loop {
        let irq = sys::iar1();
        if irq != NOTHING || sys::now() > until {
            return irq;
        }
    }
}

/// This interrupt comes.
pub fn comes(irq: u64) -> Outcome {
    is("what is taken", take(), irq)
}

/// No interrupt comes for a while.
pub fn nothing_comes() -> Outcome {
    let until = sys::now() + sys::frequency() / 5000;
    while sys::now() < until {
        is("what is taken", sys::iar1(), NOTHING)?;
    }
    Ok(())
}

/// This interrupt comes, and is ended.
pub fn comes_and_ends(irq: u64) -> Outcome {
    comes(irq)?;
    sys::set_eoir1(irq);
    Ok(())
}

/// This interrupt is raised by hand, is pending, comes, is active, is ended, and is gone.
pub fn lives(irq: u64) -> Outcome {
    raise(irq);
    states(irq, 1, 0)?;
    comes(irq)?;
    states(irq, 0, 1)?;
    sys::set_eoir1(irq);
    states(irq, 0, 0)?;
    nothing_comes()
}

/// Whether an interrupt is pending and active.
pub fn states(irq: u64, pending: u64, active: u64) -> Outcome {
    is("the pending bit", bit(PEND, irq), pending)?;
    is("the pending bit of the clearing register", bit(UNPEND, irq), pending)?;
    is("the active bit", bit(ACTIVATE, irq), active)?;
    is("the active bit of the clearing register", bit(DEACTIVATE, irq), active)
}

/// Something that is so soon: what another vCPU does is seen in finite time.
pub fn soon(look: impl Fn() -> Outcome) -> Outcome {
    let until = sys::now() + PATIENCE * sys::frequency();
    loop {
        let outcome = look();
        if outcome.is_ok() || sys::now() > until {
            return outcome;
        }
    }
}

/// Everything is disabled, idle, in group 1, of the usual priority, shared ones edge-triggered and routed to the first
/// vCPU; the timers are off, and the CPU interfaces let everything of group 1 through.
pub fn reset() {
    sys::set_cntp_ctl(0);
    sys::set_cntv_ctl(0);
    for word in 0..limit().div_ceil(32) {
        let bases = if word == 0 { [private(0, 0), private(1, 0)] } else { [dist(word * 4); 2] };
        for base in bases {
            for register in [DISABLE, UNPEND, DEACTIVATE, GROUP] {
                sys::store(base + register, u64::MAX);
            }
            let first = if word == 0 { base } else { dist(word * 32) };
            for n in 0..8 {
                sys::store(first + PRIORITY + n * 4, USUAL * 0x0101_0101);
            }
        }
        for n in word * 2..word * 2 + 2 {
            sys::store(
                if word == 0 { private(0, CONFIG) } else { dist(CONFIG) } + n * 4,
                if word == 0 { 0 } else { 0xAAAA_AAAA },
            );
        }
    }
    for irq in 32..limit() {
        route(irq, 0);
    }
    sys::store(dist(0), GROUP1);
    reset_interface();
    other::reset_interface();
}

/// The CPU interface of this vCPU.
pub fn reset_interface() {
    sys::set_pmr(0xFF);
    sys::set_bpr1(0);
    sys::set_ctlr(0);
    sys::set_enable1(1);
    for _ in 0..64 {
        match (sys::iar1(), sys::running() & 0xFF) {
            (NOTHING, 0xFF) => return,
            // What is active and has no place drops its priority by any end.
            (irq, _) => sys::set_eoir1(irq % NOTHING),
        }
    }
}
