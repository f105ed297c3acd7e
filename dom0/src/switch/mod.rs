//! The networks of guests: bridges, what leads out of them, and Dom0's own place on them.

mod dhcp;
mod echo;
mod iperf;
mod nic;
mod station;
mod way_out;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;

use dom0_core::format::{BridgeInfo, BridgePort, NatState};
use dom0_core::network::{BridgeConfig, Cidr, Ip, Mode};
use embassy_time::Instant;
use nat::ForwardError;
use netport::MAX_MTU;
use vswitch::{Bridge, Mac, PortConfig, PortStats, SCRATCH_BYTES};

use crate::hal::{BridgeMemory, GrantCopier};
use crate::tasks::{Group, Tasks};
use dhcp::Dhcp;
use nic::Nic;
use station::Station;
use way_out::WayOut;

/// A bridge of Dom0's switch.
pub type DomBridge = Bridge<GrantCopier, BridgeMemory>;

/// Why a bridge cannot be made or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwitchError {
    /// It exists.
    Exists(String),
    /// It does not exist.
    Unknown(String),
    /// No bridge has such an interface.
    NoInterface(String),
    /// Interfaces of guests are connected to it, or a nat bridge leads out through it.
    InUse(String),
    /// The machine has no such network device.
    NoNic(String),
    /// Another bridge has the network device.
    NicInUse(String, String),
    /// There is no bridge that leads out of the machine and has an address of Dom0's.
    NoUplink,
    /// It does not lead out of the machine.
    NotUplink(String),
    /// Another nat bridge has addresses of the same network.
    Overlaps(Cidr, String),
    /// Dom0 has no address on it.
    NoAddress(String),
    /// It is not in mode `nat`.
    NotNat(String),
    /// A port cannot be led to a guest, or not be taken back.
    Forward(ForwardError),
    /// Dom0 has no memory for it.
    Memory,
}

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(name) => write!(f, "bridge {name} exists already"),
            Self::Unknown(name) => write!(f, "bridge {name} does not exist"),
            Self::NoInterface(name) => write!(f, "no bridge has an interface {name}"),
            Self::InUse(name) => write!(f, "bridge {name} is in use"),
            Self::NoNic(name) => write!(f, "the machine has no network device {name}"),
            Self::NicInUse(nic, bridge) => write!(f, "network device {nic} is in use by bridge {bridge}"),
            Self::NoUplink => f.write_str("mode nat needs a bridge in mode bridge that has an address of Dom0's"),
            Self::NotUplink(name) => write!(f, "bridge {name} is not in mode bridge"),
            Self::Overlaps(cidr, name) => write!(f, "ip {cidr}: bridge {name} has addresses of that network"),
            Self::NoAddress(name) => write!(f, "Dom0 has no address on bridge {name}"),
            Self::NotNat(name) => write!(f, "bridge {name} is not in mode nat"),
            Self::Forward(error) => error.fmt(f),
            Self::Memory => f.write_str("Dom0 has no memory for another bridge"),
        }
    }
}

impl core::error::Error for SwitchError {}

/// A bridge with what belongs to it.
pub struct Network {
    config: BridgeConfig,
    bridge: Rc<DomBridge>,
    station: Option<Rc<Station>>,
    way_out: Option<Rc<WayOut>>,
    dhcp: Option<Rc<Dhcp>>,
    /// The tasks of the bridge, which end with it.
    tasks: Group,
}

impl Network {
    /// Where interfaces are connected.
    pub fn bridge(&self) -> &Rc<DomBridge> {
        &self.bridge
    }

    /// An interface is gone, which had this number on the bridge.
    pub fn forget(&self, port: u16) {
        if let Some(way_out) = &self.way_out {
            way_out.forget(port);
        }
        if let Some(dhcp) = &self.dhcp {
            dhcp.server.borrow_mut().disown(port);
        }
    }
}

/// All bridges.
pub struct Switch {
    networks: RefCell<BTreeMap<String, Rc<Network>>>,
    nics: Vec<Rc<Nic>>,
    tasks: Rc<Tasks>,
    random: Cell<u64>,
}

impl Switch {
    /// Finds the machine's network devices; there are no bridges yet. `seed` is a number that guests do not know.
    pub fn find(fdt: &'static [u8], tasks: &Rc<Tasks>, seed: u64) -> Rc<Self> {
        let nics = nic::find(fdt, tasks);
        let networks = RefCell::default();
        Rc::new(Switch { networks, nics, tasks: Rc::clone(tasks), random: Cell::new(seed) })
    }

    /// Whether there is a way out of the machine.
    pub fn has_nic(&self) -> bool {
        !self.nics.is_empty()
    }

    /// The bridge of that name, which is made when nobody has: then it connects guests to each other alone.
    pub fn network(&self, name: &str) -> Result<Rc<Network>, SwitchError> {
        if let Some(network) = self.networks.borrow().get(name) {
            return Ok(Rc::clone(network));
        }
        self.make(BridgeConfig::new(name.to_string(), Mode::HostOnly))
    }

    /// Makes a bridge.
    pub fn add(&self, config: BridgeConfig) -> Result<(), SwitchError> {
        if self.networks.borrow().contains_key(&config.name) {
            return Err(SwitchError::Exists(config.name));
        }
        self.make(config).map(drop)
    }

    /// Removes a bridge that nobody uses; when this returns, nothing of it is left.
    pub async fn delete(&self, name: &str) -> Result<(), SwitchError> {
        let network = self.networks.borrow_mut().remove(name).ok_or_else(|| SwitchError::Unknown(name.to_string()))?;
        if Rc::strong_count(&network) > 1 {
            self.networks.borrow_mut().insert(name.to_string(), network);
            return Err(SwitchError::InUse(name.to_string()));
        }
        let over = network.tasks.over();
        drop(network);
        over.wait().await;
        Ok(())
    }

    fn make(&self, config: BridgeConfig) -> Result<Rc<Network>, SwitchError> {
        let nic = config.nic.as_deref().map(|name| self.free_nic(name)).transpose()?;
        let uplink = match config.mode {
            Mode::Nat => Some(self.uplink(&config)?),
            Mode::HostOnly | Mode::Bridge => None,
        };
        let scratch = BridgeMemory::take(SCRATCH_BYTES).ok_or(SwitchError::Memory)?;
        let bridge = Bridge::new(GrantCopier, scratch, self.random(), || Instant::now().as_secs());
        let tasks = Group::new(&self.tasks);
        let dhcp = match (config.mode, config.ip) {
            (Mode::Nat, Ip::Static(cidr)) => Some(Dhcp::new(cidr, &bridge)),
            _ => None,
        };
        let (station, running) = self.station(&config, nic.as_deref(), &bridge, dhcp.clone())?.unzip();
        running.into_iter().for_each(|running| tasks.spawn(running));
        let way_out = match (uplink, config.ip, &station) {
            (Some(uplink), Ip::Static(cidr), Some(station)) => {
                let way_out = Rc::new(WayOut::open(station, cidr, uplink, self.random())?);
                tasks.spawn(Rc::clone(&way_out).run(config.clone()));
                if let Some(dhcp) = &dhcp {
                    let way_out = Rc::clone(&way_out);
                    dhcp.tell(move |address, mac| way_out.introduce(address, mac));
                }
                Some(way_out)
            }
            _ => None,
        };
        if let Some(nic) = nic {
            let wire = PortConfig { vlans: config.vlans.clone(), ..PortConfig::default() };
            let plug = bridge.attach(nic.name.clone(), Rc::clone(&nic) as _, wire);
            tasks.spawn(async move { nic.device.run(plug).await });
        }
        let name = config.name.clone();
        let network = Rc::new(Network { config, bridge, station, way_out, dhcp, tasks });
        self.networks.borrow_mut().insert(name, Rc::clone(&network));
        Ok(network)
    }

    /// Dom0's place on a bridge, if it is to have one, and the life that it leads there.
    fn station(
        &self,
        config: &BridgeConfig,
        nic: Option<&Nic>,
        bridge: &Rc<DomBridge>,
        dhcp: Option<Rc<Dhcp>>,
    ) -> Result<Option<(Rc<Station>, impl Future<Output = ()> + 'static)>, SwitchError> {
        if config.ip == Ip::None {
            return Ok(None);
        }
        // As a bridge of Linux does, Dom0 answers to the address of its device.
        let mac = nic.map_or_else(|| self.random_mac(), |nic| Mac(nic.device.mac()));
        let mtu = nic.map_or(MAX_MTU, |nic| nic.device.mtu());
        let (station, link) = Station::connect(bridge, mac, mtu, config)?;
        let running = Rc::clone(&station).run(link, config.clone(), dhcp, self.random());
        Ok(Some((station, running)))
    }

    /// The bridge through which a nat bridge leads out of the machine: the one that it names, or the first with an address of
    /// Dom0's.
    fn uplink(&self, nat: &BridgeConfig) -> Result<Rc<Network>, SwitchError> {
        let networks = self.networks.borrow();
        let overlaps = |network: &&Rc<Network>| match (network.config.mode, network.config.ip, nat.ip) {
            (Mode::Nat, Ip::Static(other), Ip::Static(own)) => own.overlaps(other),
            _ => false,
        };
        if let (Some(other), Ip::Static(own)) = (networks.values().find(overlaps), nat.ip) {
            return Err(SwitchError::Overlaps(own, other.config.name.clone()));
        }
        let leads_out = |network: &&Rc<Network>| network.config.mode == Mode::Bridge;
        let Some(name) = &nat.uplink else {
            let found = networks.values().filter(leads_out).find(|network| network.station.is_some());
            return found.cloned().ok_or(SwitchError::NoUplink);
        };
        let network = networks.get(name).ok_or_else(|| SwitchError::Unknown(name.clone()))?;
        Some(network).filter(leads_out).cloned().ok_or_else(|| SwitchError::NotUplink(name.clone()))
    }

    /// Takes the link of an interface down, or up again.
    pub fn set_link(&self, interface: &str, up: bool) -> Result<(), SwitchError> {
        let found = self.networks.borrow().values().any(|network| network.bridge.set_link(interface, up));
        if found { Ok(()) } else { Err(SwitchError::NoInterface(interface.to_string())) }
    }

    /// Starts an iperf3 server at Dom0's address on a bridge.
    pub fn serve_iperf(&self, name: &str) -> Result<(), SwitchError> {
        let networks = self.networks.borrow();
        let network = networks.get(name).ok_or_else(|| SwitchError::Unknown(name.to_string()))?;
        let station = network.station.as_ref().ok_or_else(|| SwitchError::NoAddress(name.to_string()))?;
        station.iperf.start();
        Ok(())
    }

    /// The way out of a nat bridge.
    pub fn way_out(&self, name: &str) -> Result<Rc<WayOut>, SwitchError> {
        let networks = self.networks.borrow();
        let network = networks.get(name).ok_or_else(|| SwitchError::Unknown(name.to_string()))?;
        network.way_out.clone().ok_or_else(|| SwitchError::NotNat(name.to_string()))
    }

    /// What goes on behind a nat bridge.
    pub fn nat_state(&self, name: &str) -> Result<NatState, SwitchError> {
        let state = self.way_out(name)?.state();
        let dhcp = self.networks.borrow().get(name).and_then(|network| network.dhcp.clone());
        let leases = dhcp.map(|dhcp| dhcp.server.borrow().leases(Instant::now().as_secs()).collect());
        Ok(NatState { leases: leases.unwrap_or_default(), ..state })
    }

    fn free_nic(&self, name: &str) -> Result<Rc<Nic>, SwitchError> {
        let nic = self.nics.iter().find(|nic| nic.name == name);
        let nic = nic.ok_or_else(|| SwitchError::NoNic(name.to_string()))?;
        let networks = self.networks.borrow();
        match networks.values().find(|network| network.config.nic.as_deref() == Some(name)) {
            Some(user) => Err(SwitchError::NicInUse(name.to_string(), user.config.name.clone())),
            None => Ok(Rc::clone(nic)),
        }
    }

    /// A number that guests do not know.
    fn random(&self) -> u64 {
        // SplitMix64's step and finaliser.
        let state = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn random_mac(&self) -> Mac {
        let [a, b, c, ..] = self.random().to_le_bytes();
        Mac([0x00, 0x16, 0x3E, a & 0x7F, b, c])
    }

    /// The bridges with their ports.
    pub fn show(&self) -> Vec<(String, Vec<BridgePort>)> {
        let port = |(name, stats): (String, PortStats)| BridgePort {
            name,
            frames: [stats.received, stats.sent, stats.refused, stats.dropped],
            down: stats.down,
        };
        let networks = self.networks.borrow();
        let ports = |network: &Network| network.bridge.ports().into_iter().map(port).collect();
        networks.iter().map(|(name, network)| (name.clone(), ports(network))).collect()
    }

    /// What the bridges are.
    pub fn info(&self) -> Vec<BridgeInfo> {
        let networks = self.networks.borrow();
        let info = |network: &Rc<Network>| {
            let station = network.station.as_ref();
            BridgeInfo {
                name: network.config.name.clone(),
                mode: network.config.mode,
                address: station
                    .map(|station| station.place().map_or_else(String::new, |place| format!("{}", place.cidr))),
                link_local: station.map(|station| format!("{}/64", station.link_local())),
                via: network
                    .way_out
                    .as_ref()
                    .map(|way| way.uplink().to_string())
                    .or_else(|| network.config.nic.clone()),
            }
        };
        networks.values().map(info).collect()
    }

    /// The addresses that a bridge has seen: address, VLAN, interface, age in seconds. `None` if there is no such bridge.
    pub fn addresses(&self, bridge: &str) -> Option<Vec<(Mac, u16, String, u64)>> {
        self.networks.borrow().get(bridge).map(|network| network.bridge.addresses())
    }
}
