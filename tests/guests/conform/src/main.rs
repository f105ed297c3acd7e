//! Asks the virtual processor for what the architecture's manuals promise, rule by rule.
//!
//! A line for each rule: what must hold and `ok`, or `FAILED` with what was seen instead. The last line counts them.
//! The rules are those that a program can see of a GICv3 (Arm IHI 0069H) or of a GICv2 (Arm IHI 0048B), and of breakpoints and the like (Arm ARM DDI
//! 0487). With `rule=N` it looks at that one alone, and with `breakpoint=N` for one breakpoint again and again. Interrupts stay masked: the guest takes them
//! by reading the acknowledge register, so that nothing comes in between. It needs two vCPUs and runs on Xen too, which
//! has two security states, where some rules do not apply.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod debug;
mod gic;
mod interface;
mod level;
mod other;
mod priorities;
mod registers;
mod routes;
mod states;
#[allow(unsafe_code)]
mod sys;
mod v2;

use pv_guest_lib::{Guest, println};

/// What was seen against a rule.
pub struct Seen {
    what: &'static str,
    saw: u64,
    want: u64,
}

/// Whether a rule holds.
pub type Outcome = Result<(), Seen>;
/// A rule and how it is looked at.
pub type Rule = (&'static str, fn() -> Outcome);

/// One thing that must be so.
pub const fn is(what: &'static str, saw: u64, want: u64) -> Outcome {
    if saw == want { Ok(()) } else { Err(Seen { what, saw, want }) }
}

/// Why the guest ends as a crash.
enum Broken {
    Breakpoint(u64),
    NoVcpu,
}

impl core::fmt::Display for Broken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Breakpoint(place) => write!(f, "a breakpoint at instruction {place} is not the only one"),
            Self::NoVcpu => f.write_str("there is no second vCPU"),
        }
    }
}

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), Broken> {
    sys::mask_interrupts();
    sys::take_exceptions();
    gic::find();
    let place = guest.arguments().parsed("breakpoint", u64::MAX);
    if place != u64::MAX {
        return debug::watch(place).map_err(|_| Broken::Breakpoint(place));
    }
    let Some(Ok(())) = guest.cpus().next().map(|cpu| cpu.start(|_| async { other::serve() })) else {
        return Err(Broken::NoVcpu);
    };
    other::wait();
    let (mut kept, mut broken) = (0, 0);
    let own = if gic::is_v2() { v2::RULES } else { registers::V3_RULES };
    let all = [own, registers::RULES, states::RULES, level::RULES, priorities::RULES, routes::RULES, debug::RULES];
    let one = guest.arguments().parsed("rule", usize::MAX);
    for (_, (name, rule)) in all.into_iter().flatten().enumerate().filter(|(n, _)| [*n, usize::MAX].contains(&one)) {
        gic::reset();
        sys::taken();
        match rule().and_then(|()| is("the number of exceptions besides", sys::taken().count, 0)) {
            Ok(()) => {
                kept += 1;
                println!("conform: {name}: ok");
            }
            Err(Seen { what, saw, want }) => {
                broken += 1;
                println!("conform: {name}: FAILED, {what} is {saw:#x} instead of {want:#x}");
            }
        }
    }
    let verdict = if broken == 0 { "PASS" } else { "FAIL" };
    println!("conform: {verdict} interrupts={} kept={kept} broken={broken}", gic::limit());
    Ok(())
}
