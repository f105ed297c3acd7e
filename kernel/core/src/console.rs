//! The log of the microkernel and of `console_io`: a ring that Dom0 reads, and the UART until Dom0 does.
//!
//! Before Dom0 asks for `VIRQ_CON_RING` text goes to the UART as well; afterwards the UART is Dom0's and only a
//! dying microkernel writes to it. Domains print whole lines, prefixed by their id, and not too many of them.

use core::fmt::Write;

use hypercall_abi::console::ConsoleIo;
use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::DomId;
use spin::mutex::SpinMutex;

use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::evtchn;
use crate::guest;
use crate::hw::{Hw, Ticks};
use crate::hypercall::{Call, CallResult};
use crate::kernel::Kernel;
use crate::runstate::ticks;

/// Bytes that the log keeps.
pub const LOG_SIZE: usize = 32 * 1024;
/// Longest line of a domain; longer ones are broken.
const LINE: usize = 160;
/// Lines that a domain may print at once, and after that one in each refill period.
const BURST: u32 = 100;
/// Nanoseconds after which a domain may print one more line.
const REFILL_NS: u64 = 10_000_000;
/// Bytes taken from a guest at once.
const CHUNK: usize = 128;

/// The log.
pub struct Console {
    /// Guards the ring and the order of lines. Nothing is locked under it.
    log: SpinMutex<Log>,
}

struct Log {
    ring: [u8; LOG_SIZE],
    /// Bytes ever written.
    end: u64,
    /// Up to where somebody has read, or the UART has shown.
    shown: u64,
}

/// The unfinished line of a domain, and how many lines it may still print.
pub struct LineBuffer {
    text: heapless::Vec<u8, LINE>,
    spent: u32,
    refilled: Ticks,
    dropped: u32,
}

impl LineBuffer {
    /// Empty, with a full allowance.
    pub const fn new() -> Self {
        LineBuffer { text: heapless::Vec::new(), spent: 0, refilled: 0, dropped: 0 }
    }

    /// Whether one more line may be printed now.
    fn allow<H: Hw>(&mut self) -> bool {
        let period = ticks::<H>(REFILL_NS).max(1);
        let periods = H::now().saturating_sub(self.refilled) / period;
        self.refilled += periods * period;
        self.spent = self.spent.saturating_sub(u32::try_from(periods).unwrap_or(u32::MAX));
        let allowed = self.spent < BURST;
        if allowed {
            self.spent += 1;
        }
        allowed
    }
}

impl Default for LineBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// An empty log.
    pub const fn new() -> Self {
        Console { log: SpinMutex::new(Log { ring: [0; LOG_SIZE], end: 0, shown: 0 }) }
    }

    /// Copies the log from byte `position` on into `out`; returns the position behind and the bytes copied.
    pub fn read(&self, position: u64, out: &mut [u8]) -> (u64, usize) {
        let mut log = self.log.lock();
        let start = position.clamp(log.end.saturating_sub(LOG_SIZE as u64), log.end);
        let mut at = start;
        for byte in out.iter_mut() {
            if at == log.end {
                break;
            }
            *byte = log.ring[ring_index(at)];
            at += 1;
        }
        log.shown = log.shown.max(at);
        (at, usize::try_from(at - start).unwrap_or(0))
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

fn ring_index(position: u64) -> usize {
    usize::try_from(position % LOG_SIZE as u64).unwrap_or(0)
}

/// Writes formatted text under the log's lock.
struct Writer<'a, H: Hw> {
    log: &'a mut Log,
    uart: bool,
    machine: core::marker::PhantomData<H>,
}

impl<H: Hw> Write for Writer<'_, H> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            let at = ring_index(self.log.end);
            self.log.ring[at] = byte;
            self.log.end += 1;
        }
        if self.uart {
            H::console(text.as_bytes());
            self.log.shown = self.log.end;
        }
        Ok(())
    }
}

impl<H: Hw> Kernel<H> {
    /// Prints one line of the microkernel's own.
    pub fn log(&self, line: core::fmt::Arguments<'_>) {
        self.print(format_args!("(xenolith) {line}\n"));
    }

    fn print(&self, text: core::fmt::Arguments<'_>) {
        let uart = !self.has_log_reader();
        {
            let mut log = self.console.log.lock();
            // The writer never fails; a Display that does leaves its line short.
            let _ = Writer::<H> { log: &mut log, uart, machine: core::marker::PhantomData }.write_fmt(text);
        }
        if !uart {
            evtchn::send_global_virq(self, Virq::ConRing);
        }
    }

    /// Shows on the UART what nobody has read: the reader has died, and the reason is in there.
    pub fn show_unread(&self) {
        let mut log = self.console.log.lock();
        let start = log.shown.max(log.end.saturating_sub(LOG_SIZE as u64));
        for at in start..log.end {
            H::console(&[log.ring[ring_index(at)]]);
        }
        log.shown = log.end;
    }

    fn has_log_reader(&self) -> bool {
        self.domains.get(DomId::DOM0).is_some_and(|dom0| evtchn::virq_port(&dom0, Virq::ConRing).is_some())
    }

    /// Takes text that a domain prints, and puts out the lines that are complete.
    fn domain_text(&self, domain: &Domain<H>, text: &[u8]) {
        let mut line = domain.line.lock();
        for &byte in text {
            // Control characters could write over other domains' lines on the user's terminal.
            let shown = match byte {
                b'\r' => continue,
                b'\n' => None,
                b'\t' | b' '..=b'~' => Some(byte),
                _ => Some(b'.'),
            };
            if shown.is_none() || line.text.is_full() {
                self.end_line(domain.id, &mut line);
            }
            // There is room now.
            let _ = shown.map(|byte| line.text.push(byte));
        }
    }

    fn end_line(&self, id: DomId, line: &mut LineBuffer) {
        if line.allow::<H>() {
            if line.dropped > 0 {
                self.print(format_args!("(d{id}) {} lines dropped\n", line.dropped));
                line.dropped = 0;
            }
            let text = core::str::from_utf8(&line.text).unwrap_or("");
            self.print(format_args!("(d{id}) {text}\n"));
        } else {
            line.dropped = line.dropped.saturating_add(1);
        }
        line.text.clear();
    }
}

/// `console_io(cmd, count, buffer)`.
#[inline(never)]
pub fn op<H: Hw>(call: &mut Call<'_, H>) -> CallResult {
    match ConsoleIo::try_from(call.arg32(0)).map_err(XenError::from)? {
        ConsoleIo::Write => {
            while call.arg32(1) > 0 {
                let mut chunk = [0; CHUNK];
                let count = (call.arg32(1) as usize).min(CHUNK);
                let part = chunk.get_mut(..count).ok_or(XenError::Inval)?;
                guest::copy_in(call.domain, GuestVa::new(call.args[2]), part)?;
                call.kernel.domain_text(call.domain, part);
                call.args[1] = u64::from(call.arg32(1)) - count as u64;
                call.args[2] = call.args[2].wrapping_add(count as u64);
                if call.arg32(1) > 0 && call.should_yield() {
                    return Err(crate::hypercall::Stop::Again);
                }
            }
            Ok(0)
        }
        // Input belongs to Dom0, which reads it from the UART; through the hypervisor there is none.
        ConsoleIo::Read => Ok(0),
    }
}

#[cfg(test)]
mod tests;
