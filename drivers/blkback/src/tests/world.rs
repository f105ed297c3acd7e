//! One device in its world, and an executor that only polls what was woken.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use super::front::{Front, channel};
use super::memory::{GuestGrants, Memory};
use super::ram_disk::RamDisk;
use crate::{BackEnd, Control, End, Limits, Params};

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs all tasks to their end, polling each only when it was woken; panics when nothing is left to poll.
pub fn run_tasks(mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) {
    let flags: Vec<Arc<Flag>> = tasks.iter().map(|_| Arc::new(Flag(AtomicBool::new(true)))).collect();
    let mut live: BTreeMap<usize, _> = tasks.iter_mut().enumerate().collect();
    while !live.is_empty() {
        let mut polled = false;
        for (index, flag) in flags.iter().enumerate() {
            if !flag.0.swap(false, Ordering::Relaxed) {
                continue;
            }
            if let Some(task) = live.get_mut(&index) {
                polled = true;
                let waker = Waker::from(Arc::clone(flag));
                if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    live.remove(&index);
                }
            }
        }
        assert!(polled, "tasks {:?} wait for ever", live.keys());
    }
}

/// What a test needs to know about the back end's side.
pub struct Outcome {
    pub end: End,
    pub disk: Rc<RamDisk>,
    pub control: Rc<Control>,
    pub memory: Rc<Memory>,
}

/// Options of a test's device.
#[derive(Default)]
pub struct Options {
    pub limits: Limits,
    pub ring_pages: u32,
    pub persistent: bool,
    pub sectors: u64,
}

/// Connects a back end to a front end that does `script` and is then stopped. Nothing may stay mapped.
pub fn device(
    options: Options,
    prepare: impl FnOnce(&mut RamDisk),
    script: impl AsyncFnOnce(&mut Front, &Control),
) -> Outcome {
    queues(options, 1, prepare, async |fronts, control| {
        if let [front] = fronts {
            script(front, control).await;
        }
    })
}

/// The same with `count` rings, which are in the first pages.
pub fn queues(
    options: Options,
    count: u32,
    prepare: impl FnOnce(&mut RamDisk),
    script: impl AsyncFnOnce(&mut [Front], &Control),
) -> Outcome {
    let memory = Memory::new();
    let ring_pages = options.ring_pages.max(1);
    let (mut fronts, mut ports) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (near, far) = channel();
        fronts.push(Front::new(&memory, near, number * ring_pages, ring_pages));
        ports.push(far);
    }
    let mut disk = RamDisk::new(&memory, if options.sectors == 0 { 4096 } else { options.sectors });
    prepare(&mut disk);
    let disk = Rc::new(disk);
    let params = Params { queues: fronts.iter().map(Front::params).collect(), persistent: options.persistent };
    let grants = GuestGrants(Rc::clone(&memory));
    let most = params.most_mapped(&options.limits);
    let back_end = BackEnd::connect(grants, ports, Rc::clone(&disk), &params, options.limits).unwrap();
    let control = back_end.control();
    let end = Cell::new(None);
    let near_control = Rc::clone(&control);
    run_tasks(vec![
        Box::pin(async { end.set(Some(back_end.run().await)) }),
        Box::pin(async {
            script(&mut fronts, &near_control).await;
            near_control.stop();
        }),
    ]);
    assert_eq!(memory.mapped(), 0, "pages stay mapped");

    assert!(memory.most.get() as usize <= most, "{} pages were mapped, not {most}", memory.most.get());
    assert_eq!(disk.running.get(), 0, "requests stay in flight");
    Outcome { end: end.get().expect("the device ended"), disk, control, memory }
}
