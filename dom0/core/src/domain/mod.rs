//! The toolstack's register of domains: names, configurations, and where each is in its life.
//!
//! The microkernel knows which vCPUs run; this register knows what a domain is for and what follows its end. It holds
//! no capability and makes no call: each method answers what to do next.

mod life;
mod register;
#[cfg(test)]
mod tests;

pub use life::{Life, Next};
pub use register::{DOM0_NAME, Domain, DomainError, Handle, Register};
