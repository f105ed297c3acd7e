//! The host's end as `embassy-net` sees it: an Ethernet device.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::task::Context;

use driver_api::HostMemory;
use driver_api::net::{CopyGrants, Frame, HEAD, Offload, Piece, Port, Refused, own_pieces};
use embassy_net_driver::{Capabilities, Checksum, Driver, HardwareAddress, LinkState, RxToken, TxToken};

use crate::inbox::{Inbox, MAX_FRAME, Waiting};
use crate::tcp::{self, HEADER};

/// The largest MTU that a link can have, which is also the largest that an interface of a guest can have.
pub const MAX_MTU: u16 = 9216;

/// The host's network device.
pub struct Link<C, M, P> {
    inbox: Rc<Inbox<C, M>>,
    out: Out<M, P>,
}

/// The way out.
struct Out<M, P> {
    /// The frame that the stack sends.
    bytes: M,
    wire: P,
    mac: [u8; 6],
    mtu: u16,
    /// It was refused and waits: how long it is, and what is left to its receiver.
    refused: Option<(usize, Offload)>,
    pieces: Vec<Piece>,
}

impl<C, M, P> Link<C, M, P> {
    /// A device that sends to `wire`, a port of a bridge, what the stack sends from `mac`, in packets of at most `mtu` bytes. The
    /// frames are made in `bytes`, which has room for [`MAX_FRAME`].
    pub fn new(inbox: Rc<Inbox<C, M>>, bytes: M, wire: P, mac: [u8; 6], mtu: u16) -> Self {
        let out = Out { bytes, wire, mac, mtu: mtu.min(MAX_MTU), refused: None, pieces: Vec::new() };
        Link { inbox, out }
    }
}

/// A frame that has arrived.
pub struct Received<'a, C: CopyGrants, M: HostMemory> {
    inbox: &'a Inbox<C, M>,
    frame: Waiting,
}

impl<C: CopyGrants, M: HostMemory> RxToken for Received<'_, C, M> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        let result = self.inbox.with_bytes(&self.frame, f);
        self.inbox.give_back(self.frame);
        result
    }
}

/// Room for a frame to send.
pub struct Room<'a, M, P>(&'a mut Out<M, P>);

impl<M: HostMemory, P: Port> TxToken for Room<'_, M, P> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let Room(out) = self;
        // An answer takes the place of a frame that waits, which is lost then, as on any wire: the protocols above send
        // again.
        out.refused = None;
        let mtu = out.mtu;
        let (result, offload) = out.bytes.with_bytes(0..len, |bytes| {
            let result = f(bytes);
            (result, tcp::finish(bytes, mtu))
        });
        if offload.gso.is_some() || len <= usize::from(mtu) + HEADER {
            out.send(len, offload);
        }
        result
    }
}

impl<M: HostMemory, P: Port> Out<M, P> {
    /// Puts the frame on the wire, or notes that it waits.
    fn send(&mut self, len: usize, offload: Offload) {
        self.pieces.clear();
        self.pieces.extend(own_pieces(&self.bytes, 0, len));
        let (pieces, len_on_wire, wire) = (&*self.pieces, u32::try_from(len).unwrap_or(0), &self.wire);
        let put = |head: &mut [u8]| wire.put(&Frame { head, pieces, len: len_on_wire, offload, source: 0 });
        match self.bytes.with_bytes(0..len.min(HEAD), put) {
            Ok(()) => self.wire.commit(),
            Err(Refused::Full) => self.refused = Some((len, offload)),
            Err(Refused::Unfit | Refused::Down) => {}
        }
    }
}

impl<C: CopyGrants, M: HostMemory, P: Port> Driver for Link<C, M, P> {
    type RxToken<'a>
        = Received<'a, C, M>
    where
        Self: 'a;
    type TxToken<'a>
        = Room<'a, M, P>
    where
        Self: 'a;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        loop {
            let frame = self.inbox.take(cx)?;
            let mtu = self.out.mtu;
            if self.inbox.with_bytes(&frame, |bytes| tcp::admit(bytes, frame.unchecked, mtu)) {
                return Some((Received { inbox: &self.inbox, frame }, Room(&mut self.out)));
            }
            self.inbox.give_back(frame);
        }
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        let out = &mut self.out;
        if let Some((len, offload)) = out.refused.take() {
            out.send(len, offload);
        }
        if out.refused.is_some() {
            if out.wire.poll_room(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            return None;
        }
        Some(Room(out))
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
        HardwareAddress::Ethernet(self.out.mac)
    }
}
