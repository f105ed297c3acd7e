//! The log of the microkernel and of `console_io`: a ring that Dom0 reads, and the UART until Dom0 does.
//!
//! Before Dom0 asks for `VIRQ_CON_RING` text goes to the UART as well; afterwards the UART is Dom0's and only a
//! dying microkernel writes to it. Domains print whole lines, prefixed by their id, and not too many of them.

use core::fmt::Write;

use heapless::HistoryBuf;
use hypercall_abi::console::ConsoleIo;
use hypercall_abi::errno::XenError;
use hypercall_abi::evtchn::Virq;
use hypercall_abi::ids::DomId;

use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::hw::{Hw, Ticks};
use crate::hypercall::{Call, CallResult, Stop};
use crate::kernel::Kernel;
use crate::runstate::ticks;
use crate::{evtchn, guest};

/// Bytes that the log keeps.
pub const LOG_SIZE: usize = 32 * 1024;
/// Longest line of a domain; longer ones are broken.
const LINE: usize = 160;
/// Lines that a domain may print at once, and after that one in each refill period.
const BURST: u64 = 100;
/// Nanoseconds after which a domain may print one more line.
const REFILL_NS: u64 = 10_000_000;
/// Bytes taken from a guest at once.
const CHUNK: usize = 128;

/// The log. Its lock guards the ring and the order of lines; nothing is locked under it.
pub struct Log {
    ring: HistoryBuf<u8, LOG_SIZE>,
    /// Bytes ever written.
    end: u64,
    /// Up to where somebody has read, or the UART has shown.
    shown: u64,
}

/// The unfinished line of a domain, and how many lines it may still print.
#[derive(Default)]
pub struct LineBuffer {
    text: heapless::String<LINE>,
    /// When all lines that were printed are paid for, one in each refill period.
    paid: Ticks,
    dropped: u32,
}

impl Log {
    /// Nothing yet.
    pub const EMPTY: Log = Log { ring: HistoryBuf::new(), end: 0, shown: 0 };

    /// Bytes from `position` on that are kept, and the position of the first one.
    fn tail(&self, position: u64) -> (u64, impl Iterator<Item = &u8>) {
        let (older, newer) = self.ring.as_slices();
        let oldest = self.end - self.ring.len() as u64;
        let start = position.clamp(oldest, self.end);
        (start, older.iter().chain(newer).skip(usize::try_from(start - oldest).unwrap_or(LOG_SIZE)))
    }

    /// Copies from byte `position` on into `out`; returns the position behind and the bytes copied.
    pub fn read(&mut self, position: u64, out: &mut [u8]) -> (u64, usize) {
        let (start, bytes) = self.tail(position);
        let count = out.iter_mut().zip(bytes).map(|(to, from)| *to = *from).count();
        let after = start + count as u64;
        self.shown = self.shown.max(after);
        (after, count)
    }
}

impl Write for Log {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.ring.extend_from_slice(text.as_bytes());
        self.end += text.len() as u64;
        Ok(())
    }
}

impl<H: Hw> Kernel<H> {
    /// Prints one line of the microkernel's own.
    pub fn log(&self, line: core::fmt::Arguments<'_>) {
        self.print(format_args!("(xenolith) {line}\n"));
    }

    fn print(&self, text: core::fmt::Arguments<'_>) {
        // The log takes everything; a Display that fails leaves its line short.
        let _ = self.console.lock().write_fmt(text);
        if !evtchn::send_global_virq(self, Virq::ConRing) {
            self.show_unread();
        }
    }

    /// Shows on the UART what nobody has read: the reader has died, and the reason is in there.
    pub fn show_unread(&self) {
        let log = &mut *self.console.lock();
        log.tail(log.shown).1.for_each(|byte| H::console(&[*byte]));
        log.shown = log.end;
    }

    /// Takes text that a domain prints, and puts out the lines that are complete.
    fn domain_text(&self, domain: &Domain<H>, text: &[u8]) {
        let mut line = domain.line.lock();
        for &byte in text {
            if byte == b'\n' || line.text.len() == LINE && byte != b'\r' {
                self.end_line(domain.id, &mut line);
            }
            // There is room now. Control characters could write over other domains' lines on the user's terminal.
            let _ = match byte {
                b'\r' | b'\n' => Ok(()),
                b'\t' | b' '..=b'~' => line.text.push(char::from(byte)),
                _ => line.text.push('.'),
            };
        }
    }

    fn end_line(&self, id: DomId, line: &mut LineBuffer) {
        let (now, period) = (H::now(), ticks::<H>(REFILL_NS));
        let paid = line.paid.max(now).saturating_add(period);
        if paid <= now.saturating_add(BURST * period) {
            line.paid = paid;
            if line.dropped > 0 {
                self.print(format_args!("(d{id}) {} lines dropped\n", line.dropped));
                line.dropped = 0;
            }
            self.print(format_args!("(d{id}) {}\n", line.text));
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
                if call.arg32(1) > 0 && call.spend(1) {
                    return Err(Stop::Again);
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
