//! Time for embassy-time: the virtual counter, and the virtual timer's interrupt for the next deadline.

use core::cell::RefCell;
use core::task::Waker;

use critical_section::Mutex;
use embassy_time_driver::{Driver, TICK_HZ};
use embassy_time_queue_utils::Queue;
use hypercall_abi::arm::GUEST_TIMER_VIRT_PPI;

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
