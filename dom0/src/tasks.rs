//! Tasks that come and go: one for each ring, device and console of each domain.
//!
//! The executor's tasks live for ever, but what runs in them may be done: then the next future takes the place. So each
//! future is woken on its own, and the way from an event to it is the executor's alone.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Poll, Waker};

use embassy_executor::Spawner;
use embassy_executor::raw::TaskStorage;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Place = &'static TaskStorage<Task>;

/// All tasks of Dom0.
pub struct Tasks {
    spawner: Spawner,
    /// Places of tasks that are done.
    idle: Rc<RefCell<Vec<Place>>>,
}

impl Tasks {
    /// No tasks yet; those to come run on the executor of `spawner`.
    pub fn new(spawner: Spawner) -> Rc<Self> {
        Rc::new(Tasks { spawner, idle: Rc::default() })
    }

    /// Adds a task; it starts when the executor comes round.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // Boxed before anything else: some are larger than the stack has room for several times.
        let mut task: Option<Task> = Some(Box::pin(task));
        let fresh = || -> Place { Box::leak(Box::new(TaskStorage::new())) };
        let place = self.idle.borrow_mut().pop().unwrap_or_else(fresh);
        if !self.start(place, &mut task) {
            // Its last task was woken as it ended: the executor still has the place in its queue.
            self.start(fresh(), &mut task);
            self.idle.borrow_mut().insert(0, place);
        }
    }

    /// Starts a task in a place that is free; false, with the task left where it is, if it is not.
    fn start(&self, place: Place, task: &mut Option<Task>) -> bool {
        let idle = Rc::clone(&self.idle);
        let token = place.spawn(|| -> Task {
            let task = task.take();
            Box::pin(async move {
                if let Some(task) = task {
                    task.await;
                }
                idle.borrow_mut().push(place);
            })
        });
        token.map(|token| self.spawner.spawn(token)).is_ok()
    }
}

/// What the tasks of a group share.
#[derive(Default)]
struct Shared {
    stopped: Cell<bool>,
    members: RefCell<Vec<Waker>>,
    running: Cell<usize>,
    over: Signal<NoopRawMutex, ()>,
}

/// Tasks that are ended together, wherever they stand.
pub struct Group {
    tasks: Rc<Tasks>,
    shared: Rc<Shared>,
}

/// Knows when all tasks of a group have ended.
pub struct Over(Rc<Shared>);

impl Group {
    /// A group of `tasks`, without members yet.
    pub fn new(tasks: &Rc<Tasks>) -> Self {
        Group { tasks: Rc::clone(tasks), shared: Rc::default() }
    }

    /// Adds a task.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let shared = Rc::clone(&self.shared);
        shared.running.update(|running| running + 1);
        self.tasks.spawn(async move {
            shared.until_stopped(task).await;
            shared.running.update(|running| running - 1);
            shared.tell();
        });
    }

    /// What tells when all have ended.
    pub fn over(&self) -> Over {
        Over(Rc::clone(&self.shared))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.shared.stopped.set(true);
        self.shared.members.borrow_mut().drain(..).for_each(Waker::wake);
        self.shared.tell();
    }
}

impl Over {
    /// Waits until the group was dropped and its last task has ended.
    pub async fn wait(&self) {
        self.0.over.wait().await;
    }
}

impl Shared {
    /// Runs a task until it is done or the group is; in either case nothing is left of it then.
    async fn until_stopped(&self, task: impl Future<Output = ()>) {
        let mut task = pin!(task);
        let mut known = false;
        poll_fn(|cx| {
            if self.stopped.get() {
                return Poll::Ready(());
            }
            if !core::mem::replace(&mut known, true) {
                self.members.borrow_mut().push(cx.waker().clone());
            }
            task.as_mut().poll(cx)
        })
        .await;
    }

    fn tell(&self) {
        if self.stopped.get() && self.running.get() == 0 {
            self.over.signal(());
        }
    }
}
