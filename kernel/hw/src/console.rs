//! The early console: a PL011 that is only ever written to, byte by byte.
//!
//! Before its page is known there is nowhere to write, and text is dropped.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use kernel_core::addr::Pa;

use crate::mmio;

/// Address of the UART's registers; zero while it is unknown. Relaxed: written once, before other pCPUs start.
static BASE: AtomicUsize = AtomicUsize::new(0);

/// Data register, and flag register with its "transmit FIFO full" bit (Arm DDI 0183, section 3.3).
const DR: usize = 0;
const FR: usize = 0x18;
const FR_TXFF: u32 = 1 << 5;
/// A FIFO that stays full this long is a UART that is off: the byte is dropped.
const PATIENCE: u32 = 1 << 20;

/// Uses the UART at `base`, which is mapped as a device.
pub fn init(base: Pa) {
    BASE.store(mmio::address(base), Ordering::Relaxed);
}

/// `write!` to the console of a machine that is about to stop: without the lock, whose holder it may have stopped.
pub struct LastWords;

impl fmt::Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// Writes bytes; `\n` becomes `\r\n`. The log calls it under its lock, so that lines of two pCPUs do not mix.
pub fn write(text: &[u8]) {
    let base = BASE.load(Ordering::Relaxed);
    if base == 0 {
        return;
    }
    for byte in text.iter().flat_map(|byte| if *byte == b'\n' { b"\r\n" } else { core::slice::from_ref(byte) }) {
        if (0..PATIENCE).any(|_| mmio::read32(base + FR) & FR_TXFF == 0) {
            mmio::write32(base + DR, u32::from(*byte));
        }
    }
}
