//! The way out of a nat bridge: address translation behind Dom0's address on another bridge.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use dom0_core::format::NatState;
use dom0_core::network::{BridgeConfig, Cidr, Forward, Transport};
use embassy_futures::select::select;
use embassy_time::{Duration, Instant, Timer};
use nat::{CONNECTIONS, End, Facing, ForwardError, Inside, Nat, Outside, PortForward, Protocol, Router};
use vswitch::Mac;

use super::station::{DomPlug, Station};
use super::{Network, SwitchError};
use crate::hal::{BridgeMemory, GrantCopier};

/// Connections that are shown at most.
const SHOWN: usize = 100;

/// The translation of one nat bridge.
pub struct WayOut {
    router: Rc<Router<DomPlug, BridgeMemory>>,
    /// The bridge outside, which stays for as long as this.
    uplink: Rc<Network>,
}

impl WayOut {
    /// Leads from Dom0's place `inner`, which has `cidr`, to the bridge `uplink`, of which Dom0 is a station too.
    pub fn open(inner: &Station, cidr: Cidr, uplink: Rc<Network>, seed: u64) -> Result<Self, SwitchError> {
        let outer = uplink.station.as_ref().ok_or_else(|| SwitchError::NoAddress(uplink.config.name.clone()))?;
        let memory = BridgeMemory::take(nat::MEMORY).ok_or(SwitchError::Memory)?;
        let nat = Nat::new(Inside { host: cidr.address, mask: cidr.mask() }, seed);
        let macs = [inner.mac.0, outer.mac.0];
        let router = Router::new(nat, macs, memory, Rc::new(GrantCopier), || Instant::now().as_secs());
        let (Some(inside), Some(outside)) = (inner.plug(), outer.plug()) else {
            return Err(SwitchError::NoAddress(uplink.config.name.clone()));
        };
        router.connect(&inside, &outside);
        inner.gate.add_router(Facing::Inside, &router);
        outer.gate.add_router(Facing::Outside, &router);
        Ok(WayOut { router, uplink })
    }

    /// The name of the bridge outside.
    pub fn uplink(&self) -> &str {
        &self.uplink.config.name
    }

    /// Keeps the translation up to date with Dom0's place outside, for ever.
    pub async fn run(self: Rc<Self>, config: BridgeConfig) {
        let Some(outer) = self.uplink.station.as_ref() else { return };
        loop {
            let place = outer.place();
            self.router.set_outside(place.map(|place| Outside {
                address: place.cidr.address,
                mask: place.cidr.mask(),
                gateway: place.gateway,
                mtu: outer.mtu,
            }));
            let dns = config.dns.or_else(|| place?.dns);
            self.router.nat().set_resolver(dns.map(|server| (*server.ip(), server.port())));
            self.router.tick();
            select(Timer::after(Duration::from_secs(1)), outer.moved.wait()).await;
        }
    }

    /// An interface is gone, which had this number on the bridge inside.
    pub fn forget(&self, port: u16) {
        self.router.forget(port);
    }

    /// A guest has been given an address.
    pub fn introduce(&self, address: Ipv4Addr, mac: Mac) {
        self.router.introduce(address, mac.0);
    }

    /// Leads a port outside to a guest.
    pub fn forward(&self, forward: Forward) -> Result<(), ForwardError> {
        let Forward { transport, port, to } = forward;
        self.router.nat().forward(PortForward { protocol: protocol(transport), port, to: (*to.ip(), to.port()) })
    }

    /// Ends that.
    pub fn unforward(&self, transport: Transport, port: u16) -> Result<(), ForwardError> {
        self.router.nat().unforward(protocol(transport), port)
    }

    /// What there is to see.
    pub fn state(&self) -> NatState {
        let (stats, nat) = (self.router.stats(), self.router.nat());
        let forwards = nat.forwards().iter().map(|forward| (name(forward.protocol), forward.port, shown(forward.to)));
        let open =
            nat.list().map(|(protocol, inside, port, remote)| (name(protocol), shown(inside), port, shown(remote)));
        NatState {
            connections: [nat.connections(), usize::from(CONNECTIONS)],
            frames: [stats.out, stats.back, stats.dropped],
            forwards: forwards.collect(),
            open: open.take(SHOWN).collect::<Vec<_>>(),
            ..NatState::default()
        }
    }
}

impl Drop for WayOut {
    fn drop(&mut self) {
        if let Some(outer) = &self.uplink.station {
            outer.gate.remove_router(&self.router);
        }
    }
}

const fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    }
}

const fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Icmp => "icmp",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

const fn shown(end: End) -> SocketAddrV4 {
    SocketAddrV4::new(end.0, end.1)
}
