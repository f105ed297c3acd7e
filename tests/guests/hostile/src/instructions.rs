//! Instruction words that nobody would write.

use crate::Attacker;
use crate::sys::{RAM, USER_ALIAS, millisecond, now, run};

const ERET: u32 = 0xD69F_03E0;

/// Every register that `MRS` and `MSR` can name, and every `SYS` and `SYSL` instruction, with three values.
pub fn registers(attacker: &mut Attacker) -> u64 {
    let mut allowed = 0;
    let spare = attacker.scratch.at(64 * 4096);
    for encoding in 0..3u32 << 14 {
        // op0 from 1 to 3, then op1, CRn, CRm and op2, as they stand in the instruction.
        let (op0, fields) = (1 + (encoding >> 14), encoding & 0x3FFF);
        let instruction = 0xD500_0000 | op0 << 19 | fields << 5;
        for value in [0, spare, u64::MAX] {
            // ICC_BPR1_EL1 beyond its three bits, see `gic`.
            let value = if op0 == 3 && fields == 0x663 { value & 7 } else { value };
            if !breaks_the_attack(op0, fields) {
                let mut state = [spare; 30];
                state[1] = value;
                allowed += u64::from(run(attacker.code, &[instruction | 1], &state, None).completed());
            }
            if value == 0 {
                allowed += u64::from(run(attacker.code, &[instruction | 1 << 21 | 2], &[0; 30], None).completed());
            }
        }
    }
    allowed
}

/// Registers that translate this image's memory or hold its vectors: another value ends the attack, which is not what
/// is to be shown. Also those that reach the state of the interrupted loop: SPSel and DAIF.
fn breaks_the_attack(op0: u32, fields: u32) -> bool {
    let (op1, crn, crm, op2) = (fields >> 11, fields >> 7 & 15, fields >> 3 & 15, fields & 7);
    let translation = matches!((crn, crm), (1, 0) | (2, _) | (10, 2) | (12, 0));
    op0 == 3 && op1 == 0 && translation && !(crn == 12 && op2 != 0) || op0 == 3 && crn == 4 && crm == 2
}

/// Words without any system in them, at EL1.
pub fn random(attacker: &mut Attacker) -> u64 {
    let until = now() + 8000 * millisecond();
    let (mut done, mut completed) = (0u64, 0);
    while done < 20_000 && now() < until {
        let word = attacker.random.word();
        let system = word >> 22 == 0xD500_0000u32 >> 22;
        let eret = word >> 25 == 0xD600_0000u32 >> 25 && word >> 21 & 15 >= 4;
        if system || eret || branches(word) {
            continue;
        }
        done += 1;
        let places =
            [0, attacker.scratch.at(128 * 4096), 0x0300_1000, 0x0302_0000, 0x1000_0000, 0x60_0000_0000, u64::MAX];
        let mut registers = [0; 30];
        for register in &mut registers {
            *register = attacker.random.pick(&places);
        }
        let ending = run(attacker.code, &[word], &registers, Some(millisecond()));
        completed += u64::from(ending.completed());
    }
    completed
}

/// Direct branches, which could go to the image's own code, and calls of the hypervisor, which could end the domain.
fn branches(word: u32) -> bool {
    let direct = word >> 26 & 0x1F == 5;
    let conditional = word >> 25 == 0x2A || word >> 25 & 0x3F == 0x1A || word >> 25 & 0x3F == 0x1B;
    let exceptions = word >> 24 == 0xD4;
    direct || conditional || exceptions
}

/// Random words at EL0, both in AArch64 and in AArch32.
pub fn random_at_el0(attacker: &mut Attacker) -> u64 {
    let code = attacker.scratch.at(32 * 4096) - RAM + USER_ALIAS;
    let mut faults = 0;
    for round in 0..400usize {
        for offset in (0..4096).step_by(8) {
            let word = attacker.random.next();
            attacker.scratch.set(32 * 4096 + offset, word);
        }
        let mut registers = [attacker.scratch.at(128 * 4096) - RAM + USER_ALIAS; 30];
        registers[0] = code;
        registers[1] = [0, 0x10, 0x30, 0x210][round % 4];
        // MSR ELR_EL1, x0; MSR SPSR_EL1, x1; IC IALLU; ISB; ERET
        let drop = [0xD518_4020, 0xD518_4001, 0xD508_751F, 0xD503_3FDF, ERET];
        faults += u64::from(run(attacker.code, &drop, &registers, Some(millisecond())).vector != 5);
    }
    faults
}
