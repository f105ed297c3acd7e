//! Dom0 itself as a station of a bridge: an address, through `embassy-net`.

use alloc::rc::{Rc, Weak};
use alloc::string::String;
use core::cell::RefCell;
use core::net::{Ipv4Addr, SocketAddrV4};

use dom0_core::network::{BridgeConfig, Cidr, Ip};
use driver_api::sys::Window;
use embassy_futures::join::join;
use embassy_futures::select::select;
use embassy_net::{Config, DhcpConfig, Ipv4Cidr, Stack, StackResources, StaticConfigV4};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use netport::{Inbox, Link};
use vswitch::{Mac, Plug, PortConfig};

use super::dhcp::Dhcp;
use super::{DomBridge, SwitchError};
use crate::hal::{GrantCopier, device_memory};

/// Sockets of a stack: DHCP's own, and what the services of a bridge use.
const SOCKETS: usize = 8;
/// The port of name servers.
const DNS_PORT: u16 = 53;

/// Where Dom0's frames enter a bridge.
pub type DomPlug = Plug<GrantCopier, Window>;
/// Dom0's port of a bridge.
pub type DomGate = nat::Gate<Rc<Inbox<GrantCopier, Window>>, DomPlug, Window>;

/// The host's end of a bridge.
type HostLink = Link<GrantCopier, Window, Rc<DomPlug>>;

/// What Dom0 knows of the network that it is a station of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address.
    pub cidr: Cidr,
    /// The router.
    pub gateway: Option<Ipv4Addr>,
    /// The name server.
    pub dns: Option<SocketAddrV4>,
}

/// What Dom0 is on a bridge.
pub struct Station {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its port.
    pub gate: Rc<DomGate>,
    /// The same port from the other side, for as long as the station runs.
    plug: Weak<DomPlug>,
    place: RefCell<Option<Place>>,
    /// The place has changed.
    pub moved: Signal<NoopRawMutex, ()>,
}

impl Station {
    /// Connects Dom0 to a bridge under the address `mac`. The second part is the device for [`Self::run`].
    pub fn connect(bridge: &Rc<DomBridge>, mac: Mac) -> Result<(Rc<Self>, HostLink), SwitchError> {
        let memory = device_memory(netport::MEMORY).ok_or(SwitchError::Memory)?;
        let inbox = Rc::new(Inbox::new(GrantCopier, memory));
        let gate = DomGate::new(Rc::clone(&inbox));
        let plug = Rc::new(bridge.attach(String::from("dom0"), Rc::clone(&gate) as _, PortConfig::default()));
        let weak = Rc::downgrade(&plug);
        let station = Station { mac, gate, plug: weak, place: RefCell::new(None), moved: Signal::new() };
        Ok((Rc::new(station), Link::new(inbox, plug, mac.0)))
    }

    /// What it knows of the network now; nothing while a server has not given it an address.
    pub fn place(&self) -> Option<Place> {
        *self.place.borrow()
    }

    /// Where its frames enter the bridge, while it runs.
    pub fn plug(&self) -> Option<Rc<DomPlug>> {
        self.plug.upgrade()
    }

    /// Runs the station's protocols, and the DHCP server if there is one, for ever. `seed` differs from one start to the next.
    pub async fn run(self: Rc<Self>, link: HostLink, config: BridgeConfig, dhcp: Option<Rc<Dhcp>>, seed: u64) {
        let mut resources = StackResources::<SOCKETS>::new();
        let (stack, mut runner) = embassy_net::new(link, stack_config(&config), &mut resources, seed);
        let serve = async {
            if let Some(dhcp) = dhcp {
                dhcp.serve(stack).await;
            }
        };
        select(runner.run(), join(self.follow(stack, config.dns), serve)).await;
    }

    /// Notes what the stack knows.
    async fn follow(&self, stack: Stack<'_>, dns: Option<SocketAddrV4>) {
        loop {
            stack.wait_config_up().await;
            *self.place.borrow_mut() = stack.config_v4().map(|config| Place {
                cidr: Cidr { address: config.address.address(), prefix: config.address.prefix_len() },
                gateway: config.gateway,
                dns: dns.or_else(|| config.dns_servers.first().map(|server| SocketAddrV4::new(*server, DNS_PORT))),
            });
            self.moved.signal(());
            stack.wait_config_down().await;
            *self.place.borrow_mut() = None;
            self.moved.signal(());
        }
    }
}

fn stack_config(config: &BridgeConfig) -> Config {
    match config.ip {
        Ip::Static(Cidr { address, prefix }) => Config::ipv4_static(StaticConfigV4 {
            address: Ipv4Cidr::new(address, prefix),
            gateway: config.gateway,
            dns_servers: Default::default(),
        }),
        Ip::Dhcp => Config::dhcpv4(DhcpConfig::default()),
        Ip::None => Config::default(),
    }
}
