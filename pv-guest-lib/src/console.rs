//! The domain's console: the ring that the tool stack gave it, or the hypervisor's own console without one.
//!
//! Writing never waits for ever: when nobody empties the ring, output is dropped after a while rather than
//! stopping the guest.
//!
//! Example: `examples/console.rs`.

use core::cell::Cell;
use core::fmt::{self, Write as _};
use core::future::poll_fn;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Context, Poll};

use critical_section::Mutex;
use hypercall_abi::hvm::Param;
use hypercall_abi::ids::Port;
use hypercall_abi::{PAGE_SIZE, xencons};

use crate::addr::{Ipa, IpaRange};
use crate::evtchn::EventChannel;
use crate::shared::Shared;
use crate::{hypercall, mmu, sys};

/// How often a full ring is looked at again before output is dropped.
const PATIENCE: u32 = 10_000;

#[derive(Clone, Copy)]
struct Ring {
    page: Shared<'static>,
    port: Port,
}

static RING: Mutex<Cell<Option<Ring>>> = Mutex::new(Cell::new(None));

/// Looks for the ring and makes the console the sink of the `log` crate.
pub(crate) fn init() {
    reopen();
    if log::set_logger(&Sink).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}

/// Looks for the ring again, after the domain was restored.
pub(crate) fn reopen() {
    critical_section::with(|cs| RING.borrow(cs).set(find_ring()));
}

fn find_ring() -> Option<Ring> {
    let frame = hypercall::hvm_param(Param::ConsolePfn).ok().filter(|frame| *frame != 0)?;
    let port = hypercall::hvm_param(Param::ConsoleEvtchn).ok().filter(|port| *port != 0)?;
    let page = special_page(frame)?;
    Some(Ring { page, port: Port(u32::try_from(port).ok()?) })
}

/// Maps a page that the tool stack put into the domain and named by its frame number.
pub(crate) fn special_page(frame: u64) -> Option<Shared<'static>> {
    let at = Ipa::new(frame.checked_mul(PAGE_SIZE as u64)?);
    mmu::map_window(IpaRange::new(at, PAGE_SIZE as u64)?).ok()?;
    Some(sys::special::view(at))
}

fn ring() -> Option<Ring> {
    critical_section::with(|cs| RING.borrow(cs).get())
}

/// Writes bytes as they are.
pub fn write(bytes: &[u8]) {
    match ring() {
        Some(ring) => ring.write_all(bytes),
        None => {
            // Refused output has nowhere else to go.
            let _ = hypercall::console_write(bytes);
        }
    }
}

impl Ring {
    fn index(&self, offset: usize) -> &'static AtomicU32 {
        self.page.u32(offset)
    }

    fn write_all(&self, mut bytes: &[u8]) {
        let mut patience = PATIENCE;
        while !bytes.is_empty() {
            let written = critical_section::with(|_| self.write_some(bytes));
            bytes = bytes.get(written..).unwrap_or_default();
            if written > 0 {
                // A failure means that the back end is gone; the bytes then wait for the next one.
                let _ = hypercall::evtchn_send(self.port);
            } else if patience == 0 {
                return;
            } else {
                patience -= 1;
                hypercall::yield_now();
            }
        }
    }

    /// Puts what fits into the ring and returns how much that was.
    fn write_some(&self, bytes: &[u8]) -> usize {
        let consumed = self.index(xencons::OUT_CONS).load(Ordering::Acquire);
        let produced = self.index(xencons::OUT_PROD).load(Ordering::Relaxed);
        let used = produced.wrapping_sub(consumed) as usize;
        let room = xencons::OUT_SIZE.saturating_sub(used).min(bytes.len());
        let at = produced as usize % xencons::OUT_SIZE;
        let (now, rest) = bytes.split_at(room.min(xencons::OUT_SIZE - at));
        self.page.write_bytes(xencons::OUT + at, now);
        let wrapped = rest.get(..room - now.len()).unwrap_or_default();
        self.page.write_bytes(xencons::OUT, wrapped);
        #[expect(clippy::cast_possible_truncation, reason = "at most the ring's size")]
        self.index(xencons::OUT_PROD).store(produced.wrapping_add(room as u32), Ordering::Release);
        room
    }

    /// Takes what has come, as far as it fits, and returns how much that was.
    fn read_some(&self, to: &mut [u8]) -> usize {
        let produced = self.index(xencons::IN_PROD).load(Ordering::Acquire);
        let consumed = self.index(xencons::IN_CONS).load(Ordering::Relaxed);
        let ready = (produced.wrapping_sub(consumed) as usize).min(xencons::IN_SIZE).min(to.len());
        let at = consumed as usize % xencons::IN_SIZE;
        let (now, rest) = to.split_at_mut(ready.min(xencons::IN_SIZE - at));
        self.page.read_bytes(xencons::IN + at, now);
        let wrapped = ready - now.len();
        self.page.read_bytes(xencons::IN, rest.get_mut(..wrapped).unwrap_or_default());
        #[expect(clippy::cast_possible_truncation, reason = "at most the ring's size")]
        self.index(xencons::IN_CONS).store(consumed.wrapping_add(ready as u32), Ordering::Release);
        ready
    }
}

/// The console's input, for one task.
#[derive(Debug)]
pub struct Input(());

impl Input {
    /// The input, or `None` when the domain has no console ring.
    #[must_use]
    pub fn open() -> Option<Self> {
        ring().map(|_| Self(()))
    }

    /// Waits for at least one byte and returns how many were read; 0 only for an empty buffer.
    pub async fn read(&mut self, buffer: &mut [u8]) -> usize {
        if buffer.is_empty() {
            return 0;
        }
        poll_fn(|context| self.poll_read(context, buffer)).await
    }

    fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        let Some(ring) = ring() else { return Poll::Pending };
        let channel = EventChannel::given(ring.port);
        loop {
            let read = critical_section::with(|_| ring.read_some(buffer));
            if read > 0 {
                // The back end may wait for room; if it is gone, nobody does.
                let _ = channel.notify();
                return Poll::Ready(read);
            }
            if channel.poll_notified(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl embedded_io::ErrorType for Input {
    type Error = core::convert::Infallible;
}

impl embedded_io_async::Read for Input {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        Ok(Input::read(self, buffer).await)
    }
}

/// The console's output, for `write!` and for libraries.
#[derive(Clone, Copy, Debug, Default)]
pub struct Output;

impl fmt::Write for Output {
    /// Ends lines as a terminal wants it.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (i, line) in text.split('\n').enumerate() {
            if i > 0 {
                write(b"\r\n");
            }
            if !line.is_empty() {
                write(line.as_bytes());
            }
        }
        Ok(())
    }
}

impl embedded_io::ErrorType for Output {
    type Error = core::convert::Infallible;
}

impl embedded_io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        self::write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Writing never waits, so what is asynchronous elsewhere is not here.
impl embedded_io_async::Write for Output {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        embedded_io::Write::write(self, bytes)
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Collects a line before it is written, so that a line costs one notification and not one for each piece.
struct Line {
    bytes: heapless::Vec<u8, 256>,
}

impl Line {
    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            write(&self.bytes);
            self.bytes.clear();
        }
    }

    fn push(&mut self, byte: u8) {
        if self.bytes.push(byte).is_err() {
            self.flush();
            let _ = self.bytes.push(byte);
        }
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if byte == b'\n' {
                self.push(b'\r');
            }
            self.push(byte);
        }
        Ok(())
    }
}

/// Prints formatted text; what [`print!`](crate::print) calls.
pub fn print(text: fmt::Arguments<'_>) {
    let mut line = Line { bytes: heapless::Vec::new() };
    // The sink never fails; a failing Display of the caller's has said what it could.
    let _ = line.write_fmt(text);
    line.flush();
}

/// Prints on the console and, where the hypervisor lets us, on its own as well: for the last words.
pub(crate) fn print_urgently(text: fmt::Arguments<'_>) {
    print(text);
    if ring().is_some() {
        let mut line = Direct;
        let _ = line.write_fmt(text);
    }
}

struct Direct;

impl fmt::Write for Direct {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        hypercall::console_write(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

struct Sink;

impl log::Log for Sink {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        print(format_args!("{}: {}: {}\n", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// Prints on the console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::__private::print(format_args!($($arg)*)) };
}

/// Prints a line on the console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::__private::print(format_args!("{}\n", format_args!($($arg)*))) };
}
