//! TCP on the first network interface (feature `embassy-net`): says hello to whoever connects to port 7.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use embassy_net::tcp::TcpSocket;
use pv_guest_lib::net::NetError;
use pv_guest_lib::net::stack::{self, StackResources};
use pv_guest_lib::{Guest, println};
use static_cell::ConstStaticCell;

static SOCKETS: ConstStaticCell<StackResources<3>> = ConstStaticCell::new(StackResources::new());

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), NetError> {
    let stack = stack::start(&guest, SOCKETS.take()).await?;
    stack.wait_config_up().await;
    println!("{:?}", stack.config_v4());
    let (mut receive, mut send) = ([0; 1024], [0; 1024]);
    let mut socket = TcpSocket::new(stack, &mut receive, &mut send);
    while socket.accept(7).await.is_ok() {
        let _ = socket.write(b"hello\n").await;
        let _ = socket.flush().await;
        socket.close();
    }
    Ok(())
}
