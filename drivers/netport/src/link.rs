//! The host's end as `embassy-net` sees it: an Ethernet device.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::task::Context;

use driver_api::DmaMemory;
use driver_api::net::{CopyGrants, Frame, HEAD, Offload, Piece, Port, Refused};
use embassy_net_driver::{Capabilities, Checksum, Driver, HardwareAddress, LinkState, RxToken, TxToken};

use crate::inbox::Inbox;
use crate::tcp;

/// The largest MTU that a link can have, which is also the largest that an interface of a guest can have.
pub const MAX_MTU: u16 = 9216;
/// Bytes of an Ethernet header.
pub(crate) const HEADER: usize = 14;
/// The longest frame that the host sends or takes: what a network interface of a guest can say. It holds many packets of TCP
/// that are cut on the way.
pub const MAX_FRAME: usize = 65_535;

/// The host's network device.
pub struct Link<C, M, P> {
    inbox: Rc<Inbox<C, M>>,
    wire: P,
    mac: [u8; 6],
    mtu: u16,
    incoming: Box<[u8]>,
    outgoing: Outgoing,
}

/// The frame that the stack sends.
struct Outgoing {
    bytes: Box<[u8]>,
    /// It was refused and waits: how long it is, and what is left to its receiver.
    refused: Option<(usize, Offload)>,
}

impl<C, M, P> Link<C, M, P> {
    /// A device that sends to `wire`, a port of a bridge, what the stack sends from `mac`, in packets of at most `mtu` bytes.
    pub fn new(inbox: Rc<Inbox<C, M>>, wire: P, mac: [u8; 6], mtu: u16) -> Self {
        let room = || vec![0; MAX_FRAME].into_boxed_slice();
        let outgoing = Outgoing { bytes: room(), refused: None };
        Link { inbox, wire, mac, mtu: mtu.min(MAX_MTU), incoming: room(), outgoing }
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
    outgoing: &'a mut Outgoing,
    mtu: u16,
}

impl<C: CopyGrants, M: DmaMemory, P: Port> TxToken for Room<'_, C, M, P> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // An answer takes the place of a frame that waits, which is lost then, as on any wire: the protocols above send
        // again.
        let bytes = self.outgoing.bytes.get_mut(..len).unwrap_or_default();
        let result = f(bytes);
        let offload = tcp::finish(bytes, self.mtu);
        self.outgoing.refused = None;
        if offload.gso.is_none() && len > usize::from(self.mtu) + HEADER {
            return result;
        }
        send(self.inbox, self.wire, self.outgoing, len, offload);
        result
    }
}

/// Puts the frame on the wire, or notes that it waits.
fn send<C: CopyGrants, M: DmaMemory>(
    inbox: &Inbox<C, M>,
    wire: &impl Port,
    outgoing: &mut Outgoing,
    len: usize,
    offload: Offload,
) {
    let bytes = outgoing.bytes.get(..len).unwrap_or_default();
    let head = bytes.get(..len.min(HEAD)).unwrap_or_default();
    let pieces: Vec<Piece> = inbox.place(bytes).collect();
    let len_on_wire = u32::try_from(len).unwrap_or(0);
    match wire.put(&Frame { head, pieces: &pieces, len: len_on_wire, offload, source: 0 }) {
        Ok(()) => wire.commit(),
        Err(Refused::Full) => outgoing.refused = Some((len, offload)),
        Err(Refused::Unfit | Refused::Down) => {}
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
        loop {
            let (len, unchecked) = self.inbox.take(&mut self.incoming, cx)?;
            let bytes = self.incoming.get_mut(..len).unwrap_or_default();
            if unchecked && !tcp::is_sound(bytes) {
                continue;
            }
            tcp::lengthen(bytes, self.mtu);
            let received = Received(self.incoming.get_mut(..len).unwrap_or_default());
            let room = Room { inbox: &self.inbox, wire: &self.wire, outgoing: &mut self.outgoing, mtu: self.mtu };
            return Some((received, room));
        }
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        if let Some((len, offload)) = self.outgoing.refused.take() {
            send(&self.inbox, &self.wire, &mut self.outgoing, len, offload);
        }
        if self.outgoing.refused.is_some() {
            if self.wire.poll_room(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            return None;
        }
        Some(Room { inbox: &self.inbox, wire: &self.wire, outgoing: &mut self.outgoing, mtu: self.mtu })
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        // The stack makes packets of TCP that are cut on the way; others that are too long do not leave.
        capabilities.max_transmission_unit = MAX_FRAME;
        // `tcp` does what is left out here.
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::Tx;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.mac)
    }
}
