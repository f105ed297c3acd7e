//! What a guest's instruction that traps does: registers and memory that EL2 emulates, and the exceptions that the
//! guest takes where there is nothing to emulate.

mod debug;
mod id;
mod inject;
mod mmio;
mod registers;
#[cfg(test)]
mod tests;

pub use id::IdRegisters;
pub(crate) use inject::{skip, undefined};
pub use mmio::MemoryAccess;
pub(crate) use mmio::{data_abort, fetch_abort};
pub(crate) use registers::access as register;
