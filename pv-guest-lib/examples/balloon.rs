//! A domain whose memory follows `xl mem-set`, and which ends when it is asked to.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_lib::shutdown::{self, ShutdownReason};
use pv_guest_lib::xenstore::{XenStore, XsError};
use pv_guest_lib::{Guest, balloon, println};

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<ShutdownReason, XsError> {
    let memory = guest.boot().memory().iter().map(|bank| bank.size()).sum();
    if let Ok(task) = follow(memory, guest.store()) {
        guest.spawner().spawn(task);
    }
    shutdown::awaited(&guest.store()).await
}

#[embassy_executor::task]
async fn follow(memory: u64, store: XenStore) {
    let Err(error) = balloon::follow(memory, &store).await;
    println!("no balloon: {error}");
}
