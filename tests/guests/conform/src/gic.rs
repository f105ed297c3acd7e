//! The interrupt controller, by interrupt: where its bit of a register stands, and how it is taken.

use core::sync::atomic::{AtomicBool, Ordering};

use pv_guest_lib::abi::arm::{GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICR0_BASE};

use crate::{Outcome, interface, is, other, sys, v2};

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
/// A byte for each on a GICv2, whose bits are vCPUs.
pub const TARGET: u64 = 0x800;
/// Registers of eight bytes for each, on a GICv3.
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
/// A route that leaves the choice to the distributor.
pub const ANY: u64 = 1 << 31;
/// An affinity that no vCPU has.
pub const NOBODY: u64 = 0x77;
/// To whom an SGI goes: everybody but the sender.
pub const OTHERS: u64 = 1 << 40;
/// One of each kind.
pub const KINDS: [u64; 3] = [SGI, PPI, SPI];

static V2: AtomicBool = AtomicBool::new(false);

/// Looks which GIC there is.
pub fn find() {
    // Relaxed: the second vCPU is started afterwards.
    V2.store(sys::features() >> 24 & 0xF == 0, Ordering::Relaxed);
}

/// Whether it is a GICv2.
pub fn is_v2() -> bool {
    V2.load(Ordering::Relaxed)
}

/// An address in the distributor.
pub const fn dist(offset: u64) -> u64 {
    GUEST_GICV3_GICD_BASE + offset
}

/// An address in the redistributor of a vCPU.
pub const fn redist(cpu: u64, offset: u64) -> u64 {
    GUEST_GICV3_GICR0_BASE + cpu * 0x2_0000 + offset
}

/// An address among the registers of the interrupts that a vCPU has for itself. On a GICv2 whoever accesses it means its own.
pub fn private(cpu: u64, offset: u64) -> u64 {
    if is_v2() { dist(offset) } else { redist(cpu, 0x1_0000 + offset) }
}

/// An address of a register that all interrupts have, for this vCPU's or for shared ones.
fn base(irq: u64, offset: u64) -> u64 {
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

/// Whether each interrupt has a group that is seen.
pub fn has_groups() -> bool {
    is_v2() || has_group0()
}

/// What makes the distributor forward the group in which interrupts are.
pub fn forward() -> u64 {
    if is_v2() { GROUP0 } else { GROUP1 }
}

/// Sets the interrupt's bit of a register. SGIs of a GICv2 are pending by sender, who is this vCPU.
pub fn set(register: u64, irq: u64) {
    match register {
        PEND if is_v2() && irq < 16 => sys::store_byte(dist(v2::PEND_BY_SENDER) + irq, 1),
        UNPEND if is_v2() && irq < 16 => sys::store_byte(dist(v2::TAKE_BACK) + irq, 0xFF),
        _ => set_bit(register, irq),
    }
}

fn set_bit(register: u64, irq: u64) {
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

/// Sets a private interrupt's bit of a register of the second vCPU, which a GICv2 lets that one do alone.
pub fn set_of_other(register: u64, irq: u64) {
    match register {
        UNPEND if is_v2() && irq < 16 => other::store(v2::TAKE_BACK + irq / 4 * 4, 0xFF << (irq % 4 * 8)),
        _ if is_v2() => other::store(register, 1 << irq),
        _ => sys::store(private(1, register), 1 << irq),
    }
}

/// The bits of its private interrupts.
pub fn bits_of_other(register: u64) -> u64 {
    if is_v2() { other::load(register) } else { sys::load(private(1, register)) }
}

/// Where a shared interrupt goes.
pub fn route(irq: u64, to: u64) {
    let mask = match to {
        NOBODY => 0,
        ANY => 0b11,
        cpu => 1 << cpu,
    };
    if is_v2() { sys::store_byte(dist(TARGET) + irq, mask) } else { sys::store_double(dist(ROUTE) + irq * 8, to) }
}

/// Sends an SGI, as `ICC_SGI1R_EL1` names its targets.
pub fn send(irq: u64, targets: u64) {
    if is_v2() {
        let others = if targets & OTHERS == 0 { 0 } else { 1 << 24 };
        sys::store(dist(v2::SEND), others | (targets & 0xFF) << 16 | irq);
    } else {
        sys::set_sgi1r(irq << 24 | targets);
    }
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
        let irq = interface::iar1();
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
        is("what is taken", interface::iar1(), NOTHING)?;
    }
    Ok(())
}

/// This interrupt comes, and is ended.
pub fn comes_and_ends(irq: u64) -> Outcome {
    comes(irq)?;
    interface::set_eoir1(irq);
    Ok(())
}

/// This interrupt is raised by hand, is pending, comes, is active, is ended, and is gone.
pub fn lives(irq: u64) -> Outcome {
    raise(irq);
    states(irq, 1, 0)?;
    comes(irq)?;
    states(irq, 0, 1)?;
    interface::set_eoir1(irq);
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

/// Everything is disabled, idle, in one group, of the usual priority, shared ones edge-triggered and routed to the first
/// vCPU; the timers are off, and the CPU interfaces let everything through.
pub fn reset() {
    sys::set_cntp_ctl(0);
    sys::set_cntv_ctl(0);
    for word in 0..limit().div_ceil(32) {
        if word == 0 && !is_v2() {
            reset_32(private(0, 0), private(0, 0));
            reset_32(private(1, 0), private(1, 0));
        } else if word != 0 {
            reset_32(dist(word * 4), dist(word * 32));
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
    sys::store(dist(0), forward());
    reset_interface();
    other::reset_interface();
}

/// 32 interrupts, whose bits are here and whose bytes there.
fn reset_32(bits: u64, bytes: u64) {
    for register in [DISABLE, UNPEND, DEACTIVATE] {
        sys::store(bits + register, u64::MAX);
    }
    sys::store(bits + GROUP, if is_v2() { 0 } else { u64::MAX });
    for n in 0..8 {
        sys::store(bytes + PRIORITY + n * 4, USUAL * 0x0101_0101);
    }
}

/// The CPU interface of this vCPU; of a GICv2 its private interrupts, too, which no other one reaches.
pub fn reset_interface() {
    if is_v2() {
        reset_32(dist(0), dist(0));
        (0..4).for_each(|n| sys::store(dist(v2::TAKE_BACK) + n * 4, u64::MAX));
        interface::reset_groups();
    }
    interface::set_pmr(0xFF);
    interface::set_bpr1(0);
    interface::set_two_ends(false);
    interface::set_enable1(true);
    for _ in 0..64 {
        match (interface::iar1(), interface::running() & 0xFF) {
            (NOTHING, 0xFF) => return,
            // What is active and has no place drops its priority by any end.
            (irq, _) => interface::set_eoir1(irq % NOTHING),
        }
    }
}
