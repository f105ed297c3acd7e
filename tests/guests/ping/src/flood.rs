//! Connections without end: datagrams to one port of another host after the other.

use embassy_net::Ipv4Address;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use pv_guest_lib::net::stack::Stack;
use pv_guest_lib::println;

/// The port from which they go.
const FROM: u16 = 40_000;

/// Sends until the guest is destroyed.
pub async fn flood(stack: Stack<'static>, target: Ipv4Address) {
    let (mut rx_meta, mut tx_meta) = ([PacketMetadata::EMPTY; 1], [PacketMetadata::EMPTY; 16]);
    let (mut rx, mut tx) = ([0; 64], [0; 64]);
    let mut socket = UdpSocket::new(stack, &mut rx_meta, &mut rx, &mut tx_meta, &mut tx);
    if let Err(error) = socket.bind(FROM) {
        println!("ping: {error:?}");
        return;
    }
    println!("ping: flood");
    loop {
        for port in 1..=u16::MAX {
            // What cannot be sent is not missed.
            let _ = socket.send_to(b"?", (target, port)).await;
        }
    }
}
