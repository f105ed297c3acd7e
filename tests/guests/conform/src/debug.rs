//! Breakpoints, watchpoints and software step (Arm ARM DDI 0487, chapter D2), and what there is not.

use pv_guest_lib::hypercall;

use crate::sys::{self, Taken, place, run, step_at};
use crate::{Outcome, Rule, is};

/// `MDSCR_EL1`: a step; debug exceptions of EL1; breakpoints and watchpoints.
const STEP: u64 = 1 << 0;
const KERNEL: u64 = 1 << 13;
const COMPARE: u64 = 1 << 15;
/// A breakpoint at an instruction of EL1, and a watchpoint at loads and stores of eight bytes by EL1.
const STOP: u64 = 0x1E3;
const WATCH: u64 = 0x1FFB;
/// Classes of exceptions of EL1 (section D24.2.37).
const UNDEFINED: u64 = 0;
const BREAKPOINT: u64 = 0x31;
const STEPPED: u64 = 0x33;
const WATCHPOINT: u64 = 0x35;
/// Times that a guest looks for its breakpoint while another one looks for its own.
const ROUNDS: u64 = 3000;

pub const RULES: &[Rule] = &[
    ("there are six breakpoints, four watchpoints, no performance monitors and no trace", features),
    ("performance monitors are undefined", monitors),
    ("the OS lock is open", os_lock),
    ("debug registers hold what is written", hold),
    ("a breakpoint stops at its instruction, the last one too", breakpoint),
    ("a breakpoint does nothing while nobody compares", not_compared),
    ("a watchpoint stops at its address, and not at another", watchpoint),
    ("a software step stops behind one instruction", step),
];

fn reset() {
    sys::set_mdscr(0);
    sys::set_breakpoint_control(0);
    sys::set_last_breakpoint_control(0);
    sys::set_watchpoint_control(0);
    sys::taken();
}

fn exception(taken: Taken, class: u64, at: u64) -> Outcome {
    is("the number of exceptions", taken.count, 1)?;
    is("the class of the exception", taken.class, class)?;
    is("the place of the exception", taken.at, at)
}

fn features() -> Outcome {
    let features = sys::debug_features();
    is("ID_AA64DFR0_EL1.BRPs", features >> 12 & 0xF, 5)?;
    is("ID_AA64DFR0_EL1.WRPs", features >> 20 & 0xF, 3)?;
    is("ID_AA64DFR0_EL1.PMUVer and TraceVer", features >> 4 & 0xFF, 0)
}

fn monitors() -> Outcome {
    reset();
    sys::pmcr();
    let taken = sys::taken();
    is("the number of exceptions", taken.count, 1)?;
    is("the class of the exception", taken.class, UNDEFINED)
}

fn os_lock() -> Outcome {
    sys::set_os_lock(0);
    is("OSLSR_EL1", sys::os_lock() & 0b1010, 0b1000)
}

fn hold() -> Outcome {
    reset();
    sys::set_breakpoint(place(1));
    sys::set_breakpoint_control(STOP);
    sys::set_mdscr(KERNEL);
    is("DBGBVR0_EL1", sys::breakpoint(), place(1))?;
    is("DBGBCR0_EL1", sys::breakpoint_control(), STOP)?;
    is("MDSCR_EL1", sys::mdscr(), KERNEL)
}

fn breakpoint() -> Outcome {
    reset();
    sys::set_mdscr(KERNEL | COMPARE);
    sys::set_breakpoint(place(3));
    sys::set_breakpoint_control(STOP);
    exception(run(&0), BREAKPOINT, place(3))?;
    sys::set_breakpoint_control(0);
    is("exceptions without a breakpoint", run(&0).count, 0)?;
    sys::set_last_breakpoint(place(5));
    sys::set_last_breakpoint_control(STOP);
    exception(run(&0), BREAKPOINT, place(5))
}

fn not_compared() -> Outcome {
    reset();
    sys::set_breakpoint(place(3));
    sys::set_breakpoint_control(STOP);
    is("exceptions", run(&0).count, 0)?;
    sys::set_mdscr(KERNEL | COMPARE);
    exception(run(&0), BREAKPOINT, place(3))
}

fn watchpoint() -> Outcome {
    reset();
    let words = [0u64; 2];
    sys::set_watchpoint(&raw const words[0] as u64);
    sys::set_watchpoint_control(WATCH);
    sys::set_mdscr(KERNEL | COMPARE);
    is("exceptions at the next word", run(&words[1]).count, 0)?;
    let taken = run(&words[0]);
    exception(taken, WATCHPOINT, place(7) + 4)?;
    is("the address of the exception", taken.address, &raw const words[0] as u64)
}

fn step() -> Outcome {
    reset();
    sys::set_mdscr(KERNEL | STEP);
    let taken = step_at(place(0));
    // A read that EL2 emulates.
    let emulated = step_at(place(7) + 8);
    sys::set_mdscr(0);
    exception(taken, STEPPED, place(1))?;
    exception(emulated, STEPPED, place(7) + 12)
}

/// Looks again and again whether the breakpoint at instruction `n` stops, and no other, whoever has the pCPU in between.
pub fn watch(n: u64) -> Outcome {
    reset();
    sys::set_breakpoint(place(n));
    sys::set_breakpoint_control(STOP);
    sys::set_mdscr(KERNEL | COMPARE);
    for _ in 0..ROUNDS {
        exception(run(&0), BREAKPOINT, place(n))?;
        hypercall::yield_now();
    }
    Ok(())
}
