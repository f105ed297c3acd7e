//! embassy's raw executor with our own idle: WFI until an interrupt has woken a task.

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw};

/// Whether a task was woken since the executor last began a round.
static WOKEN: AtomicBool = AtomicBool::new(false);

#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    WOKEN.store(true, Ordering::Release);
}

/// Runs tasks for ever.
pub fn run(start: impl FnOnce(Spawner)) -> ! {
    let executor = raw::Executor::new(core::ptr::null_mut());
    // SAFETY: this function never returns and the image does not unwind, so the executor lives for ever; it is
    // reached only by this reference from here on.
    let executor: &'static raw::Executor =
        unsafe { core::mem::transmute::<&raw::Executor, &'static raw::Executor>(&executor) };
    start(executor.spawner());
    super::cpu::unmask_irqs();
    loop {
        WOKEN.store(false, Ordering::Relaxed);
        // SAFETY: this is the only place that polls, and it is not reached from a task.
        unsafe { executor.poll() };
        super::cpu::idle_unless(|| WOKEN.load(Ordering::Acquire));
    }
}
