//! Dom0 itself as a station of a bridge: an address, through `embassy-net`.

use alloc::rc::{Rc, Weak};
use alloc::string::String;
use core::cell::RefCell;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use core::pin::{Pin, pin};

use dom0_core::network::{BridgeConfig, Cidr, Ip};
use embassy_futures::join::join;
use embassy_net::{
    Config, ConfigV6, DhcpConfig, Ipv4Cidr, Ipv6Cidr, Stack, StackResources, StaticConfigV4, StaticConfigV6,
};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Timer};
use futures_util::stream::{FuturesUnordered, StreamExt};
use netport::{Inbox, Link};
use vswitch::{Mac, Plug, PortConfig};

use super::dhcp::Dhcp;
use super::iperf::Iperf;
use super::{DomBridge, SwitchError, echo};
use crate::hal::{BridgeMemory, GrantCopier};

/// Sockets of a stack: DHCP's own, and what the services of a bridge use.
const SOCKETS: usize = 4 + echo::SOCKETS;
/// How long a station without an address of IPv4 waits before it looks for one again.
const OFTEN: Duration = Duration::from_millis(100);
/// The same for one that has an address, which another may follow.
const RARELY: Duration = Duration::from_secs(1);
/// The port of name servers.
const DNS_PORT: u16 = 53;

/// Where Dom0's frames enter a bridge.
pub type DomPlug = Plug<GrantCopier, BridgeMemory>;
/// Dom0's port of a bridge.
pub type DomGate = nat::Gate<Rc<Inbox<GrantCopier, BridgeMemory>>, DomPlug, BridgeMemory>;

/// The host's end of a bridge.
type HostLink = Link<GrantCopier, BridgeMemory, Rc<DomPlug>>;

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
    /// The longest packet that it sends, and that its bridge carries.
    pub mtu: u16,
    /// Its port.
    pub gate: Rc<DomGate>,
    /// The same port from the other side, for as long as the station runs.
    plug: Weak<DomPlug>,
    place: RefCell<Option<Place>>,
    /// The place has changed.
    pub moved: Signal<NoopRawMutex, ()>,
    /// A server that runs when somebody wants it.
    pub iperf: Iperf,
}

impl Station {
    /// Connects Dom0 to a bridge under the address `mac`, with packets of at most `mtu` bytes. The second part is the device for
    /// [`Self::run`].
    pub fn connect(
        bridge: &Rc<DomBridge>,
        mac: Mac,
        mtu: u16,
        config: &BridgeConfig,
    ) -> Result<(Rc<Self>, HostLink), SwitchError> {
        let memory = BridgeMemory::take(netport::MEMORY).ok_or(SwitchError::Memory)?;
        let out = BridgeMemory::take(netport::MAX_FRAME).ok_or(SwitchError::Memory)?;
        let inbox = Rc::new(Inbox::new(GrantCopier, memory));
        let gate = DomGate::new(Rc::clone(&inbox));
        let plug = Rc::new(bridge.attach(String::from("dom0"), Rc::clone(&gate) as _, PortConfig::default()));
        let weak = Rc::downgrade(&plug);
        // An address that was given need not be waited for.
        let place = match config.ip {
            Ip::Static(cidr) => Some(Place { cidr, gateway: config.gateway, dns: config.dns }),
            Ip::Dhcp | Ip::None => None,
        };
        let (place, moved, iperf) = (RefCell::new(place), Signal::new(), Iperf::default());
        let station = Station { mac, mtu, gate, plug: weak, place, moved, iperf };
        Ok((Rc::new(station), Link::new(inbox, out, plug, mac.0, mtu)))
    }

    /// The address of IPv6 that it has on every bridge (RFC 4291, appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.0;
        let id = u64::from_be_bytes([a ^ 2, b, c, 0xFF, 0xFE, d, e, f]);
        Ipv6Addr::from_bits(0xFE80 << 112 | u128::from(id))
    }

    /// What it knows of the network now; nothing while a server has not given it an address.
    pub fn place(&self) -> Option<Place> {
        *self.place.borrow()
    }

    /// Where its frames enter the bridge, while it runs.
    pub fn plug(&self) -> Option<Rc<DomPlug>> {
        self.plug.upgrade()
    }

    /// Runs the station's protocols, and the services that it has, for ever. `seed` differs from one start to the next.
    pub async fn run(self: Rc<Self>, link: HostLink, config: BridgeConfig, dhcp: Option<Rc<Dhcp>>, seed: u64) {
        let mut resources = StackResources::<SOCKETS>::new();
        let (stack, mut runner) = embassy_net::new(link, self.stack_config(&config), &mut resources, seed);
        let serve = async {
            if let Some(dhcp) = dhcp {
                dhcp.serve(stack).await;
            }
        };
        let echo = async {
            if config.echo {
                echo::serve(stack).await;
            }
        };
        let parts: [Pin<&mut dyn Future<Output = ()>>; 4] =
            [pin!(serve), pin!(echo), pin!(self.follow(stack, config.dns)), pin!(self.iperf.serve(stack))];
        // Each with a waker of its own: a service that touches a socket wakes the stack, and if that polled the service
        // again, neither would ever rest.
        let mut parts: FuturesUnordered<_> = parts.into_iter().collect();
        let services = async { while parts.next().await.is_some() {} };
        join(runner.run(), services).await;
    }

    /// Notes what the stack knows. It tells of IPv4 and IPv6 together, so it is looked at.
    async fn follow(&self, stack: Stack<'_>, dns: Option<SocketAddrV4>) {
        loop {
            let place = stack.config_v4().map(|config| Place {
                cidr: Cidr { address: config.address.address(), prefix: config.address.prefix_len() },
                gateway: config.gateway,
                dns: dns.or_else(|| config.dns_servers.first().map(|server| SocketAddrV4::new(*server, DNS_PORT))),
            });
            if self.place.replace(place) != place {
                self.moved.signal(());
            }
            Timer::after(if place.is_some() { RARELY } else { OFTEN }).await;
        }
    }

    fn stack_config(&self, config: &BridgeConfig) -> Config {
        let mut stack = match config.ip {
            Ip::Static(Cidr { address, prefix }) => Config::ipv4_static(StaticConfigV4 {
                address: Ipv4Cidr::new(address, prefix),
                gateway: config.gateway,
                dns_servers: Default::default(),
            }),
            Ip::Dhcp => Config::dhcpv4(DhcpConfig::default()),
            Ip::None => Config::default(),
        };
        stack.ipv6 = ConfigV6::Static(StaticConfigV6 {
            address: Ipv6Cidr::new(self.link_local(), 64),
            gateway: None,
            dns_servers: Default::default(),
        });
        stack
    }
}
