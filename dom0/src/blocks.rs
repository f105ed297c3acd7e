//! The block back ends: one task for each virtual disk, driven by what the store says (Xen public/io/blkif.h).
//!
//! [`serve`] watches the back ends' directory and starts a task for each device that the toolstack makes there.
//! The task does what blkback's state machine tells it to, and ends when the device is removed.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::pin::Pin;

use blkback::{Action, BackEnd, Control, End, Limits, RingParams, Stats, Vbd, advertise};
use dom0_core::devices::{paths, vbd_info};
use dom0_core::disk::{self, Access};
use driver_api::Disk;
use embassy_futures::select::{Either, select};
use futures_util::future::{Fuse, FusedFuture, FutureExt};
use hypercall_abi::ids::DomId;
use hypercall_abi::xenbus::XenbusState;

use crate::disks::{DeviceId, Disks, OpenError, VirtualDisk};
use crate::hal::{GrantsOf, GuestPort};
use crate::store::{Client, Hub};
use crate::tasks::Tasks;

/// All block devices.
pub struct Blocks {
    running: RefCell<BTreeMap<DeviceId, Option<Rc<Control>>>>,
    hub: Rc<Hub>,
    disks: Rc<Disks>,
    tasks: Rc<Tasks>,
}

/// A back end that runs, as a future.
type Running = Fuse<Pin<alloc::boxed::Box<dyn Future<Output = End>>>>;

impl Blocks {
    /// No devices yet.
    pub fn new(hub: Rc<Hub>, disks: Rc<Disks>, tasks: Rc<Tasks>) -> Rc<Self> {
        Rc::new(Blocks { running: RefCell::default(), hub, disks, tasks })
    }

    /// Starts a task for each device that appears. Never completes.
    pub async fn serve(self: Rc<Self>) {
        let Ok(store) = self.hub.client() else { return };
        if let Err(error) = store.watch("/local/domain/0/backend/vbd", "") {
            log::error!("blkback: cannot watch the store: {error}");
            return;
        }
        loop {
            let event = store.event().await;
            let Some((domid, number, rest)) = paths::parse_vbd_backend(&event.path) else { continue };
            let exists = store.read(&format!("{}/frontend", paths::vbd_backend(domid, number))).is_ok();
            if (rest.is_empty() || rest == "state" || rest == "frontend") && exists {
                self.start((domid, number));
            }
        }
    }

    fn start(self: &Rc<Self>, id: DeviceId) {
        if self.running.borrow().contains_key(&id) {
            return;
        }
        self.running.borrow_mut().insert(id, None);
        let blocks = Rc::clone(self);
        self.tasks.spawn(async move {
            // Whoever made the device finds the reason in its `hotplug-error`, and says it once.
            let _ = Device::run(&blocks, id).await;
            blocks.running.borrow_mut().remove(&id);
        });
    }

    /// Devices of a domain that still have a task: their pages may be mapped.
    pub fn count(&self, domid: DomId) -> usize {
        self.running.borrow().keys().filter(|(owner, _)| *owner == domid).count()
    }

    /// Whether the device has a task.
    pub fn serves(&self, id: DeviceId) -> bool {
        self.running.borrow().contains_key(&id)
    }

    /// The counters of a domain's disks.
    pub fn stats(&self, domid: DomId) -> Vec<(u32, Stats)> {
        let running = self.running.borrow();
        let own = running.iter().filter(|((owner, _), _)| *owner == domid);
        own.filter_map(|((_, number), control)| Some((*number, control.as_ref()?.stats()))).collect()
    }
}

/// One device and its way through the XenBus states.
struct Device<'a> {
    blocks: &'a Blocks,
    id: DeviceId,
    store: Client,
    back: String,
    front: String,
    disk: VirtualDisk,
    vbd: Vbd,
    control: Option<Rc<Control>>,
    task: Running,
}

impl<'a> Device<'a> {
    /// Serves the device until it is removed.
    async fn run(blocks: &'a Blocks, id: DeviceId) -> Result<(), OpenError> {
        let Ok(store) = blocks.hub.client() else { return Ok(()) };
        let back = paths::vbd_backend(id.0, id.1);
        let Some(info) = vbd_info(|key| store.read(&format!("{back}/{key}")).ok()) else { return Ok(()) };
        let target = disk::Target::parse(&info.params).map_err(|error| OpenError::Target(format!("{error}")));
        let opened = match target {
            Ok(target) => blocks.disks.open(&target, info.access == Access::ReadOnly, id).await,
            Err(error) => Err(error),
        };
        let disk = match opened {
            Ok(disk) => disk,
            Err(error) => {
                // The toolstack waits for one of the two.
                let _ = store.write(&format!("{back}/hotplug-error"), &format!("{error}"));
                let _ = store.write(&format!("{back}/hotplug-status"), "error");
                return Err(error);
            }
        };
        let (vbd, first) = Vbd::new();
        let task = Fuse::terminated();
        let mut device = Device { blocks, id, store, back, front: info.frontend, disk, vbd, control: None, task };
        device.carry_out(first).await;
        device.follow().await;
        Ok(())
    }

    /// Reacts to the front end, to the toolstack and to the end of the ring, until the device is gone.
    async fn follow(&mut self) {
        let watched = [format!("{}/state", self.front), self.back.clone()];
        for path in &watched {
            if self.store.watch(path, "").is_err() {
                return;
            }
        }
        while !self.vbd.is_removed() {
            let happened = select(end_of(&mut self.task), self.store.event()).await;
            let actions = match happened {
                Either::First(end) => {
                    self.control = None;
                    match end {
                        End::Broken => {
                            log::warn!("blkback: d{} disk {}: {end}; device closed", self.id.0, self.id.1);
                            self.vbd.broken()
                        }
                        End::Stopped => Vec::new(),
                    }
                }
                Either::Second(_) => self.look(),
            };
            self.carry_out(actions).await;
        }
    }

    /// What the store says now.
    fn look(&mut self) -> Vec<Action> {
        if self.store.read(&format!("{}/frontend", self.back)).is_err() {
            return self.vbd.remove();
        }
        if self.store.number(&format!("{}/online", self.back)) == Some(0) {
            let actions = self.vbd.detach();
            if !actions.is_empty() {
                return actions;
            }
        }
        let state = self.store.number(&format!("{}/state", self.front)).and_then(XenbusState::from_raw);
        self.vbd.front_end(state.unwrap_or(XenbusState::Unknown))
    }

    async fn carry_out(&mut self, actions: Vec<Action>) {
        let mut todo: alloc::collections::VecDeque<_> = actions.into();
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Publish => {
                    for (key, value) in advertise(&self.disk.info(), &Limits::default()) {
                        self.put(key, &value);
                    }
                }
                Action::SetState(state) => self.put("state", state.as_str()),
                Action::Connect => {
                    let connected = self.connect();
                    todo.extend(self.vbd.connected(connected));
                }
                Action::Disconnect => self.disconnect().await,
                Action::Remove => {
                    // The toolstack sees the directory go, and removes the front end's.
                    let _ = self.store.remove(&self.back);
                }
            }
        }
    }

    fn put(&self, key: &str, value: &str) {
        // Fails only if the directory has been removed, which the next look finds.
        let _ = self.store.write(&format!("{}/{key}", self.back), value);
    }

    fn connect(&mut self) -> bool {
        let (store, front) = (&self.store, &self.front);
        let params = RingParams::parse(|key| store.read(&format!("{front}/{key}")).ok());
        let opened = params.map_err(|error| format!("{error}")).and_then(|params| {
            let port = GuestPort::bind(self.id.0, params.port).map_err(|error| format!("event channel: {error}"))?;
            BackEnd::connect(GrantsOf(self.id.0), port, self.disk.clone(), &params, Limits::default())
                .map_err(|error| format!("{error}"))
        });
        match opened {
            Ok(back_end) => {
                let control = back_end.control();
                self.blocks.running.borrow_mut().insert(self.id, Some(Rc::clone(&control)));
                self.control = Some(control);
                let boxed: Pin<alloc::boxed::Box<dyn Future<Output = End>>> = alloc::boxed::Box::pin(back_end.run());
                self.task = boxed.fuse();
                true
            }
            Err(error) => {
                log::warn!("blkback: d{} disk {}: {error}", self.id.0, self.id.1);
                false
            }
        }
    }

    /// Stops the back end and waits until nothing of the guest is mapped.
    async fn disconnect(&mut self) {
        if let Some(control) = self.control.take() {
            control.stop();
        }
        if !self.task.is_terminated() {
            (&mut self.task).await;
        }
    }
}

/// The end of a ring's task; waits for ever while there is none.
async fn end_of(task: &mut Running) -> End {
    if task.is_terminated() { core::future::pending().await } else { task.await }
}
