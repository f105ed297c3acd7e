//! The instructions that are measured, the clock, and vectors that take an interrupt in as few instructions as can be.

mod calls;
mod clock;
mod memory;
mod vectors;
mod watch;

pub use calls::*;
pub use clock::*;
pub use memory::*;
pub use vectors::*;
pub use watch::*;
