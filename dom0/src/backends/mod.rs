//! The back ends of split devices: one task for each device of a guest, driven by what the store says.
//!
//! [`Backends::serve`] watches the directory of one kind of devices and starts a task for each that the toolstack makes there.
//! The task does what the handshake tells it to, and ends when the device is removed. What a kind does where kinds differ
//! is [`Kind`].

mod blocks;
mod nets;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::Display;

use dom0_core::devices::paths;
use driver_api::{Action, End, Handshake};
use embassy_futures::select::{Either3, select3};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use hypercall_abi::ids::DomId;
use hypercall_abi::xenbus::XenbusState;

use crate::notices;
use crate::store::{Client, Hub};
use crate::tasks::Tasks;

pub use blocks::Blocks;
pub use nets::Nets;

/// Why no more devices can be connected.
const NO_ROOM: &str = "Dom0 has no room to map its pages";

/// A device of a domain: the domain, and the device's number among those of its kind.
pub type DeviceId = (DomId, u32);

/// Says how a back end ended.
type Ending = Rc<Signal<NoopRawMutex, End>>;

/// A back end that was connected.
pub struct Connected<C, L> {
    /// The hold on it.
    pub control: Rc<C>,
    /// Its life.
    pub task: L,
}

/// What a kind of devices does where kinds differ.
pub trait Kind: Sized + 'static {
    /// The name of the directories in the store.
    const NAME: &'static str;
    /// Who speaks in messages.
    const DRIVER: &'static str;
    /// What the front ends are connected to.
    type Device;
    /// The hold on a back end that runs.
    type Control;

    /// Opens what a device stands for, from the nodes of its back end. The error reaches whoever made it.
    fn open(&self, id: DeviceId, nodes: &Nodes<'_>) -> impl Future<Output = Result<Self::Device, String>>;

    /// What the back end offers.
    fn offer(device: &Self::Device) -> Vec<(&'static str, String)>;

    /// Waits until the device is another than it was, and so is the offer.
    fn changed(device: &Self::Device) -> impl Future<Output = ()>;

    /// Connects to the front end whose keys `lookup` reads. The error is for the log.
    fn connect(
        &self,
        id: DeviceId,
        device: &Self::Device,
        lookup: impl FnMut(&str) -> Option<String>,
    ) -> Result<Connected<Self::Control, impl Future<Output = End> + 'static>, String>;

    /// Asks a back end to end.
    fn stop(control: &Self::Control);
}

/// The nodes of a device's back end.
pub struct Nodes<'a> {
    store: &'a Client,
    back: &'a str,
}

impl Nodes<'_> {
    /// A node's value.
    pub fn read(&self, key: &str) -> Option<String> {
        self.store.read(&format!("{}/{key}", self.back)).ok()
    }
}

/// All devices of a kind.
pub struct Backends<K: Kind> {
    kind: K,
    running: RefCell<BTreeMap<DeviceId, Option<Rc<K::Control>>>>,
    hub: Rc<Hub>,
    tasks: Rc<Tasks>,
}

impl<K: Kind> Backends<K> {
    /// No devices yet.
    pub fn new(kind: K, hub: Rc<Hub>, tasks: Rc<Tasks>) -> Rc<Self> {
        Rc::new(Backends { kind, running: RefCell::default(), hub, tasks })
    }

    /// Starts a task for each device that appears. Never completes.
    pub async fn serve(self: Rc<Self>) {
        let Ok(store) = self.hub.client() else { return };
        if let Err(error) = store.watch(&format!("/local/domain/0/backend/{}", K::NAME), "") {
            log::error!("{}: cannot watch the store: {error}", K::DRIVER);
            return;
        }
        loop {
            let event = store.event().await;
            let Some((domid, number, rest)) = paths::parse_backend(K::NAME, &event.path) else { continue };
            let exists = store.read(&format!("{}/frontend", paths::backend(K::NAME, domid, number))).is_ok();
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
        let backends = Rc::clone(self);
        self.tasks.spawn(async move {
            if let Some(device) = Device::open(&backends, id).await {
                device.serve().await;
            }
            backends.running.borrow_mut().remove(&id);
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

    /// The back ends that run for a domain, with their devices' numbers.
    pub fn controls(&self, domid: DomId) -> Vec<(u32, Rc<K::Control>)> {
        let running = self.running.borrow();
        let own = running.iter().filter(|((owner, _), _)| *owner == domid);
        own.filter_map(|((_, number), control)| Some((*number, Rc::clone(control.as_ref()?)))).collect()
    }
}

/// One device and its way through the XenBus states.
struct Device<'a, K: Kind> {
    backends: &'a Backends<K>,
    id: DeviceId,
    store: Client,
    back: String,
    front: String,
    device: K::Device,
    handshake: Handshake,
    control: Option<Rc<K::Control>>,
    /// The end of the one that runs, if one does.
    ending: Option<Ending>,
    first: Vec<Action>,
}

impl<'a, K: Kind> Device<'a, K> {
    /// Opens what the device stands for; whoever made the device finds the outcome in `hotplug-status`, and says it.
    async fn open(backends: &'a Backends<K>, id: DeviceId) -> Option<Self> {
        let store = backends.hub.client().ok()?;
        let back = paths::backend(K::NAME, id.0, id.1);
        let front = store.read(&format!("{back}/frontend")).ok()?;
        let device = match backends.kind.open(id, &Nodes { store: &store, back: &back }).await {
            Ok(device) => device,
            Err(reason) => {
                let _ = store.write(&format!("{back}/hotplug-error"), &reason);
                let _ = store.write(&format!("{back}/hotplug-status"), "error");
                return None;
            }
        };
        let (handshake, first) = Handshake::new();
        Some(Device { backends, id, store, back, front, device, handshake, control: None, ending: None, first })
    }

    /// Serves the device until it is removed.
    async fn serve(mut self) {
        let first = core::mem::take(&mut self.first);
        self.carry_out(first).await;
        for path in [format!("{}/state", self.front), self.back.clone()] {
            if self.store.watch(&path, "").is_err() {
                return;
            }
        }
        while !self.handshake.is_removed() {
            let actions =
                match select3(end_of(self.ending.as_ref()), self.store.event(), K::changed(&self.device)).await {
                    Either3::First(End::Stopped) => {
                        self.ending = None;
                        Vec::new()
                    }
                    Either3::First(end @ End::Broken) => {
                        (self.ending, self.control) = (None, None);
                        self.warn(&format!("{end}; device closed"));
                        self.handshake.broken()
                    }
                    Either3::Second(_) => self.look(),
                    Either3::Third(()) => self.handshake.changed(),
                };
            self.carry_out(actions).await;
        }
    }

    fn warn(&self, what: &dyn Display) {
        let (domid, number) = self.id;
        notices::warn(domid, format_args!("{}: d{domid} {} {number}: {what}", K::DRIVER, K::NAME));
    }

    /// What the store says now.
    fn look(&mut self) -> Vec<Action> {
        if self.store.read(&format!("{}/frontend", self.back)).is_err() {
            return self.handshake.remove();
        }
        if self.store.number(&format!("{}/online", self.back)) == Some(0) {
            let actions = self.handshake.detach();
            if !actions.is_empty() {
                return actions;
            }
        }
        let state = self.store.number(&format!("{}/state", self.front)).and_then(XenbusState::from_raw);
        self.handshake.front_end(state.unwrap_or(XenbusState::Unknown))
    }

    async fn carry_out(&mut self, actions: Vec<Action>) {
        let mut todo: VecDeque<_> = actions.into();
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Publish => {
                    for (key, value) in K::offer(&self.device) {
                        self.put(key, &value);
                    }
                }
                Action::SetState(state) => self.put("state", state.as_str()),
                Action::Connect => {
                    let connected = self.connect();
                    todo.extend(self.handshake.connected(connected));
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
        let lookup = |key: &str| store.read(&format!("{front}/{key}")).ok();
        match self.backends.kind.connect(self.id, &self.device, lookup) {
            Ok(Connected { control, task }) => {
                self.backends.running.borrow_mut().insert(self.id, Some(Rc::clone(&control)));
                self.control = Some(control);
                // A task of its own, so that what happens on the ring wakes nothing else.
                let ending: Ending = Rc::new(Signal::new());
                self.ending = Some(Rc::clone(&ending));
                self.backends.tasks.spawn(async move { ending.signal(task.await) });
                true
            }
            Err(error) => {
                self.warn(&error);
                false
            }
        }
    }

    /// Stops the back end and waits until nothing of the guest is mapped.
    async fn disconnect(&mut self) {
        if let Some(control) = self.control.take() {
            K::stop(&control);
        }
        if let Some(ending) = self.ending.take() {
            ending.wait().await;
        }
    }
}

/// The end of a back end; waits for ever while there is none.
async fn end_of(ending: Option<&Ending>) -> End {
    match ending {
        Some(ending) => ending.wait().await,
        None => core::future::pending().await,
    }
}
