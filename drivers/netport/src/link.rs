//! The host's end as `embassy-net` sees it: an Ethernet device.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::task::Context;

use driver_api::DmaMemory;
use driver_api::net::{Checksum, CopyGrants, Frame, HEAD, Offload, Piece, Port};
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};

use crate::inbox::Inbox;

/// The largest MTU that a link can have, which is also the largest that an interface of a guest can have.
pub const MAX_MTU: u16 = 9216;
/// Bytes of an Ethernet header.
const HEADER: usize = 14;
/// The longest frame that the host sends or takes.
pub const MAX_FRAME: usize = MAX_MTU as usize + HEADER;

/// The host's network device.
pub struct Link<C, M, P> {
    inbox: Rc<Inbox<C, M>>,
    wire: P,
    mac: [u8; 6],
    mtu: u16,
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
}

impl<C, M, P> Link<C, M, P> {
    /// A device that sends to `wire`, a port of a bridge, what the stack sends from `mac`, in packets of at most `mtu` bytes.
    pub fn new(inbox: Rc<Inbox<C, M>>, wire: P, mac: [u8; 6], mtu: u16) -> Self {
        let buffer = || alloc::vec![0; MAX_FRAME].into_boxed_slice();
        Link { inbox, wire, mac, mtu: mtu.min(MAX_MTU), incoming: buffer(), outgoing: buffer() }
    }
}

/// A frame that has arrived.
pub struct Received<'a>(&'a mut [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame to send.
pub struct Room<'a, C, M, P> {
    inbox: &'a Inbox<C, M>,
    wire: &'a P,
    buffer: &'a mut [u8],
}

impl<C: CopyGrants, M: DmaMemory, P: Port> TxToken for Room<'_, C, M, P> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let bytes = self.buffer.get_mut(..len).unwrap_or_default();
        let result = f(bytes);
        let head = bytes.get(..len.min(HEAD)).unwrap_or_default();
        let pieces: Vec<Piece> = self.inbox.place(bytes).collect();
        let offload = Offload { checksum: Checksum::Valid, gso: None };
        // A receiver without room loses the frame, as on any wire; the protocols above send again.
        let _ =
            self.wire.put(&Frame { head, pieces: &pieces, len: u32::try_from(len).unwrap_or(0), offload, source: 0 });
        self.wire.commit();
        result
    }
}

impl<C: CopyGrants, M: DmaMemory, P: Port> Driver for Link<C, M, P> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Room<'a, C, M, P>
    where
        Self: 'a;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let len = self.inbox.take(&mut self.incoming, cx)?;
        let received = Received(self.incoming.get_mut(..len).unwrap_or_default());
        Some((received, Room { inbox: &self.inbox, wire: &self.wire, buffer: &mut self.outgoing }))
    }

    fn transmit(&mut self, _: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        Some(Room { inbox: &self.inbox, wire: &self.wire, buffer: &mut self.outgoing })
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = usize::from(self.mtu) + HEADER;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.mac)
    }
}
