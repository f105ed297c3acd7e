//! An SBSA UART, the part of a PL011 that a generic driver uses, as a device model (Arm DDI 0183, Arm BSA).
//!
//! What the guest sends is in the [`Log`] at once, so there is always room; what the user types waits here until the guest
//! has read it. Every offset and every value may be the guest's: what is not listed reads as zero and ignores stores.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

use driver_api::WaitQueue;

use crate::log::Log;

/// Registers, by their offset (DDI 0183, section 3.2); those that the BSA asks of a generic UART: data, flags, and the
/// interrupts' mask, state, state under the mask and clear register. The error status, of which there is none, is zero
/// like all others.
const DATA: u64 = 0x00;
const FLAGS: u64 = 0x18;
const MASK: u64 = 0x38;
const RAW: u64 = 0x3C;
const MASKED: u64 = 0x40;
const CLEAR: u64 = 0x44;

/// `UARTFR`: nothing to read, nothing left to send.
const RX_EMPTY: u32 = 1 << 4;
const TX_EMPTY: u32 = 1 << 7;
/// Interrupts: data to read, room to write, data that has waited.
const RX: u32 = 1 << 4;
const TX: u32 = 1 << 5;
const RX_TIMEOUT: u32 = 1 << 6;
/// All eleven interrupts that a driver may mask.
const INTERRUPTS: u32 = 0x7FF;

/// Typed bytes kept while the guest does not read; more have to wait.
const TYPED_BOUND: usize = 1024;

/// The emulated UART of a domain.
#[derive(Debug)]
pub struct Uart {
    log: Rc<Log>,
    typed: RefCell<VecDeque<u8>>,
    room: WaitQueue,
    /// Told when the line may have changed without an access of the guest.
    news: WaitQueue,
    pending: Cell<bool>,
    mask: Cell<u32>,
    /// Interrupts that the guest has cleared and that nothing has raised again since.
    cleared: Cell<u32>,
}

impl Uart {
    /// One that adds what the guest sends to `log`.
    pub fn new(log: Rc<Log>) -> Self {
        Uart {
            log,
            typed: RefCell::default(),
            room: WaitQueue::new(),
            news: WaitQueue::new(),
            pending: Cell::new(false),
            mask: Cell::new(0),
            cleared: Cell::new(0),
        }
    }

    /// The log.
    pub fn log(&self) -> &Rc<Log> {
        &self.log
    }

    /// What a load at `offset` reads.
    pub fn load(&self, offset: u64) -> u32 {
        match offset {
            DATA => self.receive(),
            FLAGS => TX_EMPTY | if self.typed.borrow().is_empty() { RX_EMPTY } else { 0 },
            MASK => self.mask.get(),
            RAW => self.raw(),
            MASKED => self.raw() & self.mask.get(),
            _ => 0,
        }
    }

    /// Does what a store at `offset` does.
    pub fn store(&self, offset: u64, value: u32) {
        match offset {
            DATA => {
                let [byte, ..] = value.to_le_bytes();
                self.log.append(&[byte]);
                self.cleared.set(self.cleared.get() & !TX);
            }
            MASK => self.mask.set(value & INTERRUPTS),
            CLEAR => self.cleared.set(self.cleared.get() | value & INTERRUPTS),
            _ => {}
        }
    }

    /// Whether the interrupt line is high.
    pub fn line(&self) -> bool {
        self.raw() & self.mask.get() != 0
    }

    /// Types all of `bytes`, waiting while the guest does not read.
    pub async fn write(&self, bytes: &[u8]) {
        for &byte in bytes {
            let room = || (self.typed.borrow().len() < TYPED_BOUND).then_some(());
            self.room.until(room).await;
            self.typed.borrow_mut().push_back(byte);
            self.cleared.set(self.cleared.get() & !(RX | RX_TIMEOUT));
            self.wake();
        }
    }

    /// Waits until the line may have changed without an access of the guest, or [`Self::wake`] was called.
    pub async fn changed(&self) {
        self.news.until(|| self.pending.replace(false).then_some(())).await;
    }

    /// Ends [`Self::changed`].
    pub fn wake(&self) {
        self.pending.set(true);
        self.news.wake();
    }

    /// Fetches a byte; zero if there is none.
    fn receive(&self) -> u32 {
        let byte = self.typed.borrow_mut().pop_front();
        self.room.wake();
        byte.map_or(0, u32::from)
    }

    /// Interrupts that want to be seen, masked or not.
    fn raw(&self) -> u32 {
        let received = if self.typed.borrow().is_empty() { 0 } else { RX | RX_TIMEOUT };
        (received | TX) & !self.cleared.get()
    }
}
