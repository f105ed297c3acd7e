//! Asks another host for echoes and says how many came back, and how soon.
//!
//! Command line: `to=10.0.0.1`, `count=N` (default 10), `every=MS` (default 100), and the addresses of `net::stack`.
//! The last line is `ping: PASS` when nothing was lost. With `flood=1` it sends to all ports of the other host instead, without end and
//! without a look at what comes back, as a guest does that others should not suffer from.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

mod flood;

use embassy_net::Ipv4Address;
use embassy_net::icmp::PacketMetadata;
use embassy_net::icmp::ping::{PingManager, PingParams};
use embassy_time::Duration;
use pv_guest_lib::net::NetError;
use pv_guest_lib::net::stack::{self, StackResources};
use pv_guest_lib::{Guest, println};
use static_cell::ConstStaticCell;

static SOCKETS: ConstStaticCell<StackResources<3>> = ConstStaticCell::new(StackResources::new());

/// Tries before an echo counts: the first may have to wait for the other host to start.
const TRIES: u32 = 60;

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), NetError> {
    let arguments = guest.arguments();
    let count: u32 = arguments.parsed("count", 10);
    let every = Duration::from_millis(arguments.parsed("every", 100));
    let Some(target) = arguments.value("to").and_then(|text| text.parse::<Ipv4Address>().ok()) else {
        return Err(NetError::Argument);
    };
    let stack = stack::start(&guest, SOCKETS.take()).await?;
    stack.wait_config_up().await;
    if arguments.parsed("flood", 0) == 1 {
        flood::flood(stack, target).await;
    }

    let (mut rx_meta, mut tx_meta) = ([PacketMetadata::EMPTY; 4], [PacketMetadata::EMPTY; 4]);
    let (mut rx, mut tx) = ([0; 512], [0; 512]);
    let mut pings = PingManager::new(stack, &mut rx_meta, &mut rx, &mut tx_meta, &mut tx);
    let mut params = PingParams::new(target);
    params.set_count(1).set_rate_limit(every).set_timeout(Duration::from_secs(1));
    for _ in 0..TRIES {
        if pings.ping(&params).await.is_ok() {
            break;
        }
    }
    let (mut received, mut micros) = (0, 0);
    for _ in 0..count {
        if let Ok(time) = pings.ping(&params).await {
            received += 1;
            micros += time.as_micros();
        }
    }
    let average = micros / u64::from(received).max(1);
    let verdict = if received == count { "PASS" } else { "FAIL" };
    println!("ping: {verdict} sent={count} received={received} average={average} us");
    Ok(())
}
