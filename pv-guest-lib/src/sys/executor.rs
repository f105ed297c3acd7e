//! embassy's raw executor with our own idle: WFI until an interrupt has woken a task.

use core::pin::pin;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use embassy_executor::raw::TaskStorage;
use embassy_executor::{Spawner, raw};

#[cfg(feature = "smp")]
use super::smp::{MAX_CPUS, this, wake};

/// What `smp` has, for one vCPU.
#[cfg(not(feature = "smp"))]
const MAX_CPUS: usize = 1;
#[cfg(not(feature = "smp"))]
const fn this() -> usize {
    0
}
#[cfg(not(feature = "smp"))]
const fn wake(_: usize) {}

/// Whether a task was woken since the executor of each vCPU last began a round.
static WOKEN: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// The context of an executor is its vCPU's number.
#[unsafe(export_name = "__pender")]
fn pender(context: *mut ()) {
    let cpu = context.addr();
    if let Some(woken) = WOKEN.get(cpu)
        && !woken.swap(true, Ordering::AcqRel)
    {
        wake(cpu);
    }
}

/// Runs tasks for ever.
pub fn run(start: impl FnOnce(Spawner)) -> ! {
    let cpu = this();
    let [first, ..] = &WOKEN;
    let woken = WOKEN.get(cpu).unwrap_or(first);
    let executor = raw::Executor::new(core::ptr::without_provenance_mut(cpu));
    // SAFETY: this function never returns and the image does not unwind, so the executor lives for ever; it is
    // reached only by this reference from here on.
    let executor: &'static raw::Executor =
        unsafe { core::mem::transmute::<&raw::Executor, &'static raw::Executor>(&executor) };
    start(executor.spawner());
    super::cpu::unmask_irqs();
    loop {
        woken.store(false, Ordering::Relaxed);
        // SAFETY: this is the only place that polls, and it is not reached from a task.
        unsafe { executor.poll() };
        super::cpu::idle_unless(|| woken.load(Ordering::Acquire));
    }
}

/// Runs a task of a type without a name, and whatever it spawns, for ever.
pub fn run_first<F: Future<Output = ()> + 'static>(first: impl FnOnce(Spawner) -> F) -> ! {
    let storage = TaskStorage::<F>::new();
    // SAFETY: as for the executor in `run`: this function never returns, so its stack lives for ever, and the task is
    // reached only by this reference.
    let storage: &'static TaskStorage<F> =
        unsafe { core::mem::transmute::<&TaskStorage<F>, &'static TaskStorage<F>>(&storage) };
    run(|spawner| {
        if let Ok(token) = storage.spawn(|| first(spawner)) {
            spawner.spawn(token);
        }
    })
}

/// The flag of the boot vCPU.
static BOOT_WOKEN: &AtomicBool = &WOKEN[0];

/// The executor of [`run_blocking`], and whether it is polling.
static BACKGROUND: AtomicPtr<raw::Executor> = AtomicPtr::new(core::ptr::null_mut());
static POLLING: AtomicBool = AtomicBool::new(false);

/// Calls `main`, which may wait for futures with [`block_on`]; spawned tasks run while it does.
pub fn run_blocking(main: impl FnOnce(Spawner)) -> ! {
    let executor = raw::Executor::new(core::ptr::null_mut());
    // SAFETY: as in `run`: whoever calls this shuts the domain down afterwards, so that the stack lives for ever.
    let executor: &'static raw::Executor =
        unsafe { core::mem::transmute::<&raw::Executor, &'static raw::Executor>(&executor) };
    BACKGROUND.store(core::ptr::from_ref(executor).cast_mut(), Ordering::Release);
    super::cpu::unmask_irqs();
    main(executor.spawner());
    crate::shutdown::poweroff()
}

/// Runs the spawned tasks until the future is done; sleeps when there is nothing to do.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = woken();
    loop {
        BOOT_WOKEN.store(false, Ordering::Relaxed);
        poll_background();
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        super::cpu::idle_unless(|| BOOT_WOKEN.load(Ordering::Acquire));
    }
}

fn poll_background() {
    // SAFETY: either null, or the executor that `run_blocking` keeps for ever.
    let executor = unsafe { BACKGROUND.load(Ordering::Acquire).as_ref() };
    let Some(executor) = executor else { return };
    assert!(!POLLING.swap(true, Ordering::Relaxed), "a task must not block on a future");
    // SAFETY: the flag, on the one vCPU that blocks, keeps this from being entered from a task.
    unsafe { executor.poll() };
    POLLING.store(false, Ordering::Relaxed);
}

/// A waker that ends the sleep of [`block_on`].
fn woken() -> Waker {
    const TABLE: RawWakerVTable = RawWakerVTable::new(|_| RAW, wake, wake, |_| ());
    const RAW: RawWaker = RawWaker::new(core::ptr::null(), &TABLE);
    fn wake(_: *const ()) {
        pender(core::ptr::null_mut());
    }
    // SAFETY: the functions use no data, so that every rule about it holds.
    unsafe { Waker::from_raw(RAW) }
}
