//! The domain as one value: who it is, what it was told, what it has.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_lib::xenstore::XsError;
use pv_guest_lib::{Guest, println};

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), XsError> {
    println!("hello, {}", guest.arguments().value("name").unwrap_or("world"));
    println!("domain {}", guest.store().read_number::<u64>("domid").await?);
    for bank in guest.boot().memory() {
        println!("{} KiB of RAM at {}", bank.size() / 1024, bank.start());
    }
    Ok(())
}
