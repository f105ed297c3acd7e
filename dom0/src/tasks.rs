//! Tasks that come and go: one for each ring, device and console of each domain.
//!
//! The executor's own tasks are statics, made for what runs for ever. Here a set of boxed futures lives in one such
//! task, each woken on its own.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Poll, Waker};

use futures_util::stream::{FuturesUnordered, Stream};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// A set of tasks.
#[derive(Default)]
pub struct Tasks {
    fresh: RefCell<Vec<Task>>,
    waker: RefCell<Option<Waker>>,
}

impl Tasks {
    /// Adds a task; it starts when the executor comes round.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.fresh.borrow_mut().push(Box::pin(task));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Runs all tasks, those that are added later too. Never completes.
    pub async fn run(&self) {
        let mut running = FuturesUnordered::new();
        poll_fn(|context| {
            loop {
                running.extend(self.fresh.borrow_mut().drain(..));
                let finished = Pin::new(&mut running).poll_next(context);
                if !matches!(finished, Poll::Ready(Some(()))) && self.fresh.borrow().is_empty() {
                    *self.waker.borrow_mut() = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}
