//! A domain that can be suspended: its task goes on counting afterwards.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use embassy_time::Timer;
use pv_guest_lib::shutdown::ShutdownReason;
use pv_guest_lib::xenstore::XsError;
use pv_guest_lib::{Guest, println, suspend};

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<ShutdownReason, XsError> {
    if let Ok(task) = count() {
        guest.spawner().spawn(task);
    }
    suspend::awaited(&guest.store()).await
}

#[embassy_executor::task]
async fn count() {
    for number in 0u64.. {
        println!("count {number}");
        Timer::after_secs(1).await;
    }
}
