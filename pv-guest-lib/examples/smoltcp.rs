//! smoltcp on the first network interface (feature `smoltcp`), without an executor's stack: answers pings at
//! 10.0.0.9.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use embassy_futures::select::select;
use embassy_time::{Duration, Instant, Timer};
use pv_guest_lib::net::{self, NetError, Runner, Storage};
use pv_guest_lib::{Guest, println, xenbus};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

static INTERFACE: Storage = Storage::new();

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), NetError> {
    let store = guest.store();
    let devices = xenbus::devices(&store, "vif").await?;
    let (mut device, runner) = net::open(&store, devices.first().ok_or(NetError::Missing)?, &INTERFACE).await?;
    if let Ok(task) = serve(runner) {
        guest.spawner().spawn(task);
    }
    let config = Config::new(EthernetAddress(device.address()).into());
    let mut interface = Interface::new(config, &mut device, now());
    interface.update_ip_addrs(|addresses| {
        let _ = addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, 9), 24));
    });
    let mut sockets = SocketSet::new(&mut [][..]);
    loop {
        interface.poll(now(), &mut device, &mut sockets);
        let wait = interface
            .poll_delay(now(), &sockets)
            .map_or(Duration::from_secs(1), |delay| Duration::from_micros(delay.total_micros()));
        select(device.ready(), Timer::after(wait)).await;
    }
}

fn now() -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(Instant::now().as_micros()).unwrap_or(i64::MAX))
}

#[embassy_executor::task]
async fn serve(runner: Runner) {
    if let Err(error) = runner.run().await {
        println!("the interface is gone: {error}");
    }
}
