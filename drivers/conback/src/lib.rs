//! The console back end: moves bytes between a domain's console page, or the [`Uart`] that is emulated for it, and
//! whoever looks at it.
//!
//! # How a host uses it
//!
//! ```text
//! let log = Rc::new(Log::new(32 * 1024));            // outlives the domain if the host keeps it
//! let console = Rc::new(Console::new(page, port, Rc::clone(&log)));
//! spawn(console.run());                              // ends when the ring is broken or `stop` is called
//!
//! let mut reader = log.tail();                       // or `log.start()` to see what was printed before
//! let chunk = reader.read(&mut buffer).await;        // any number of readers, each at its own pace
//! console.write(b"ls\n").await;                      // waits while the guest does not read
//! ```
//!
//! Output is always taken off the ring and kept in a bounded [`Log`], attached or not, so a guest never blocks on
//! a console that nobody watches; a reader that is too slow is told how much it missed.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod console;
mod log;
mod uart;

#[cfg(test)]
mod tests;

pub use console::{Console, End};
pub use log::{Chunk, Log, Reader};
pub use uart::Uart;
