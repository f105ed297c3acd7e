//! Network interfaces (Xen public/io/netif.h), and the bridges that connect them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use dom0_core::devices::{paths, vif_info};
use dom0_core::format::BridgePort;
use dom0_core::vif::Vif;
use driver_api::sys::Window;
use embassy_time::Instant;
use hypercall_abi::ids::DomId;
use netback::{BackEnd, Control, End, Events, HEAD_BYTES, Params, Stats, advertise};
use vswitch::{Bridge, Mac, PortConfig, PortStats, SCRATCH_BYTES};

use super::{Backends, Connected, DeviceId, Ended, Kind, Nodes};
use crate::hal::{GrantCopier, GrantsOf, GuestPort, device_memory};

/// A bridge of Dom0's switch.
type DomBridge = Bridge<GrantCopier, Window>;

/// The kind of network interfaces.
pub struct Nets {
    bridges: RefCell<BTreeMap<String, Rc<DomBridge>>>,
    /// Memory that ended back ends have left, for the next ones.
    heads: Rc<RefCell<Vec<Window>>>,
    seed: u64,
}

impl Nets {
    /// No bridges yet; each exists from the first interface on that names it. `seed` is a number that guests do not know.
    pub fn new(seed: u64) -> Self {
        Nets { bridges: RefCell::default(), heads: Rc::default(), seed }
    }

    fn bridge(&self, name: &str) -> Result<Rc<DomBridge>, String> {
        let mut bridges = self.bridges.borrow_mut();
        if let Some(bridge) = bridges.get(name) {
            return Ok(Rc::clone(bridge));
        }
        let scratch =
            device_memory(SCRATCH_BYTES).ok_or_else(|| String::from("Dom0 has no memory for another bridge"))?;
        let seed = self.seed.wrapping_mul(bridges.len() as u64 * 2 + 3);
        let bridge = Bridge::new(GrantCopier, scratch, seed, || Instant::now().as_secs());
        bridges.insert(name.into(), Rc::clone(&bridge));
        Ok(bridge)
    }

    /// The bridges with their ports.
    pub fn show(&self) -> Vec<(String, Vec<BridgePort>)> {
        let port = |(name, stats): (String, PortStats)| BridgePort {
            name,
            frames: [stats.received, stats.sent, stats.refused, stats.dropped],
        };
        let bridges = self.bridges.borrow();
        bridges.iter().map(|(name, bridge)| (name.clone(), bridge.ports().into_iter().map(port).collect())).collect()
    }

    /// The addresses that a bridge has seen: address, VLAN, interface, age in seconds. `None` if there is no such bridge.
    pub fn addresses(&self, bridge: &str) -> Option<Vec<(Mac, u16, String, u64)>> {
        self.bridges.borrow().get(bridge).map(|bridge| bridge.addresses())
    }

    /// Memory for the heads of a queue's frames.
    fn heads(&self) -> Option<Window> {
        self.heads.borrow_mut().pop().or_else(|| device_memory(HEAD_BYTES))
    }
}

/// An interface as its nodes describe it.
pub struct Interface {
    vif: Vif,
    name: String,
    bridge: Rc<DomBridge>,
}

impl Kind for Nets {
    const NAME: &'static str = paths::VIF;
    const DRIVER: &'static str = "netback";
    type Device = Interface;
    type Control = Control;

    async fn open(&self, (domid, number): DeviceId, nodes: &Nodes<'_>) -> Result<Interface, String> {
        let vif = vif_info(|key| nodes.read(key)).map_err(|error| format!("{error}"))?;
        let bridge = self.bridge(&vif.bridge)?;
        let name = vif.name.clone().unwrap_or_else(|| format!("vif{domid}.{number}"));
        Ok(Interface { vif, name, bridge })
    }

    fn offer(_: &Interface) -> Vec<(&'static str, String)> {
        advertise()
    }

    fn connect(
        &self,
        (domid, _): DeviceId,
        interface: &Interface,
        lookup: impl FnMut(&str) -> Option<String>,
    ) -> Result<Connected<Control>, String> {
        let params = Params::parse(lookup).map_err(|error| format!("{error}"))?;
        let bind = |port| {
            let bound = GuestPort::bind(domid, port).map_err(|error| format!("event channel: {error}"));
            bound.map(Rc::new)
        };
        let mut parts = Vec::with_capacity(params.queues.len());
        for queue in &params.queues {
            let events = match queue.events {
                Events::Shared(port) => Events::Shared(bind(port)?),
                Events::Split { tx, rx } => Events::Split { tx: bind(tx)?, rx: bind(rx)? },
            };
            parts.push((events, self.heads().ok_or_else(|| String::from("Dom0 has no memory for another queue"))?));
        }
        let back_end = BackEnd::connect(domid, GrantsOf(domid), GrantCopier, &params, parts)
            .map_err(|error| format!("{error}"))?;
        let control = back_end.control();
        let config = PortConfig { vlan: interface.vif.vlan, only_from: None };
        let plug = interface.bridge.attach(interface.name.clone(), back_end.cable(), config);
        let heads = Rc::clone(&self.heads);
        let task = Box::pin(async move {
            let (end, left) = back_end.run(plug).await;
            heads.borrow_mut().extend(left);
            match end {
                End::Stopped => Ended::Stopped,
                End::Broken => Ended::Broken(format!("{}", End::Broken)),
            }
        });
        Ok(Connected { control, task })
    }

    fn stop(control: &Control) {
        control.stop();
    }
}

impl Backends<Nets> {
    /// The counters of a domain's interfaces.
    pub fn stats(&self, domid: DomId) -> Vec<(u32, Stats)> {
        self.controls(domid).into_iter().map(|(number, control)| (number, control.stats())).collect()
    }
}
