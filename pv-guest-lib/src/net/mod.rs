//! The network front end: an Ethernet interface whose other end is in another domain (Xen public/io/netif.h).
//!
//! [`open`] gives an [`Interface`], which is an `embassy_net_driver::Driver`, and a [`Runner`] for a task of its own. With
//! the feature `embassy-net`, `stack` puts a TCP/IP stack on top and reads its addresses from the command line; with the feature
//! `smoltcp` the interface is a `smoltcp::phy::Device` as well.
//!
//! Frames travel through pages of the driver's own that stay granted. Checksums of TCP and UDP are left to whoever puts
//! the frame on a wire, and not computed at all between domains; those of frames that nobody vouches for are checked
//! here, so the stack above does neither.
//!
//! Examples: `examples/network.rs` and `examples/smoltcp.rs`.

mod checksum;
mod connect;
mod device;
mod error;
#[cfg(feature = "smoltcp")]
mod phy;
mod receive;
#[cfg(feature = "embassy-net")]
pub mod stack;
mod stats;
mod transmit;

use core::cell::{Cell, RefCell};

use critical_section::Mutex;
use embassy_futures::select::{Either, Either3, select, select3};
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::ConstStaticCell;

use crate::evtchn::EventChannel;
use crate::xenbus::FrontEnd;
use checksum::Offload;
pub use connect::{open, reopen};
pub use error::NetError;
use receive::Receiver;
pub use stats::Stats;
use transmit::Transmitter;

/// Largest MTU that is used, in bytes: payload of a frame, Ethernet header aside.
pub const MAX_MTU: usize = 9000;
/// Ethernet header with a VLAN tag.
const HEADER: usize = 18;
/// Bytes of a frame at most.
const MAX_FRAME: usize = MAX_MTU + HEADER;

/// The back end's index or answer cannot be true.
#[derive(Clone, Copy, Debug)]
struct Broken;

/// The notifications of the two rings.
enum Channels {
    Shared(EventChannel),
    Split { tx: EventChannel, rx: EventChannel },
}

impl Channels {
    const fn tx(&self) -> &EventChannel {
        match self {
            Self::Shared(channel) | Self::Split { tx: channel, .. } => channel,
        }
    }

    const fn rx(&self) -> &EventChannel {
        match self {
            Self::Shared(channel) | Self::Split { rx: channel, .. } => channel,
        }
    }
}

struct Connected {
    transmitter: Transmitter,
    receiver: Receiver,
    channels: Channels,
    offload: Offload,
}

/// One frame in each direction, in private memory: nothing of a shared page is ever handed out.
struct Frames {
    rx: [u8; MAX_FRAME],
    tx: [u8; MAX_FRAME],
}

/// Where an interface keeps its state; put one into a `static` for each interface.
pub struct Storage {
    connected: Mutex<RefCell<Option<Connected>>>,
    stats: Mutex<Cell<Stats>>,
    frames: ConstStaticCell<Frames>,
    /// Wakes the task that uses the interface when it comes or goes.
    link: AtomicWaker,
    close: Signal<CriticalSectionRawMutex, ()>,
    /// There are frames that the back end may not have been told of.
    sent: Signal<CriticalSectionRawMutex, ()>,
    broken: Signal<CriticalSectionRawMutex, ()>,
}

impl Storage {
    /// State without an interface.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "for statics, where Default cannot be called")]
    pub const fn new() -> Self {
        Self {
            connected: Mutex::new(RefCell::new(None)),
            stats: Mutex::new(Cell::new(Stats {
                rx_frames: 0,
                rx_bytes: 0,
                rx_bad: 0,
                tx_frames: 0,
                tx_bytes: 0,
                tx_bad: 0,
                tx_dropped: 0,
            })),
            frames: ConstStaticCell::new(Frames { rx: [0; MAX_FRAME], tx: [0; MAX_FRAME] }),
            link: AtomicWaker::new(),
            close: Signal::new(),
            sent: Signal::new(),
            broken: Signal::new(),
        }
    }

    /// The interface's counters.
    pub fn stats(&self) -> Stats {
        critical_section::with(|cs| self.stats.borrow(cs).get())
    }

    /// Lets go of the interface: its link goes down and its [`Runner`] ends once the back end has let go as well.
    pub fn close(&self) {
        self.close.signal(());
    }

    /// Does something with the connection; `None` without one. A back end that broke the protocol loses it.
    fn with<R>(&self, f: impl FnOnce(&mut Connected, &mut Stats) -> Result<R, Broken>) -> Option<R> {
        critical_section::with(|cs| {
            let mut place = self.connected.borrow(cs).borrow_mut();
            let mut stats = self.stats.borrow(cs).get();
            let outcome = f(place.as_mut()?, &mut stats);
            self.stats.borrow(cs).set(stats);
            match outcome {
                Ok(result) => Some(result),
                Err(Broken) => {
                    self.broken.signal(());
                    None
                }
            }
        })
    }

    fn is_connected(&self) -> bool {
        critical_section::with(|cs| self.connected.borrow(cs).borrow().is_some())
    }
}

/// An Ethernet interface for a TCP/IP stack: an `embassy_net_driver::Driver`.
pub struct Interface {
    storage: &'static Storage,
    frames: &'static mut Frames,
    address: [u8; 6],
    mtu: usize,
}

impl Interface {
    /// The MAC address.
    #[must_use]
    pub const fn address(&self) -> [u8; 6] {
        self.address
    }
}

/// The part of the driver that follows the back end's state, and tells it of frames: once of all that a stack sends in one of its
/// turns. To be run by a task of its own.
pub struct Runner {
    storage: &'static Storage,
    front: FrontEnd,
}

impl Runner {
    /// Holds the connection until the back end closes it, the tool stack removes the interface, or
    /// [`Storage::close`] asks for its end. The link is down from then on.
    ///
    /// # Errors
    /// [`NetError::Broken`] when the back end broke the protocol, [`NetError::Store`] as the store refuses; the interface
    /// is closed in either case.
    pub async fn run(mut self) -> Result<(), NetError> {
        let storage = self.storage;
        let notifying = async {
            loop {
                storage.sent.wait().await;
                storage.with(|connected, _| {
                    connected.transmitter.notify(connected.channels.tx());
                    Ok(())
                });
            }
        };
        let ended = select3(self.front.gone(), storage.close.wait(), storage.broken.wait());
        let outcome = match select(ended, notifying).await {
            Either::First(Either3::First(gone)) => gone.map_err(NetError::Store),
            Either::First(Either3::Second(())) => Ok(()),
            Either::First(Either3::Third(())) => Err(NetError::Broken),
            Either::Second(never) => never,
        };
        let connected = critical_section::with(|cs| storage.connected.borrow(cs).replace(None));
        storage.link.wake();
        // The back end unmaps our pages before it says that it is closed; until then they are not ours to reuse.
        self.front.close().await?;
        drop(connected);
        outcome
    }
}
