//! The executor of the boot vCPU.

pub use embassy_executor::Spawner;

/// Unmasks interrupts and runs tasks for ever; `start` spawns the first ones. When no task can run, the vCPU
/// waits for an interrupt. To be called once, at the end of `main`.
pub fn run(start: impl FnOnce(Spawner)) -> ! {
    crate::sys::executor::run(start)
}
