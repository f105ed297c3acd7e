//! Event channels: a domain that talks to itself through both ends of one. Whoever listens allocates a port,
//! whoever connects binds it.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use embassy_time::Timer;
use pv_guest_lib::abi::errno::XenError;
use pv_guest_lib::abi::ids::DomId;
use pv_guest_lib::evtchn::EventChannel;
use pv_guest_lib::{Guest, println};

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), XenError> {
    let listener = EventChannel::alloc_unbound(DomId::SELF)?;
    let caller = EventChannel::bind_interdomain(DomId::SELF, listener.port())?;
    if let Ok(task) = call(caller) {
        guest.spawner().spawn(task);
    }
    for number in 1..=3 {
        listener.notified().await;
        println!("event {number} on port {}", listener.port());
    }
    Ok(())
}

#[embassy_executor::task]
async fn call(caller: EventChannel) {
    // Ends when the other end is closed.
    while caller.notify().is_ok() {
        Timer::after_millis(10).await;
    }
}
