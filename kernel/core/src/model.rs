//! Models of what pCPUs do at once: the kernel's own code, whose every step on shared words another pCPU may follow.
//!
//! [`explore`] runs tasks, each of which plays a pCPU, in many orders that Shuttle chooses, the same ones each time. Shuttle
//! knows no weak memory, so the atomics here add what the protocols of this kernel have to fear: a store, unless it is
//! followed by a fence or it and the load behind it are sequential, may be seen by other pCPUs later than that load is made
//! (Arm ARM DDI 0487, section B2.3). Stores that are releases arrive behind those before them, others in any order;
//! and taking a lock shows what was stored before. Read-modify-writes arrive at once, which is less than Arm allows.
//! Outside of [`explore`] all of this is the machine's.

#![expect(missing_docs, reason = "the atomics are documented where they come from")]

mod vmids;

use std::cell::RefCell;

use crate::fake::with;
use crate::hw::PcpuId;

pub use std::sync::atomic::Ordering;

pub use spin::mutex::SpinMutexGuard;

/// A store that other pCPUs have not seen.
struct Late {
    by: PcpuId,
    /// The address of the atomic, which is its name.
    to: usize,
    value: u64,
    order: Ordering,
    /// It is to be seen by whoever looks next.
    due: bool,
}

/// What is on the way between pCPUs.
struct Memory {
    late: Vec<Late>,
    /// The state of a small generator of choices.
    seed: u64,
    /// The coins that must all fall for another task to go on.
    calm: u64,
    /// How often a lock was asked for that another pCPU held.
    contended: u64,
}

thread_local! {
    static MEMORY: RefCell<Option<Memory>> = const { RefCell::new(None) };
}

/// Whether this is a task of a model.
pub fn running() -> bool {
    MEMORY.with_borrow(Option::is_some)
}

/// Another pCPU may act here.
pub fn point() {
    if memory(|memory, _| memory.switches()).unwrap_or(false) {
        let me = with(|s| s.pcpu);
        shuttle::thread::yield_now();
        with(|s| s.pcpu = me);
    }
}

/// Sleeps until another pCPU's kick is pending. Everything else has ended long before this gives up.
pub fn sleep() {
    let woken = (0..100_000).any(|_| {
        point();
        with(|s| s.kicks.contains(&s.pcpu))
    });
    assert!(woken, "a pCPU sleeps, and nobody will wake it");
}

/// How often a pCPU has had to wait for a lock so far.
pub fn contended() -> u64 {
    memory(|memory, _| memory.contended).unwrap_or(0)
}

fn memory<R>(change: impl FnOnce(&mut Memory, PcpuId) -> R) -> Option<R> {
    if !running() {
        return None;
    }
    let me = with(|s| s.pcpu);
    MEMORY.with_borrow_mut(|memory| memory.as_mut().map(|memory| change(memory, me)))
}

impl Memory {
    /// Whether another task may go on here: seldom in some runs, so that one gets far ahead, and often in others.
    fn switches(&mut self) -> bool {
        (0..self.calm).all(|_| self.flip())
    }

    fn flip(&mut self) -> bool {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed & 1 == 0
    }

    /// What `me` has stored is seen from now on, if `which` says so; and so is what a release must not overtake.
    fn arrive(&mut self, me: PcpuId, which: impl Fn(&Late) -> bool) {
        let Some(last) = self.late.iter().rposition(|late| late.by == me && which(late)) else { return };
        for late in &mut self.late[..=last] {
            late.due |= late.by == me;
        }
    }

    /// Some of the late stores to this atomic are seen now.
    fn look(&mut self, me: PcpuId, at: usize) {
        for n in 0..self.late.len() {
            let Late { by, to, order, due, .. } = self.late[n];
            if by == me || to != at || due || !self.flip() {
                continue;
            }
            let first = if order == Ordering::Relaxed { at } else { 0 };
            self.late[..=n]
                .iter_mut()
                .filter(|late| late.by == by && [0, late.to].contains(&first))
                .for_each(|late| late.due = true);
        }
    }

    /// The last store to this atomic that is due; those before it are gone as well.
    fn take(&mut self, at: usize) -> Option<u64> {
        let value = self.late.iter().rfind(|late| late.to == at && late.due).map(|late| late.value);
        self.late.retain(|late| late.to != at || !late.due);
        value
    }

    fn own(&self, me: PcpuId, at: usize) -> Option<u64> {
        self.late.iter().rfind(|late| late.to == at && late.by == me).map(|late| late.value)
    }
}

/// A fence: `SeqCst` is the only kind here.
pub fn fence(_: Ordering) {
    point();
    memory(|memory, me| memory.arrive(me, |_| true));
}

/// Everything that was stored is seen: all tasks have ended.
fn settle() {
    memory(|memory, _| memory.late.iter_mut().for_each(|late| late.due = true));
}

macro_rules! atomic {
    ($name:ident, $core:ident, $value:ty, $to:expr, $from:expr) => {
        /// The atomic of the same name, in the hands of a model.
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name(std::sync::atomic::$core);

        #[allow(dead_code, reason = "they have the same methods")]
        impl $name {
            pub const fn new(value: $value) -> Self {
                Self(std::sync::atomic::$core::new(value))
            }

            fn at(&self) -> usize {
                core::ptr::from_ref(self).addr()
            }

            /// Lets stores arrive.
            fn look(&self) {
                let at = self.at();
                let seen = memory(|memory, me| {
                    memory.look(me, at);
                    memory.take(at)
                });
                if let Some(value) = seen.flatten() {
                    self.0.store($from(value), Ordering::SeqCst);
                }
            }

            pub fn load(&self, order: Ordering) -> $value {
                point();
                let at = self.at();
                if order == Ordering::SeqCst {
                    memory(|memory, me| memory.arrive(me, |late| late.order == Ordering::SeqCst));
                }
                self.look();
                let own = memory(|memory, me| memory.own(me, at)).flatten();
                own.map_or_else(|| self.0.load(order), $from)
            }

            pub fn store(&self, value: $value, order: Ordering) {
                point();
                let (to, value) = (self.at(), $to(value));
                let late = memory(|memory, by| memory.late.push(Late { by, to, value, order, due: false }));
                if late.is_none() {
                    self.0.store($from(value), order);
                }
            }

            fn change<R>(&self, change: impl FnOnce(&std::sync::atomic::$core) -> R) -> R {
                point();
                memory(|memory, me| memory.arrive(me, |_| true));
                self.look();
                change(&self.0)
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                self.change(|atomic| atomic.swap(value, order))
            }

            pub fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                order: Ordering,
                failed: Ordering,
            ) -> Result<$value, $value> {
                self.change(|atomic| atomic.compare_exchange(old, new, order, failed))
            }

            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                self.change(|atomic| atomic.fetch_or(value, order))
            }

            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                self.change(|atomic| atomic.fetch_and(value, order))
            }

            pub fn fetch_update(
                &self,
                order: Ordering,
                failed: Ordering,
                to: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                self.change(|atomic| atomic.fetch_update(order, failed, to))
            }
        }
    };
}

macro_rules! number {
    ($name:ident, $value:ty) => {
        atomic!($name, $name, $value, u64::from, |value| <$value>::try_from(value).unwrap());

        #[allow(dead_code, reason = "they have the same methods")]
        impl $name {
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                self.change(|atomic| atomic.fetch_add(value, order))
            }

            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                self.change(|atomic| atomic.fetch_sub(value, order))
            }
        }
    };
}

number!(AtomicU8, u8);
number!(AtomicU32, u32);
number!(AtomicU64, u64);
atomic!(AtomicBool, AtomicBool, bool, u64::from, |value| value != 0);

/// A lock. Who waits for it lets others go on.
#[derive(Debug, Default)]
pub struct SpinMutex<T>(spin::mutex::SpinMutex<T>);

impl<T> SpinMutex<T> {
    pub const fn new(value: T) -> Self {
        Self(spin::mutex::SpinMutex::new(value))
    }

    pub fn as_mut_ptr(&self) -> *mut T {
        self.0.as_mut_ptr()
    }

    pub fn lock(&self) -> SpinMutexGuard<'_, T> {
        if !running() {
            return self.0.lock();
        }
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            memory(|memory, _| memory.contended += 1);
        }
    }

    pub fn try_lock(&self) -> Option<SpinMutexGuard<'_, T>> {
        if !running() {
            return self.0.try_lock();
        }
        point();
        let guard = self.0.try_lock()?;
        memory(|memory, me| memory.late.iter_mut().filter(|late| late.by != me).for_each(|late| late.due = true));
        Some(guard)
    }
}

/// Something that a pCPU does while others act.
pub type Task = Box<dyn FnOnce() + Send>;

/// Runs `scene` in `orders` orders: it sets things up, and returns what each pCPU then does at once and what must hold
/// afterwards.
pub fn explore<const N: usize>(orders: usize, scene: impl Fn() -> ([Task; N], Task) + Send + Sync + 'static) {
    let mut config = shuttle::Config::new();
    // In a debug build the kernel is made on the stack.
    config.stack_size = 8 << 20;
    let scheduler = shuttle::scheduler::RandomScheduler::new_from_seed(20_26, orders);
    let seed = std::sync::atomic::AtomicU64::new(1);
    shuttle::Runner::new(scheduler, config).run(move || {
        MEMORY.set(None);
        let (tasks, then) = scene();
        let seed = seed.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        MEMORY.set(Some(Memory { late: Vec::new(), seed, calm: seed % 6, contended: 0 }));
        let play = |(n, task): (u8, Task)| {
            shuttle::thread::spawn(move || {
                with(|s| s.pcpu = PcpuId(n));
                task();
            })
        };
        let tasks: Vec<_> = (0..).zip(tasks).map(play).collect();
        for task in tasks {
            task.join().unwrap();
        }
        settle();
        then();
        MEMORY.set(None);
    });
}
