//! The DHCP server of a nat bridge, on Dom0's own port of it.

use alloc::boxed::Box;
use alloc::rc::{Rc, Weak};
use core::cell::{OnceCell, RefCell};
use core::net::Ipv4Addr;

use dom0_core::network::{ANSWER, CLIENT_PORT, Cidr, DhcpServer, SERVER_PORT};
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{IpAddress, Stack};
use embassy_time::Instant;
use vswitch::Mac;

use super::DomBridge;

/// Messages of clients that wait.
const MESSAGES: usize = 16;
/// The longest message of a client.
const MESSAGE: usize = 1024;

/// The server, and the bridge that it serves.
pub struct Dhcp {
    /// What it has given to whom.
    pub server: RefCell<DhcpServer>,
    bridge: Weak<DomBridge>,
    /// Who is told of guests that have got an address.
    told: OnceCell<Box<dyn Fn(Ipv4Addr, Mac)>>,
}

impl Dhcp {
    /// A server that has given nothing yet.
    pub fn new(network: Cidr, bridge: &Rc<DomBridge>) -> Rc<Self> {
        let server = RefCell::new(DhcpServer::new(network));
        Rc::new(Dhcp { server, bridge: Rc::downgrade(bridge), told: OnceCell::new() })
    }

    /// Tells `whom` of guests that get an address from now on.
    pub fn tell(&self, whom: impl Fn(Ipv4Addr, Mac) + 'static) {
        let _ = self.told.set(Box::new(whom));
    }

    /// Answers clients, for ever.
    pub async fn serve(&self, stack: Stack<'_>) {
        let (mut in_meta, mut in_buffer) = ([PacketMetadata::EMPTY; MESSAGES], [0; MESSAGES * MESSAGE / 2]);
        let (mut out_meta, mut out_buffer) = ([PacketMetadata::EMPTY; MESSAGES], [0; MESSAGES * ANSWER]);
        let mut socket = UdpSocket::new(stack, &mut in_meta, &mut in_buffer, &mut out_meta, &mut out_buffer);
        if let Err(error) = socket.bind(SERVER_PORT) {
            log::error!("dhcp: {error:?}");
            return;
        }
        let (mut message, mut answer) = ([0; MESSAGE], [0; ANSWER]);
        loop {
            // What is longer than any message of a client is none.
            let Ok((len, _)) = socket.recv_from(&mut message).await else { continue };
            let Some(bridge) = self.bridge.upgrade() else { return };
            let now = Instant::now().as_secs();
            let message = message.get(..len).unwrap_or_default();
            let said = self.server.borrow_mut().answer(message, |mac| bridge.port_of(mac), now, &mut answer);
            if let Some((said, bytes)) = said.and_then(|said| Some((said, answer.get(..said.len)?))) {
                // A client that does not hear asks again.
                let _ = socket.send_to(bytes, (IpAddress::Ipv4(said.to), CLIENT_PORT)).await;
                if let Some(((address, mac), told)) = said.given.zip(self.told.get()) {
                    told(address, mac);
                }
            }
        }
    }
}
