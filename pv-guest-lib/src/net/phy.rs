//! smoltcp's trait for network interfaces (feature `smoltcp`), for who runs its `Interface` without an executor's help.
//!
//! ```ignore
//! let (mut device, runner) = net::open(&store, path, &STORAGE).await?;
//! let mut config = smoltcp::iface::Config::new(EthernetAddress(device.address()).into());
//! let mut iface = smoltcp::iface::Interface::new(config, &mut device, now());
//! loop {
//!     iface.poll(now(), &mut device, &mut sockets);
//!     device.ready().await; // or until `iface.poll_delay` is over
//! }
//! ```

use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use embassy_net_driver::Driver;
use smoltcp::phy::{self, Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use super::device::{ETHERNET, Received, Room};
use super::{Channels, Interface};

impl Interface {
    /// Waits until frames may have come, room may have become free, or the link has changed since [`Device::receive`] and
    /// [`Device::transmit`] last found nothing.
    pub async fn ready(&mut self) {
        let storage = self.storage;
        poll_fn(|context| {
            storage.link.register(context.waker());
            let ready = storage.with(|connected, _| {
                Ok(match &connected.channels {
                    Channels::Shared(channel) => channel.poll_notified(context).is_ready(),
                    Channels::Split { tx, rx } => {
                        tx.poll_notified(context).is_ready() | rx.poll_notified(context).is_ready()
                    }
                })
            });
            if ready.unwrap_or(true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Device for Interface {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Room<'_>)> {
        Driver::receive(self, &mut Context::from_waker(Waker::noop()))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        Driver::transmit(self, &mut Context::from_waker(Waker::noop()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + ETHERNET;
        // The driver makes and checks them, where that has to be done at all.
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::None;
        capabilities
    }
}

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        embassy_net_driver::RxToken::consume(self, |frame| f(frame))
    }
}

impl phy::TxToken for Room<'_> {
    /// # Panics
    /// When the frame is longer than the interface's transmission unit.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        embassy_net_driver::TxToken::consume(self, len, f)
    }
}
