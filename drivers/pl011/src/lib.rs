//! The serial line: an asynchronous PL011 over the register driver `arm-pl011-uart`.
//!
//! # How a host uses it
//!
//! ```text
//! let regs = unsafe { UniqueMmioPointer::new(base) };   // arm_pl011_uart::PL011Registers
//! let uart = Pl011::new(regs, None)?;                   // None: the line is set up already
//! // on the device's interrupt, in thread context:
//! uart.on_interrupt();
//! // `&Pl011` implements embedded_io_async::{Read, Write}, so reader and writer tasks share it:
//! let count = (&uart).read(&mut buffer).await?;
//! ```
//!
//! One task may read and one may write at a time. [`Pl011::on_interrupt`] must not preempt other calls. The interrupt is
//! level-triggered: a handler that only wakes a task must mask it until the task has called.
//!
//! Input is buffered; when the buffer is full the bytes stay in the device, which holds back a sender that listens to
//! it (QEMU does), and nothing is dropped on our side.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::VecDeque;
use core::cell::{Cell, RefCell};
use core::convert::Infallible;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use arm_pl011_uart::{DataBits, Interrupts, LineConfig, Parity, StopBits, Uart};
pub use arm_pl011_uart::{Error as SetupError, PL011Registers, UniqueMmioPointer};
use embassy_futures::yield_now;
use embedded_io_async::{ErrorType, Read, Write};

#[cfg(test)]
mod tests;

/// Bytes of input kept for a reader; a pasted page fits.
const INPUT_BOUND: usize = 4096;

/// The speed of the line, for a UART that nobody has set up yet: 8 data bits, no parity, one stop bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Bits per second.
    pub baud: u32,
    /// The UART's reference clock, in hertz.
    pub clock: u32,
}

/// An asynchronous UART.
pub struct Pl011<'a> {
    uart: RefCell<Uart<'a>>,
    input: RefCell<VecDeque<u8>>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
    line_errors: Cell<u64>,
}

impl<'a> Pl011<'a> {
    /// Takes over a UART, sets the line up if asked to, and enables the receive interrupts.
    ///
    /// # Errors
    /// The baud rate cannot be made from the clock.
    pub fn new(regs: UniqueMmioPointer<'a, PL011Registers>, line: Option<Line>) -> Result<Self, SetupError> {
        let mut uart = Uart::new(regs);
        if let Some(line) = line {
            let config = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
            uart.enable(config, line.baud, line.clock)?;
        }
        uart.set_interrupt_masks(RECEIVE);
        Ok(Self {
            uart: RefCell::new(uart),
            input: RefCell::new(VecDeque::with_capacity(INPUT_BOUND)),
            reader: RefCell::new(None),
            writer: RefCell::new(None),
            line_errors: Cell::new(0),
        })
    }

    /// Moves received bytes to the buffer, wakes whoever waits, and quiets the interrupt.
    pub fn on_interrupt(&self) {
        let pending = self.uart.borrow().masked_interrupt_status();
        if pending.intersects(RECEIVE) {
            self.receive();
            wake(&self.reader);
        }
        if pending.contains(Interrupts::TXI) {
            let mut uart = self.uart.borrow_mut();
            let masks = uart.interrupt_masks();
            uart.set_interrupt_masks(masks & !Interrupts::TXI);
            drop(uart);
            wake(&self.writer);
        }
        self.uart.borrow_mut().clear_interrupts(pending);
    }

    /// Characters that arrived damaged or not at all (overrun, framing, parity, break) since the start.
    pub fn line_errors(&self) -> u64 {
        self.line_errors.get()
    }

    /// Writes at once, waiting in a loop for the device; for messages on the way down.
    pub fn write_blocking(&self, bytes: &[u8]) {
        let mut uart = self.uart.borrow_mut();
        for &byte in bytes {
            while uart.is_tx_fifo_full() {
                core::hint::spin_loop();
            }
            uart.write_word(byte);
        }
    }

    /// Empties the device's buffer into ours as far as that has room. With no room the receive interrupts go off,
    /// for they would never fall silent; reading turns them on again.
    fn receive(&self) {
        let mut uart = self.uart.borrow_mut();
        let mut input = self.input.borrow_mut();
        while input.len() < INPUT_BOUND {
            match uart.read_word() {
                Ok(Some(byte)) => input.push_back(byte),
                Ok(None) => return,
                Err(_) => self.line_errors.set(self.line_errors.get() + 1),
            }
        }
        let masks = uart.interrupt_masks();
        uart.set_interrupt_masks(masks & !RECEIVE);
    }

    fn take_input(&self, buffer: &mut [u8]) -> usize {
        // Bytes may stand in the device below the level that raises an interrupt.
        self.receive();
        let mut input = self.input.borrow_mut();
        let count = buffer.len().min(input.len());
        for (to, from) in buffer.iter_mut().zip(input.drain(..count)) {
            *to = from;
        }
        if count != 0 {
            let mut uart = self.uart.borrow_mut();
            let masks = uart.interrupt_masks();
            uart.set_interrupt_masks(masks | RECEIVE);
        }
        count
    }

    fn put_output(&self, bytes: &[u8]) -> usize {
        let mut uart = self.uart.borrow_mut();
        let mut count = 0;
        for &byte in bytes {
            if uart.is_tx_fifo_full() {
                break;
            }
            uart.write_word(byte);
            count += 1;
        }
        if count == 0 {
            let masks = uart.interrupt_masks();
            uart.set_interrupt_masks(masks | Interrupts::TXI);
        }
        count
    }
}

/// Bytes above the level, and bytes that have waited below it for 32 bit times.
const RECEIVE: Interrupts = Interrupts::RXI.union(Interrupts::RTI);

fn wake(waiting: &RefCell<Option<Waker>>) {
    if let Some(waker) = waiting.borrow_mut().take() {
        waker.wake();
    }
}

impl ErrorType for &Pl011<'_> {
    type Error = Infallible;
}

impl Read for &Pl011<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        if buffer.is_empty() {
            return Ok(0);
        }
        poll_fn(|cx| match self.take_input(buffer) {
            0 => {
                *self.reader.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            count => Poll::Ready(Ok(count)),
        })
        .await
    }
}

impl Write for &Pl011<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        if bytes.is_empty() {
            return Ok(0);
        }
        poll_fn(|cx| match self.put_output(bytes) {
            0 => {
                *self.writer.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            count => Poll::Ready(Ok(count)),
        })
        .await
    }

    /// Waits until the last bit has left. The device has no interrupt for that, so it is asked now and then.
    async fn flush(&mut self) -> Result<(), Infallible> {
        while self.uart.borrow().is_busy() {
            yield_now().await;
        }
        Ok(())
    }
}
