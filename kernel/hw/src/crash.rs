//! The end: what is printed when EL2 itself fails, and how all pCPUs stop.
//!
//! `cargo xtask symbolize` reads this output: one line `image base 0x<address>`, then one line `  #<n> 0x<address>`
//! for each frame, innermost first.

use core::arch::asm;
use core::fmt::{Arguments, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use kernel_core::addr::Pa;
use kernel_core::context::TrapFrame;
use kernel_core::machine::Range;

use crate::console::LastWords;
use crate::sysreg::{barrier, mrs};
use crate::{boot, gic, percpu};

/// Frames of a backtrace; deeper ones are left out.
const DEPTH: usize = 32;

/// Set by the first pCPU that fails, which the swap makes one; the others stop at their next interrupt, which the first
/// one sends behind a DSB, so that they may look relaxed.
static HALTED: AtomicBool = AtomicBool::new(false);

/// Whether the machine has been stopped.
pub fn halted() -> bool {
    HALTED.load(Ordering::Relaxed)
}

/// An exception that EL2 took from itself, by the number of its vector: nothing is left to trust.
pub extern "C" fn exception(registers: &TrapFrame, vector: usize) -> ! {
    let kind = ["synchronous exception", "interrupt", "fast interrupt", "SError"].get(vector).unwrap_or(&"exception");
    let (esr, far) = (mrs!("esr_el2"), mrs!("far_el2"));
    report(format_args!("{kind} in EL2: ESR {esr:#x} FAR {far:#x}"), Some(registers))
}

/// What a Rust panic does.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    report(format_args!("{info}"), None)
}

/// An error of the boot code: says what is wrong and stops.
pub fn boot_error(reason: Arguments<'_>) -> ! {
    // The console cannot fail.
    let _ = writeln!(LastWords, "(xenolith) cannot boot: {reason}");
    park()
}

/// What a step of the boot code has made; its error stops the machine.
pub fn or_stop<T>(result: Result<T, impl core::fmt::Display>) -> T {
    result.unwrap_or_else(|error| boot_error(format_args!("{error}")))
}

/// Stops this pCPU for good.
pub fn park() -> ! {
    loop {
        barrier!("wfi");
    }
}

/// Prints everything that is known and stops all pCPUs.
fn report(reason: Arguments<'_>, registers: Option<&TrapFrame>) -> ! {
    if !HALTED.swap(true, Ordering::AcqRel) {
        // A writer that cannot fail; an error of formatting only shortens the report.
        let _ = write_report(reason, registers);
        gic::kick_all_others();
    }
    park()
}

fn write_report(reason: Arguments<'_>, registers: Option<&TrapFrame>) -> core::fmt::Result {
    let out = &mut LastWords;
    writeln!(out, "\n(xenolith) *** pCPU {} failed: {reason}", percpu::this().id.0)?;
    match percpu::domain() {
        Some(domain) => writeln!(out, "(xenolith) domain at fault: d{domain} (VTTBR_EL2 {:#x})", mrs!("vttbr_el2"))?,
        None => writeln!(out, "(xenolith) domain at fault: none has run here")?,
    }
    if let Some(registers) = registers {
        // The vectors leave SP there.
        writeln!(out, "  pc {:#018x}  sp {:#018x}", registers.pc, mrs!("tpidrro_el0"))?;
        for (n, x) in registers.x.iter().enumerate() {
            let end = if n % 4 == 3 || n == 30 { "\n" } else { "" };
            write!(out, "  x{n:<2} {x:#018x}{end}")?;
        }
    }
    writeln!(out, "image base {:#x}", boot::image().start.raw())?;
    backtrace(out, registers)
}

/// Walks the chain of frame pointers (AAPCS64, section 6.4.6) as long as it stays on our stacks: from an exception,
/// or from here.
fn backtrace(out: &mut LastWords, registers: Option<&TrapFrame>) -> core::fmt::Result {
    let (mut pc, mut frame): (u64, u64);
    // SAFETY: reads registers.
    unsafe { asm!("adr {}, .", "mov {}, x29", out(reg) pc, out(reg) frame, options(nomem, nostack, preserves_flags)) };
    if let Some(registers) = registers {
        (pc, frame) = (registers.pc, registers.x[29]);
    }
    for n in 0..DEPTH {
        writeln!(out, "  #{n} {pc:#x}")?;
        let record = Range { start: Pa::new(frame), size: 16 };
        if !frame.is_multiple_of(16) || !percpu::stacks().any(|stack| stack.overlaps(record)) {
            break;
        }
        // SAFETY: both words lie on a mapped stack, and are read as plain numbers.
        let [next, link] = unsafe { (frame as *const [u64; 2]).read_volatile() };
        if link == 0 {
            break;
        }
        // The link is the return address; the call itself is the instruction before.
        (pc, frame) = (link.wrapping_sub(4), next);
    }
    Ok(())
}
