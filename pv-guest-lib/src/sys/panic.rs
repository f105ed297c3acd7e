//! The end of an image that broke one of its own rules: say so and by which way, and tell the hypervisor.

use core::fmt;
use core::panic::PanicInfo;

use hypercall_abi::sched::ShutdownReason;

use super::mmu;

/// Callers that are named.
const MAX_FRAMES: usize = 32;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let start: u64;
    // SAFETY: reading the frame pointer has no effect.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) start, options(nostack, nomem, preserves_flags)) };
    report(format_args!("{info}"), start);
    super::hypercall::shutdown(ShutdownReason::Crash)
}

/// Prints what happened and the way there from the frame record at `start`, in the form that
/// `cargo xtask symbolize` reads.
pub fn report(what: fmt::Arguments<'_>, start: u64) {
    crate::console::print_urgently(format_args!("{what}\n{}", Backtrace { start }));
}

struct Backtrace {
    start: u64,
}

impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "image base {:#x}", mmu::image_base())?;
        let mut frame = self.start;
        for number in 0..MAX_FRAMES {
            if !frame.is_multiple_of(8) || !mmu::on_stack(frame, 16) {
                break;
            }
            // SAFETY: 16 aligned bytes on a stack of the image, which is mapped; what they hold is only printed.
            let [next, caller] = unsafe { (frame as *const [u64; 2]).read_volatile() };
            writeln!(f, "  #{number} {caller:#x}")?;
            // Frames lie towards higher addresses; anything else would be a loop.
            if next <= frame {
                break;
            }
            frame = next;
        }
        Ok(())
    }
}
