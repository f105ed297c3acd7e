//! The executor of the boot vCPU.
//!
//! Example: `examples/time.rs`.

pub use embassy_executor::Spawner;

/// Unmasks interrupts and runs tasks for ever; `start` spawns the first ones. When no task can run, the vCPU
/// waits for an interrupt. To be called once, at the end of `main`.
pub fn run(start: impl FnOnce(Spawner)) -> ! {
    crate::sys::executor::run(start)
}

/// Runs `main`, which is not async but may wait for futures with [`block_on`], and powers the domain off when it
/// returns. For callers in other languages, and for programs that do one thing after the other.
pub fn run_blocking(main: impl FnOnce(Spawner)) -> ! {
    crate::sys::executor::run_blocking(main)
}

/// Waits for a future, running what was spawned meanwhile. To be called within [`run_blocking`].
///
/// # Panics
/// When it is called from a task.
pub fn block_on<F: Future>(future: F) -> F::Output {
    crate::sys::executor::block_on(future)
}
