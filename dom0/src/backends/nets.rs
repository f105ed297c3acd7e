//! Network interfaces (Xen public/io/netif.h): guests' rings, and the bridges that they are connected to.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use dom0_core::devices::{paths, vif_info};
use dom0_core::vif::Vif;
use embassy_time::Duration;
use hypercall_abi::ids::DomId;
use netback::{BackEnd, Control, End, Events, HEAD_BYTES, Limit, Limited, Params, Parts, Stats, advertise};
use vswitch::PortConfig;

use super::{Backends, Connected, DeviceId, Kind, NO_ROOM, Nodes};
use crate::hal::{BridgeMemory, GrantCopier, GrantsOf, GuestPort};
use crate::switch::{Network, Switch};

/// The kind of network interfaces.
pub struct Nets {
    switch: Rc<Switch>,
}

impl Nets {
    /// Interfaces that are connected to bridges of `switch`.
    pub fn new(switch: Rc<Switch>) -> Self {
        Nets { switch }
    }
}

/// An interface as its nodes describe it.
pub struct Interface {
    vif: Vif,
    name: String,
    network: Rc<Network>,
    /// Its link was taken down, which no new connection of its front end undoes.
    down: Rc<Cell<bool>>,
}

impl Kind for Nets {
    const NAME: &'static str = paths::VIF;
    const DRIVER: &'static str = "netback";
    type Device = Interface;
    type Control = Control;

    async fn open(&self, (domid, number): DeviceId, nodes: &Nodes<'_>) -> Result<Interface, String> {
        let vif = vif_info(|key| nodes.read(key)).map_err(|error| format!("{error}"))?;
        let network = self.switch.network(&vif.bridge).map_err(|error| format!("{error}"))?;
        let name = vif.name.clone().unwrap_or_else(|| format!("vif{domid}.{number}"));
        Ok(Interface { vif, name, network, down: Rc::default() })
    }

    fn offer(_: &Interface) -> Vec<(&'static str, String)> {
        advertise()
    }

    async fn changed(_: &Interface) {
        core::future::pending().await
    }

    fn connect(
        &self,
        (domid, _): DeviceId,
        interface: &Interface,
        lookup: impl FnMut(&str) -> Option<String>,
    ) -> Result<Connected<Control, impl Future<Output = End> + 'static>, String> {
        let params = Params::parse(lookup).map_err(|error| format!("{error}"))?;
        let bind = |port| {
            let bound = GuestPort::bind(domid, port).map_err(|error| format!("event channel: {error}"));
            bound.map(Rc::new)
        };
        let ctrl = params.ctrl.map(|ctrl| bind(ctrl.event)).transpose()?;
        let mut queues = Vec::with_capacity(params.queues.len());
        for queue in &params.queues {
            let events = match queue.events {
                Events::Shared(port) => Events::Shared(bind(port)?),
                Events::Split { tx, rx } => Events::Split { tx: bind(tx)?, rx: bind(rx)? },
            };
            // It comes back if what follows fails, which the front end can make happen as often as it likes.
            let heads = BridgeMemory::take(HEAD_BYTES);
            queues.push((events, heads.ok_or_else(|| String::from("Dom0 has no memory for another queue"))?));
        }
        let grants = GrantsOf::promise(domid, params.most_mapped()).ok_or(NO_ROOM)?;
        let back_end = BackEnd::connect(domid, grants, GrantCopier, &params, Parts { queues, ctrl })
            .map_err(|error| format!("{error}"))?;
        let control = back_end.control();
        let only_from = interface.vif.mac.filter(|_| interface.vif.antispoof);
        let config = PortConfig { vlans: interface.vif.vlans.clone(), only_from, down: Rc::clone(&interface.down) };
        let plug = interface.network.bridge().attach(interface.name.clone(), back_end.cable(), config);
        let network = Rc::clone(&interface.network);
        let limit = interface.vif.rate.map(|rate| {
            let interval = Duration::from_micros(rate.interval_us.into());
            Limit { bytes: rate.bytes, interval }
        });
        let task = async move {
            let number = plug.number();
            let end = back_end.run(Limited::new(plug, limit)).await;
            network.forget(number);
            end
        };
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
