//! Atomics and locks of what is shared between pCPUs: the machine's, and in tests those that the models interleave.

#[cfg(not(test))]
pub use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(test))]
pub use spin::mutex::{SpinMutex, SpinMutexGuard};

#[cfg(test)]
pub use crate::model::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, SpinMutex, SpinMutexGuard, fence};
