//! The end: what is printed when EL2 itself fails, and how all pCPUs stop.
//!
//! `cargo xtask symbolize` reads this output: one line `image base 0x<address>`, then one line `  #<n> 0x<address>`
//! for each frame, innermost first.

use core::fmt::{Arguments, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::console::LastWords;
use crate::sysreg::mrs;
use crate::{gic, layout, percpu, psci};

/// What the vectors save of a failing EL2. The assembly relies on this layout.
#[repr(C, align(16))]
pub struct Registers {
    x: [u64; 31],
    sp: u64,
    pc: u64,
    esr: u64,
    far: u64,
}

const _: () = assert!(size_of::<Registers>() <= 288 && core::mem::offset_of!(Registers, sp) == 248);

/// Frames of a backtrace; deeper ones are left out.
const DEPTH: usize = 32;

/// Set by the first pCPU that fails; the others stop at their next interrupt.
static HALTED: AtomicBool = AtomicBool::new(false);

/// Whether the machine has been stopped.
pub fn halted() -> bool {
    HALTED.load(Ordering::Relaxed)
}

/// An exception that EL2 took from itself.
pub fn exception(registers: &Registers, kind: u64) -> ! {
    let name = match kind {
        0 => "synchronous exception",
        1 => "interrupt",
        2 => "fast interrupt",
        _ => "SError",
    };
    report(
        format_args!("{name} in EL2: ESR {:#x} FAR {:#x}", registers.esr, registers.far),
        Some(registers),
        registers.x[29],
    )
}

/// What a Rust panic does.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let frame_pointer: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) frame_pointer, options(nomem, nostack, preserves_flags)) };
    match info.location() {
        Some(at) => report(format_args!("panic: {} at {at}", info.message()), None, frame_pointer),
        None => report(format_args!("panic: {}", info.message()), None, frame_pointer),
    }
}

/// An error of the boot code: says what is wrong and stops.
pub fn boot_error(reason: Arguments<'_>) -> ! {
    // The console cannot fail.
    let _ = writeln!(LastWords, "(xenolith) cannot boot: {reason}");
    psci::park()
}

/// What a step of the boot code has made; its error stops the machine.
pub fn or_stop<T>(result: Result<T, impl core::fmt::Display>) -> T {
    result.unwrap_or_else(|error| boot_error(format_args!("{error}")))
}

/// Prints everything that is known and stops all pCPUs.
fn report(reason: Arguments<'_>, registers: Option<&Registers>, frame_pointer: u64) -> ! {
    if HALTED.swap(true, Ordering::AcqRel) {
        psci::park();
    }
    // A writer that cannot fail; an error of formatting only shortens the report.
    let _ = write_report(reason, registers, frame_pointer);
    gic::kick_all_others();
    psci::park()
}

fn write_report(reason: Arguments<'_>, registers: Option<&Registers>, frame_pointer: u64) -> core::fmt::Result {
    let out = &mut LastWords;
    writeln!(out, "\n(xenolith) *** pCPU {} failed: {reason}", percpu::this().id.0)?;
    match percpu::domain() {
        Some(domain) => writeln!(out, "(xenolith) domain at fault: d{domain} (VTTBR_EL2 {:#x})", mrs!("vttbr_el2"))?,
        None => writeln!(out, "(xenolith) domain at fault: none has run here")?,
    }
    if let Some(registers) = registers {
        writeln!(out, "  pc {:#018x}  sp {:#018x}", registers.pc, registers.sp)?;
        for (n, x) in registers.x.iter().enumerate() {
            let end = if n % 4 == 3 || n == 30 { "\n" } else { "" };
            write!(out, "  x{n:<2} {x:#018x}{end}")?;
        }
    }
    writeln!(out, "image base {}", layout::image().start)?;
    backtrace(out, registers.map(|registers| registers.pc), frame_pointer)
}

/// Walks the chain of frame pointers (AAPCS64, section 6.4.6) as long as it stays on our stacks.
fn backtrace(out: &mut LastWords, pc: Option<u64>, frame_pointer: u64) -> core::fmt::Result {
    let mut depth = 0;
    if let Some(pc) = pc {
        writeln!(out, "  #0 {pc:#x}")?;
        depth = 1;
    }
    let mut at = frame_pointer;
    while depth < DEPTH && percpu::is_on_a_stack(at) && percpu::is_on_a_stack(at + 8) {
        // SAFETY: both words lie on a mapped stack, and are read as plain numbers.
        let (next, link) = unsafe { ((at as *const u64).read_volatile(), ((at + 8) as *const u64).read_volatile()) };
        if link == 0 {
            break;
        }
        // The link is the return address; the call itself is the instruction before.
        writeln!(out, "  #{depth} {:#x}", link.wrapping_sub(4))?;
        depth += 1;
        if next <= at {
            break;
        }
        at = next;
    }
    Ok(())
}
