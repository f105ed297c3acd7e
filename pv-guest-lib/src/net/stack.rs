//! TCP/IP in one call: `embassy-net` on the domain's first interface, with addresses from the command line.
//!
//! | word | meaning |
//! |---|---|
//! | `ip=10.0.0.2/24` | a static address; without one the interface asks a DHCP server |
//! | `gateway=10.0.0.1` | the way to everybody else |
//! | `dns=10.0.0.1` | the name server |
//!
//! ```ignore
//! static SOCKETS: ConstStaticCell<StackResources<4>> = ConstStaticCell::new(StackResources::new());
//!
//! let stack = net::stack::start(&guest, SOCKETS.take()).await?;
//! stack.wait_config_up().await;
//! ```

use core::str::FromStr;

use embassy_net::{Config, Ipv4Address, Ipv4Cidr, StaticConfigV4};
pub use embassy_net::{Stack, StackResources};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;

use super::{Interface, NetError, Runner, Stats, Storage, open, reopen as connect_again};
use crate::Guest;
use crate::arguments::Arguments;
use crate::sys::cpu;
use crate::xenstore::{Path, XenStore};
use crate::{println, xenbus};

static INTERFACE: Storage = Storage::new();
/// The interface's runner has ended.
static ENDED: Signal<CriticalSectionRawMutex, ()> = Signal::new();

/// Connects the first interface and starts a stack on it, with their tasks. `resources` hold as many sockets as their
/// type says, of which the stack itself needs one for DHCP and one for names.
///
/// # Errors
/// See [`NetError`]; [`NetError::InUse`] on a second call.
pub async fn start<const SOCKETS: usize>(
    guest: &Guest,
    resources: &'static mut StackResources<SOCKETS>,
) -> Result<Stack<'static>, NetError> {
    let config = config(guest.arguments())?;
    let store = guest.store();
    let (interface, runner) = open(&store, &first(&store).await?, &INTERFACE).await?;
    let seed = seed(guest, interface.address());
    let (stack, network) = embassy_net::new(interface, config, resources, seed);
    // Each of the two tasks is spawned here alone, once, since the storage is taken once.
    let (Ok(serve), Ok(run)) = (serve(runner), run(network)) else { return Err(NetError::InUse) };
    guest.spawner().spawn(serve);
    guest.spawner().spawn(run);
    Ok(stack)
}

/// Lets go of the interface of the stack that was started, before a suspension for example, and waits until its back end has let
/// go as well.
pub async fn close() {
    INTERFACE.close();
    ENDED.wait().await;
}

/// Connects the interface again after [`close`]: the stack has its link back.
///
/// # Errors
/// See [`NetError`]; [`NetError::InUse`] while it is connected.
pub async fn reopen(guest: &Guest) -> Result<(), NetError> {
    let store = guest.store();
    let runner = connect_again(&store, &first(&store).await?, &INTERFACE).await?;
    guest.spawner().spawn(serve(runner).map_err(|_| NetError::InUse)?);
    Ok(())
}

/// The directory of the domain's first interface.
async fn first(store: &XenStore) -> Result<Path, NetError> {
    xenbus::devices(store, "vif").await?.into_iter().next().ok_or(NetError::Missing)
}

/// The interface's counters.
#[must_use]
pub fn stats() -> Stats {
    INTERFACE.stats()
}

#[embassy_executor::task]
async fn serve(runner: Runner) {
    if let Err(error) = runner.run().await {
        println!("network: {error}");
    }
    ENDED.signal(());
}

#[embassy_executor::task]
async fn run(mut runner: embassy_net::Runner<'static, Interface>) {
    runner.run().await;
}

fn config(arguments: Arguments) -> Result<Config, NetError> {
    let dns_server: Option<Ipv4Address> = parsed(arguments, "dns")?;
    let Some(address) = parsed::<Ipv4Cidr>(arguments, "ip")? else { return Ok(Config::dhcpv4(Default::default())) };
    let dns_servers = dns_server.into_iter().collect();
    Ok(Config::ipv4_static(StaticConfigV4 { address, gateway: parsed(arguments, "gateway")?, dns_servers }))
}

fn parsed<T: FromStr>(arguments: Arguments, name: &str) -> Result<Option<T>, NetError> {
    arguments.value(name).map(T::from_str).transpose().map_err(|_| NetError::Argument)
}

/// What port numbers and the like start from: random bytes of the tool stack's, if it gave any, and what differs between
/// domains and boots.
fn seed(guest: &Guest, address: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = address;
    guest.boot().seed() ^ u64::from_be_bytes([c, d, e, f, a, b, e, f]).rotate_left(7) ^ cpu::counter()
}
