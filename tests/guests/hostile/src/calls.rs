//! Hypercalls with numbers and arguments that make no sense.

use pv_guest_lib::abi::{control, nr, sched::SchedOp};

use crate::Attacker;
use crate::random::{ODD, pointers};
use crate::sys::{hypercall, millisecond, now, run};

/// Commands of `sched_op` that end the domain or stop it until something happens.
const ENDING: [u32; 4] =
    [SchedOp::Block.raw(), SchedOp::Shutdown.raw(), SchedOp::Poll.raw(), SchedOp::ShutdownCode.raw()];

/// Each number of Xen's range and of the control calls, with odd values and pointers in each argument in turn.
pub fn every_number(attacker: &mut Attacker) -> u64 {
    let odd_numbers = [0xFFFF_FFFF, 0x1_0000_0000, 0x8000_0000, 0x7FFF_FFFF, 0x2000];
    let base = u64::from(control::BASE);
    let mut answered = 0;
    for number in (0..64).chain(base - 2..base + 64).chain(odd_numbers) {
        for command in (0..32).chain(ODD) {
            if number & 0xFFFF_FFFF == u64::from(nr::SCHED_OP) && ENDING.contains(&low(command)) {
                continue;
            }
            fill(attacker);
            for pointer in pointers(&attacker.scratch) {
                let count = attacker.random.pick(&ODD);
                answered += u64::from(hypercall(number, [command, pointer, count, pointer, count, pointer]) == 0);
            }
            let pointer = attacker.scratch.at(4096);
            answered += u64::from(hypercall(number, [command, 40, pointer, pointer, 1, 2]) == 0);
        }
    }
    answered
}

/// A hundred thousand calls of any kind, or as many as five seconds hold.
pub fn random(attacker: &mut Attacker) -> u64 {
    let calls = [
        nr::MEMORY_OP,
        nr::XEN_VERSION,
        nr::GRANT_TABLE_OP,
        nr::VCPU_OP,
        nr::EVENT_CHANNEL_OP,
        nr::HVM_OP,
        nr::SCHED_OP,
        nr::VM_ASSIST,
        nr::MULTICALL,
        nr::PHYSDEV_OP,
    ];
    let until = now() + 5000 * millisecond();
    let mut done = 0;
    while done < 100_000 && now() < until {
        done += 1;
        if done % 16 == 1 {
            fill(attacker);
        }
        let known = attacker.random.index(calls.len());
        let number = match attacker.random.below(8) {
            0 => u64::from(control::BASE) + attacker.random.below(32),
            1 => attacker.random.below(64),
            _ => calls.get(known).map_or(0, |number| u64::from(*number)),
        };
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = attacker.random.argument(&attacker.scratch);
        }
        if attacker.random.below(4) != 0 {
            arguments[0] = attacker.random.below(32);
            arguments[1] = attacker.scratch.at(attacker.random.next()) & !7;
            // Long batches are tried as well, but each takes its time.
            arguments[2] = attacker.random.below(64);
        }
        let ending = number == u64::from(nr::SCHED_OP) && ENDING.contains(&low(arguments[0]));
        // A multicall may hold calls that end the domain; those of the scratch pages are random, too.
        if !ending && number != u64::from(nr::MULTICALL) {
            hypercall(number, arguments);
        }
    }
    done
}

/// Multicalls in multicalls, over the end of memory, without end, and over their own entries.
pub fn multicalls(attacker: &mut Attacker) -> u64 {
    let scratch = attacker.scratch;
    let mut answers = 0;
    let multicall = u64::from(nr::MULTICALL);
    for inner in [nr::MULTICALL, control::BASE, nr::XEN_VERSION, nr::CONSOLE_IO, nr::MEMORY_OP, nr::GRANT_TABLE_OP] {
        for entry in 0..64u64 {
            let at = entry * 64;
            scratch.set(at, u64::from(inner));
            scratch.set(at + 8, 0);
            scratch.set(at + 16, attacker.random.below(4));
            scratch.set(at + 24, scratch.base() + at + attacker.random.below(64));
            scratch.set(at + 32, attacker.random.pick(&ODD));
        }
        for count in [0, 1, 64, 0xFFFF_FFFF, u64::MAX] {
            // What follows the 64 entries ends the long ones: it is not mapped, or it is an unknown call.
            scratch.set(64 * 64, 63);
            let near_end = scratch.base() + scratch.size() - 32;
            let at = if count > 64 { 0x7F_FFFF_F000 } else { scratch.base() };
            answers += u64::from(hypercall(multicall, [at, count, 0, 0, 0, 0]) == 0);
            answers += u64::from(hypercall(multicall, [near_end + 0x10_0000_0000, 2, 0, 0, 0, 0]) == 0);
        }
    }
    answers
}

/// `vcpu_info`, run-state and time areas at odd places, over and over, for vCPUs that do not exist as well.
pub fn registrations(attacker: &mut Attacker) -> u64 {
    let scratch = attacker.scratch;
    let call = u64::from(nr::VCPU_OP);
    let mut accepted = 0;
    for round in 0..4 {
        for command in 0..20 {
            for vcpu in [0, 1, 2, 127, 128, 0xFFFF_FFFF] {
                for pointer in pointers(&scratch) {
                    let frame = attacker.random.pick(&[0, scratch.base() >> 12, 0x39000, 0x3001, u64::MAX, 1 << 28]);
                    let offset = attacker.random.pick(&[0, 8, 4, 4032, 4048, 4088, 4095, 4096, 0xFFFF_FFFF]);
                    scratch.set(8192, if round % 2 == 0 { frame } else { pointer });
                    scratch.set(8200, offset);
                    let at = if round < 2 { scratch.base() + 8192 } else { pointer };
                    accepted += u64::from(hypercall(call, [command, vcpu, at, 0, 0, 0]) == 0);
                    // Makes the hypervisor write what is registered now.
                    hypercall(u64::from(nr::SCHED_OP), [0; 6]);
                }
            }
        }
    }
    accepted
}

/// Page tables of the upper half at random places and with random entries, while calls take pointers from there.
pub fn page_tables(attacker: &mut Attacker) -> u64 {
    let scratch = attacker.scratch;
    let mut answered = 0;
    for round in 0..400u64 {
        for offset in (64 * 4096..66 * 4096).step_by(8) {
            let entry = match attacker.random.below(4) {
                0 => attacker.random.next(),
                1 => scratch.at(64 * 4096 + attacker.random.below(2) * 4096) | 3,
                2 => scratch.at(attacker.random.next()) & !0xFFF | 0x403 | attacker.random.next() & 0xFC,
                _ => {
                    attacker.random.pick(&[0x0300_1000, 0x3900_0000, 0x60_0000_0000, 0xFFFF_FFFF_F000, 0x4000_0000])
                        | 0x703
                }
            };
            scratch.set(offset, entry);
        }
        let nowhere = [0x0300_1000, 0x60_0000_0000, 0xFFFF_FFFF_F000, 0, 0x3900_0000];
        let table = if round % 4 == 0 { attacker.random.pick(&nowhere) } else { scratch.at(64 * 4096) };
        let size = attacker.random.pick(&[16, 25, 34, 39, 0, 63]);
        // MRS x2, TCR_EL1; BFI x2, x3, #16, #16; MSR TCR_EL1, x2; MSR TTBR1_EL1, x1; TLBI VMALLE1; DSB; ISB
        let words = [0xD538_2042, 0xB370_3C62, 0xD518_2042, 0xD518_2021, 0xD508_871F, 0xD503_3F9F, 0xD503_3FDF];
        let mut registers = [0; 30];
        // T1SZ, with 4 KiB pages and cacheable walks.
        (registers[1], registers[3]) = (table, size | 0xB500);
        run(attacker.code, &words, &registers, None);
        for _ in 0..16 {
            let pointer = attacker.random.next() | 0xFFFF_FF80_0000_0000;
            let number =
                attacker.random.pick(&[nr::EVENT_CHANNEL_OP, nr::GRANT_TABLE_OP, nr::XEN_VERSION].map(u64::from));
            answered += u64::from(hypercall(number, [attacker.random.below(12), pointer, 1, 0, 0, 0]) == 0);
            // LDR x2, [x1]
            answered += u64::from(run(attacker.code, &[0xF940_0022], &[pointer; 30], None).completed()) << 32;
        }
    }
    // TCR_EL1.EPD1 again.
    run(attacker.code, &[0xD538_2042, 0xB269_0042, 0xD518_2042], &[0; 30], None);
    answered
}

/// Puts odd numbers where calls will look for structures.
fn fill(attacker: &mut Attacker) {
    for offset in (4096..3 * 4096).chain(8 * 4096..9 * 4096 + 256).step_by(8) {
        let (low, high) = (attacker.random.argument(&attacker.scratch), attacker.random.argument(&attacker.scratch));
        let value = if attacker.random.below(2) == 0 { low } else { low & 0xFFFF_FFFF | high << 32 };
        attacker.scratch.set(offset, value);
    }
}

fn low(value: u64) -> u32 {
    (value & 0xFFFF_FFFF) as u32
}
