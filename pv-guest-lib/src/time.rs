//! Time for embassy-time: the virtual counter, and the virtual timer's interrupt for the next deadline.
//!
//! Example: `examples/time.rs`.

use core::cell::RefCell;
use core::sync::atomic::Ordering;
use core::task::Waker;
use core::time::Duration;

use critical_section::Mutex;
use embassy_time_driver::{Driver, TICK_HZ};
use embassy_time_queue_utils::Queue;
use hypercall_abi::arm::GUEST_TIMER_VIRT_PPI;
use hypercall_abi::shared_info::layout;

use crate::evtchn;
use crate::irq::{self, IrqError, Mode};
use crate::sys::cpu;

struct VirtualTimer {
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static TIMER: VirtualTimer = VirtualTimer {
    queue: Mutex::new(RefCell::new(Queue::new())),
});

/// Takes over the timer's interrupt.
pub(crate) fn init() -> Result<(), IrqError> {
    cpu::disarm_timer();
    irq::register(GUEST_TIMER_VIRT_PPI, Mode::Level, expired)
}

/// Microseconds since the counter was zero.
#[must_use]
pub fn now_us() -> u64 {
    TIMER.now()
}

/// Looks at a wall clock that is being written before it counts as absent.
const PATIENCE: u32 = 1000;

/// The time since the start of 1970 (UTC), or `None` when the hypervisor does not know it.
///
/// The shared information page says when the domain's time was zero, under a version that is odd while it is being
/// written (Xen public/xen.h, `wc_version`); on Arm the virtual counter tells how long ago that was.
#[must_use]
pub fn wall_clock() -> Option<Duration> {
    let page = evtchn::shared_info()?;
    let read = |offset| page.u32(offset).load(Ordering::Acquire);
    for _ in 0..PATIENCE {
        let version = read(layout::WC_VERSION);
        let seconds = u64::from(read(layout::WC_SEC_HI)) << 32 | u64::from(read(layout::WC_SEC));
        let nanoseconds = read(layout::WC_NSEC);
        if version.is_multiple_of(2) && version == read(layout::WC_VERSION) {
            let zero = Duration::from_secs(seconds).checked_add(Duration::from_nanos(u64::from(nanoseconds)))?;
            return if seconds == 0 { None } else { zero.checked_add(Duration::from_micros(now_us())) };
        }
    }
    None
}

/// Arms the timer anew after the domain was suspended.
pub(crate) fn resume() {
    expired();
}

fn expired() {
    cpu::disarm_timer();
    critical_section::with(|cs| TIMER.arm_next(&mut TIMER.queue.borrow(cs).borrow_mut()));
}

impl VirtualTimer {
    /// Wakes what is due and arms the timer for what comes next.
    fn arm_next(&self, queue: &mut Queue) {
        let next = queue.next_expiration(self.now());
        if next != u64::MAX {
            // A deadline that has passed meanwhile fires at once, so none is missed.
            cpu::arm_timer(scale(next, TICK_HZ, cpu::counter_frequency()).saturating_add(1));
        }
    }
}

impl Driver for VirtualTimer {
    fn now(&self) -> u64 {
        scale(cpu::counter(), cpu::counter_frequency(), TICK_HZ)
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            let mut queue = self.queue.borrow(cs).borrow_mut();
            if queue.schedule_wake(at, waker) {
                self.arm_next(&mut queue);
            }
        });
    }
}

/// Converts a count at `from` Hz into one at `to` Hz, rounding down, without overflow for centuries.
fn scale(count: u64, from: u64, to: u64) -> u64 {
    let from = from.max(1);
    (count / from).saturating_mul(to).saturating_add((count % from) * to / from)
}
