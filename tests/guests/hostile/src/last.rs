//! Attacks that this domain does not survive; everybody else must.

use pv_guest_lib::abi::memory::MemoryOp;
use pv_guest_lib::abi::{nr, sched::SchedOp};

use crate::Attacker;
use crate::memory::extents;
use crate::random::ODD;
use crate::sys::{RAM, firmware, hypercall, run};

/// A place where nothing is.
const NOWHERE: u64 = 0x60_0000_0000;

/// Every exception leads to the next one.
pub fn vectors_nowhere(attacker: &mut Attacker) -> u64 {
    // MSR VBAR_EL1, x1; ISB; BRK
    run(attacker.code, &[0xD518_C001, 0xD503_3FDF, 0xD420_0000], &[NOWHERE; 30], None).syndrome
}

/// Without memory below the next instruction, MMU off and on, and at the registers of the interrupt controller.
pub fn jump_nowhere(attacker: &mut Attacker) -> u64 {
    for place in [NOWHERE, 0, 0x0300_1000, 0x3900_0000, !3, 0x41] {
        run(attacker.code, &[0xD61F_0020], &[place; 30], None);
    }
    // The same with the other vCPU, which has no vectors yet.
    for entry in ODD {
        firmware(false, [0xC400_0003, 1, entry, 0]);
    }
    crate::wait(500);
    // MRS x2, SCTLR_EL1; BIC x2, x2, #1; MSR SCTLR_EL1, x2; ISB; BR x1
    run(attacker.code, &[0xD538_1002, 0x927F_F842, 0xD518_1002, 0xD503_3FDF, 0xD61F_0020], &[NOWHERE; 30], None)
        .syndrome
}

/// Stores random words all over the domain's RAM, this code included.
pub fn eat_itself(attacker: &mut Attacker) -> u64 {
    let mut registers = [RAM; 30];
    registers[2] = attacker.random.next();
    // STR x2, [x1], #8; ROR x2, x2, #7; B .-8
    run(attacker.code, &[0xF800_8422, 0x93C2_1C42, 0x17FF_FFFE], &registers, None).syndrome
}

/// Pushes until there is no memory left, with vectors that push as well.
pub fn deep_stack(attacker: &mut Attacker) -> u64 {
    // MOV sp, x1; STP x2, x3, [sp, #-16]!; B .-4; and the vectors at the same place
    let words = [0xD518_C000, 0xD503_3FDF, 0x9100_003F, 0xA9BF_0FE2, 0x17FF_FFFF];
    let mut registers = [RAM + 4096; 30];
    registers[0] = attacker.code.base();
    run(attacker.code, &words, &registers, None).syndrome
}

/// Every reason there is not, for itself and for others.
pub fn odd_shutdown(attacker: &mut Attacker) -> u64 {
    for command in [SchedOp::RemoteShutdown, SchedOp::Shutdown, SchedOp::ShutdownCode] {
        for reason in ODD {
            attacker.scratch.set(0, if command == SchedOp::RemoteShutdown { reason << 32 } else { reason | 6 });
            hypercall(u64::from(nr::SCHED_OP), [u64::from(command.raw()), attacker.scratch.base(), 0, 0, 0, 0]);
        }
    }
    attacker.scratch.set(0, 3);
    hypercall(u64::from(nr::SCHED_OP), [u64::from(SchedOp::Shutdown.raw()), attacker.scratch.base(), 0, 0, 0, 0])
}

/// Gives all RAM back, this code included.
pub fn give_all_back(attacker: &mut Attacker) -> u64 {
    for page in 0..512 * 8 {
        attacker.scratch.set(128 * 4096 + page * 8, (RAM >> 12) + page);
    }
    let list = attacker.scratch.at(128 * 4096);
    extents(attacker.scratch, MemoryOp::DecreaseReservation, list, 4096, 0)
}

/// Never lets an interrupt in again.
pub fn spin(attacker: &mut Attacker) -> u64 {
    // MSR DAIFSet, #15; B .
    run(attacker.code, &[0xD503_4FDF, 0x1400_0000], &[0; 30], None).syndrome
}

/// Takes its timer's interrupt and never ends it, with the timer still due.
pub fn timer_never_ended(attacker: &mut Attacker) -> u64 {
    // MSR CNTV_CVAL_EL0, x1; MSR CNTV_CTL_EL0, x2; ISB; MRS x3, ICC_IAR1_EL1; B .-4
    let words = [0xD51B_E341, 0xD51B_E322, 0xD503_3FDF, 0xD538_CC03, 0x17FF_FFFF];
    let mut registers = [0; 30];
    registers[2] = 1;
    run(attacker.code, &words, &registers, None).syndrome
}

/// Has its timer's interrupt pending for ever, with the CPU interface shut.
pub fn timer_never_taken(attacker: &mut Attacker) -> u64 {
    // MSR ICC_PMR_EL1, x1; MSR CNTV_CVAL_EL0, x1; MSR CNTV_CTL_EL0, x2; ISB; WFI; B .-4
    let words = [0xD518_4601, 0xD51B_E341, 0xD51B_E322, 0xD503_3FDF, 0xD503_207F, 0x17FF_FFFF];
    let mut registers = [0; 30];
    registers[2] = 1;
    run(attacker.code, &words, &registers, None).syndrome
}
