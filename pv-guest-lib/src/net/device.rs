//! The ecosystem's trait for network interfaces, so that `embassy-net` takes an [`Interface`] as it is.

use core::task::Context;

use embassy_net_driver::{Capabilities, Checksum, Driver, HardwareAddress, LinkState, RxToken, TxToken};

use super::{Frames, Interface, MAX_FRAME, Storage, checksum};

/// Ethernet header, which the trait counts as part of the transmission unit.
pub(super) const ETHERNET: usize = 14;

/// A received frame.
pub struct Received<'a> {
    frame: &'a mut [u8],
}

/// Room to send a frame in.
pub struct Room<'a> {
    storage: &'static Storage,
    buffer: &'a mut [u8; MAX_FRAME],
}

impl Interface {
    fn has_room(&self, context: &mut Context<'_>) -> bool {
        let bytes = self.mtu + ETHERNET;
        let room = self
            .storage
            .with(|connected, stats| connected.transmitter.poll_room(connected.channels.tx(), context, bytes, stats));
        room.unwrap_or(false)
    }
}

impl Driver for Interface {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, context: &mut Context<'_>) -> Option<(Received<'_>, Room<'_>)> {
        // A frame may have to be answered at once.
        if !self.has_room(context) {
            return None;
        }
        let Frames { rx, tx } = self.frames;
        let received =
            self.storage.with(|connected, stats| connected.receiver.poll(connected.channels.rx(), context, rx, stats));
        let frame = rx.get_mut(..received??)?;
        Some((Received { frame }, Room { storage: self.storage, buffer: tx }))
    }

    fn transmit(&mut self, context: &mut Context<'_>) -> Option<Room<'_>> {
        self.has_room(context).then_some(Room { storage: self.storage, buffer: &mut self.frames.tx })
    }

    fn link_state(&mut self, context: &mut Context<'_>) -> LinkState {
        self.storage.link.register(context.waker());
        if self.storage.is_connected() { LinkState::Up } else { LinkState::Down }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = self.mtu + ETHERNET;
        // The driver makes and checks them, where that has to be done at all.
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::None;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.frame)
    }
}

impl TxToken for Room<'_> {
    /// # Panics
    /// When the frame is longer than the interface's transmission unit.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = &mut self.buffer[..len];
        let result = f(frame);
        // Without a connection the frame is lost, as on any cable that is pulled.
        self.storage.with(|connected, stats| {
            let blank = checksum::make(frame, connected.offload);
            connected.transmitter.send(frame, blank, stats);
            Ok(())
        });
        self.storage.sent.signal(());
        result
    }
}
