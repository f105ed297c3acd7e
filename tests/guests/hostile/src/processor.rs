//! The vCPU itself: firmware, waiting, caches.

use crate::Attacker;
use crate::random::ODD;
use crate::sys::{firmware, millisecond, now, run};

/// Functions of PSCI that end the domain or the vCPU, or wait for an interrupt.
const ENDING: [u64; 6] = [1, 2, 8, 9, 0xE, 0x12];

/// PSCI and SMCCC by HVC and SMC: every function, unknown ones, absent vCPUs, itself, odd entries.
pub fn firmware_calls(attacker: &mut Attacker) -> u64 {
    let mut answered = 0;
    let owners = [
        0x8000_0000,
        0x8400_0000,
        0x8500_0000,
        0x8600_0000,
        0xC000_0000,
        0xC400_0000,
        0xC600_0000,
        0xFFFF_FFFF_8400_0000,
    ];
    for owner in owners {
        for function in (0..0x60).chain([0xFF00, 0xFF01, 0xFF03, 0xFFFF]) {
            if owner & 0xFF00_0000 == 0x8400_0000 & 0xFF00_0000 && ENDING.contains(&function) {
                continue;
            }
            if owner & 0xBF00_0000 == 0x8400_0000 && ENDING.contains(&function) {
                continue;
            }
            for target in [0, 2, 127, 128, 0xFF, 0x100, 0xFF_FFFF, 0x8000_0000, 1 << 32, u64::MAX] {
                let entry = attacker.random.pick(&ODD);
                for secure in [false, true] {
                    answered += u64::from(firmware(secure, [owner + function, target, entry, entry]) == 0);
                }
            }
        }
    }
    // All other immediates of HVC, SMC and SVC.
    for immediate in (1..0x1_0000u32).step_by(257) {
        for kind in [1, 2, 3] {
            let word = 0xD400_0000 | immediate << 5 | kind;
            answered += u64::from(run(attacker.code, &[word], &[0x8400_0000; 30], None).completed());
        }
    }
    answered
}

/// WFI with a timer that is about to fire, WFE and YIELD as fast as they go.
pub fn waiting(attacker: &mut Attacker) -> u64 {
    const WFI: u32 = 0xD503_207F;
    const WFE: u32 = 0xD503_205F;
    const SEV: u32 = 0xD503_209F;
    let until = now() + 4000 * millisecond();
    let mut rounds = 0;
    while rounds < 3000 && now() < until {
        rounds += 1;
        run(attacker.code, &[WFI, WFI], &[0; 30], Some(rounds % 64));
        run(attacker.code, &[WFE; 14], &[0; 30], Some(millisecond()));
        run(attacker.code, &[SEV, WFE, SEV, WFE], &[0; 30], Some(millisecond()));
    }
    rounds
}

/// DC ISW, CSW and CISW with every kind of value.
pub fn caches(attacker: &mut Attacker) -> u64 {
    let mut completed = 0;
    for round in 0..1500u64 {
        for word in [0xD508_7641, 0xD508_7A41, 0xD508_7E41] {
            let mut registers = [0; 30];
            registers[1] = if round < 256 { round << 4 } else { attacker.random.next() };
            completed += u64::from(run(attacker.code, &[word], &registers, None).completed());
        }
    }
    completed
}
