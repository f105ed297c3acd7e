//! The virtual interrupt controller, at every offset, width and direction.

use pv_guest_lib::abi::arm::{GUEST_GICD_SIZE, GUEST_GICV3_GICD_BASE, GUEST_GICV3_GICD_SIZE, GUEST_GICV3_GICR0_BASE};

use crate::sys::{Ending, has_gicv2, run};
use crate::{Attacker, gicv2};

/// Loads of `[x1]` into x2: byte, half, word, double, pair, exclusive, signed, vector, acquire, post-indexed, ordered.
pub const LOADS: [u32; 11] = [
    0x3940_0022,
    0x7940_0022,
    0xB940_0022,
    0xF940_0022,
    0xA940_0C22,
    0xC85F_7C22,
    0x3980_0022,
    0x3DC0_0020,
    0xC8DF_FC22,
    0xF840_8422,
    0x88DF_FC22,
];
/// Stores of x2 to `[x1]`, in the same manner, with atomics and DC ZVA.
pub const STORES: [u32; 11] = [
    0x3900_0022,
    0x7900_0022,
    0xB900_0022,
    0xF900_0022,
    0xA900_0C22,
    0xC803_7C22,
    0xF800_8422,
    0x3D80_0020,
    0xC89F_FC22,
    0xF822_0022,
    0xD50B_7421,
];

/// MSR ICC_BPR1_EL1, x1. The register has three bits; QEMU 7.2 keeps the low three of a larger value without their lower
/// bound, and aborts when it next looks at a pending interrupt. That is a fault of the emulator, which no hypervisor
/// sees happen, so the attacks keep to three bits.
const SET_BPR1: u32 = 0xD518_CC61;

/// Bytes of the RD and SGI frames of two redistributors.
const REDISTRIBUTORS: u64 = 0x4_0000;

pub fn access(attacker: &Attacker, word: u32, address: u64, value: u64) -> Ending {
    let mut registers = [value; 30];
    registers[1] = address;
    run(attacker.code, &[word], &registers, None)
}

/// The distributor's 64 KiB, or 4 KiB of a GICv2's.
pub fn distributor(attacker: &mut Attacker) -> u64 {
    let size = if has_gicv2() { GUEST_GICD_SIZE } else { GUEST_GICV3_GICD_SIZE };
    let completed = sweep(attacker, GUEST_GICV3_GICD_BASE, size, 4);
    reset(attacker);
    completed
}

/// The redistributors, and the rest of their region at random; of a GICv2 the CPU interface.
pub fn redistributors(attacker: &mut Attacker) -> u64 {
    if has_gicv2() {
        return gicv2::cpu_interface(attacker);
    }
    let mut completed = sweep(attacker, GUEST_GICV3_GICR0_BASE, REDISTRIBUTORS, 64);
    for _ in 0..5000 {
        let address = GUEST_GICV3_GICR0_BASE + attacker.random.below(0x110_0000);
        let (load, store) = (attacker.random.index(11), attacker.random.index(10));
        let value = attacker.random.next();
        completed += u64::from(access(attacker, LOADS.get(load).copied().unwrap_or(0), address, 0).completed());
        completed += u64::from(access(attacker, STORES.get(store).copied().unwrap_or(0), address, value).completed());
    }
    reset(attacker);
    completed
}

/// Every word with all its bits set and cleared, every eighth word in all other ways, at odd offsets, too.
pub fn sweep(attacker: &mut Attacker, base: u64, size: u64, step: usize) -> u64 {
    let mut completed = 0;
    for offset in (0..size).step_by(step) {
        let address = base + offset;
        for value in [u64::MAX, 0] {
            completed += u64::from(access(attacker, STORES[2], address, value).completed());
        }
        completed += u64::from(access(attacker, LOADS[2], address, 0).completed());
        if offset % 64 == 0 {
            let odd = address + attacker.random.below(8);
            let value = attacker.random.next();
            for (load, store) in LOADS.into_iter().zip(STORES) {
                completed += u64::from(access(attacker, load, address, 0).completed());
                completed += u64::from(access(attacker, load, odd, 0).completed());
                completed += u64::from(access(attacker, store, address, value).completed());
                completed += u64::from(access(attacker, store, odd, value).completed());
            }
        }
    }
    completed
}

/// Turns everything off and takes every pending bit away, then lets the timer through for later attacks.
fn reset(attacker: &Attacker) {
    if has_gicv2() {
        return gicv2::reset(attacker);
    }
    let word = |address: u64, value: u64| access(attacker, STORES[2], address, value);
    for register in 0..32 {
        for group in [0x180, 0x280, 0x380] {
            word(GUEST_GICV3_GICD_BASE + group + register * 4, u64::MAX);
        }
    }
    let private = GUEST_GICV3_GICR0_BASE + 0x1_0000;
    for group in [0x180, 0x280, 0x380] {
        word(private + group, u64::MAX);
    }
    word(private + 0x80, u64::MAX);
    word(private + 0x400 + 24, 0x8080_8080);
    word(GUEST_GICV3_GICR0_BASE + 0x14, 0);
    word(GUEST_GICV3_GICD_BASE, 0x12);
    word(private + 0x100, 1 << 27);
}

/// SGIs by all three registers to every kind of target.
pub fn sgis(attacker: &mut Attacker) -> u64 {
    if has_gicv2() {
        return gicv2::sgis(attacker);
    }
    // ICC_SGI1R_EL1, ICC_ASGI1R_EL1 and ICC_SGI0R_EL1 from x1.
    let registers = [0xD518_CBA1, 0xD518_CBC1, 0xD518_CBE1];
    let mut completed = 0;
    for round in 0..6000usize {
        let mut state = [0; 30];
        state[1] = match round % 4 {
            0 => attacker.random.next(),
            1 => 1 << 40 | attacker.random.next() & 0xF00_FFFF,
            2 => attacker.random.next() & 0xFF_00FF_FFFF,
            _ => 0xFFFF | attacker.random.below(16) << 24 | attacker.random.below(16) << 44,
        };
        let word = registers.get(round % 3).copied().unwrap_or(0);
        completed += u64::from(run(attacker.code, &[word], &state, None).completed());
    }
    reset(attacker);
    completed
}

/// Enables, pends, activates, takes, ends and deactivates interrupts in no order, in both end modes, with priorities,
/// masks and groups that change.
pub fn churn(attacker: &mut Attacker) -> u64 {
    if has_gicv2() {
        return gicv2::churn(attacker);
    }
    // MRS x2 from ICC_IAR1_EL1, IAR0 and HPPIR1; MSR x1 to EOIR1, EOIR0, DIR, PMR, BPR1, CTLR, IGRPEN1, IGRPEN0.
    let interface = [
        0xD538_CC02,
        0xD538_CC02,
        0xD538_C802,
        0xD538_CC42,
        0xD518_CC21,
        0xD518_CC21,
        0xD518_C821,
        0xD518_CB21,
        0xD518_4601,
        0xD518_CC61,
        0xD518_CC81,
        0xD518_CCE1,
        0xD518_CCC1,
    ];
    let private = GUEST_GICV3_GICR0_BASE + 0x1_0000;
    let groups = [0x80, 0x100, 0x100, 0x180, 0x200, 0x200, 0x280, 0x300, 0x380, 0x400, 0xC00];
    let mut completed = 0;
    for _ in 0..15_000 {
        let value = match attacker.random.below(3) {
            0 => attacker.random.below(32),
            1 => attacker.random.pick(&[0, 1, 2, 3, 27, 30, 31, 32, 0xFF, 0xF0, 1023, 1020]),
            _ => attacker.random.next(),
        };
        completed += u64::from(if attacker.random.below(3) == 0 {
            let group = attacker.random.pick(&groups);
            let base = if attacker.random.below(4) == 0 { GUEST_GICV3_GICD_BASE + 4 } else { private };
            access(attacker, STORES[2], base + group, 1 << (value & 31)).completed()
        } else {
            let word = interface.get(attacker.random.index(13)).copied().unwrap_or(0);
            let value = if word == SET_BPR1 { value & 7 } else { value };
            run(attacker.code, &[word], &[value; 30], None).completed()
        });
    }
    // MSR ICC_PMR_EL1, x1; MSR ICC_CTLR_EL1, x2; MSR ICC_IGRPEN1_EL1, x3; and no interrupt left active.
    let mut registers = [0; 30];
    (registers[1], registers[3]) = (0xFF, 1);
    run(attacker.code, &[0xD518_4601, 0xD518_CC82, 0xD518_CCE3], &registers, None);
    for interrupt in 0..64 {
        // ICC_EOIR1_EL1 from x1
        run(attacker.code, &[0xD518_CC21], &[interrupt; 30], None);
    }
    reset(attacker);
    completed
}
