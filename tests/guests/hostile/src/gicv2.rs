//! The virtual interrupt controller of a host with a GICv2: what else it has than a GICv3, and the CPU interface, which is the
//! hardware's own in memory.

use pv_guest_lib::abi::arm::{GUEST_GICC_BASE, GUEST_GICC_SIZE, GUEST_GICV3_GICD_BASE};

use crate::Attacker;
use crate::gic::{LOADS, STORES, access, sweep};

/// Offsets in the CPU interface that interrupts are taken from: `GICC_IAR`, `HPPIR`, `RPR`, `AIAR`.
const TAKES: [u64; 4] = [0xC, 0x18, 0x14, 0x20];
/// Those that are written: `GICC_EOIR`, `AEOIR`, `DIR`, `PMR`, `BPR`, `ABPR`, `CTLR`, and active priorities.
const WRITES: [u64; 8] = [0x10, 0x24, 0x1000, 4, 8, 0x1C, 0, 0xD0];
/// Those of the distributor: SGIs to send, pended and taken back, and what a GICv3 has as well.
const DISTRIBUTOR: [u64; 12] = [0xF00, 0xF00, 0xF10, 0xF20, 0x820, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380, 0x400];

/// The CPU interface's 8 KiB, where a GICv3 has redistributors.
pub fn cpu_interface(attacker: &mut Attacker) -> u64 {
    let completed = sweep(attacker, GUEST_GICC_BASE, GUEST_GICC_SIZE, 4);
    reset(attacker);
    completed
}

/// SGIs to every kind of target, by every kind of sender.
pub fn sgis(attacker: &mut Attacker) -> u64 {
    let mut completed = 0;
    for _ in 0..6000 {
        let (at, store) = (attacker.random.below(12), attacker.random.index(3));
        let (offset, value) = if at < 6 { (0xF00, attacker.random.next()) } else { (0xF10 + at * 4, u64::MAX) };
        let word = STORES.get(store).copied().unwrap_or(0);
        completed += u64::from(access(attacker, word, GUEST_GICV3_GICD_BASE + offset, value).completed());
    }
    reset(attacker);
    completed
}

/// Enables, pends, activates, takes, ends and deactivates interrupts in no order.
pub fn churn(attacker: &mut Attacker) -> u64 {
    let mut completed = 0;
    for _ in 0..15_000 {
        let value = match attacker.random.below(3) {
            0 => attacker.random.below(64),
            1 => attacker.random.pick(&[0, 1, 3, 27, 0xFF, 0xF0, 1023, 1020, 0x405, 0x1C05, 0x201]),
            _ => attacker.random.next(),
        };
        let (word, address) = match attacker.random.below(3) {
            0 => {
                let offset = attacker.random.pick(&DISTRIBUTOR) + attacker.random.below(2) * 4;
                (STORES[2], GUEST_GICV3_GICD_BASE + offset)
            }
            1 => (STORES[2], GUEST_GICC_BASE + attacker.random.pick(&WRITES)),
            _ => (LOADS[2], GUEST_GICC_BASE + attacker.random.pick(&TAKES)),
        };
        completed += u64::from(access(attacker, word, address, value).completed());
    }
    reset(attacker);
    completed
}

/// Turns everything off and takes every pending bit away, then lets the timer through for later attacks.
pub fn reset(attacker: &Attacker) {
    let distributor = |offset, value| access(attacker, STORES[2], GUEST_GICV3_GICD_BASE + offset, value);
    let interface = |offset, value| access(attacker, STORES[2], GUEST_GICC_BASE + offset, value);
    for register in 0..32 {
        for group in [0x180, 0x280, 0x380] {
            distributor(group + register * 4, u64::MAX);
        }
    }
    for register in 0..4 {
        distributor(0xF10 + register * 4, u64::MAX);
    }
    distributor(0x80, 0);
    distributor(0x400 + 24, 0x8080_8080);
    distributor(0, 1);
    for (offset, value) in [(4, 0xFF), (8, 0), (0, 1), (0xD0, 0)] {
        interface(offset, value);
    }
    for interrupt in 0..64 {
        interface(0x10, interrupt);
    }
    distributor(0x100, 1 << 27);
}
