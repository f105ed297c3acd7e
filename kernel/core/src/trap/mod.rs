//! What a guest's instruction that traps does: registers and memory that EL2 emulates, and the exceptions that the
//! guest takes where there is nothing to emulate.

mod id;
mod inject;
mod mmio;
mod registers;
#[cfg(test)]
mod tests;

pub use id::IdRegisters;
pub(crate) use inject::{skip, undefined};
pub(crate) use mmio::{data_abort, instruction_abort};
pub(crate) use registers::access as register;

/// The encoding of a system register, laid out as in a syndrome with the general register and the direction cleared.
pub const fn encoding(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1
}
