//! The smallest guest that is of use: says who it is and where it runs, then waits to be told to stop.
//!
//! With `exit` on its command line it powers itself off at once; with `crash` it panics.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_lib::shutdown::{self, ShutdownReason};
use pv_guest_lib::xenstore::XsError;
use pv_guest_lib::{Guest, hypercall, pages, println};

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<ShutdownReason, XsError> {
    let store = guest.store();
    match store.read_number::<u64>("domid").await {
        Ok(domid) => println!("hello: domain {domid}"),
        Err(XsError::NoStore) => println!("hello: a domain without a store"),
        Err(error) => return Err(error),
    }
    if let Ok((major, minor)) = hypercall::version() {
        let extra = hypercall::extra_version().unwrap_or_default();
        let extra = core::str::from_utf8(&extra).unwrap_or("").trim_end_matches('\0');
        println!("hello: on Xen ABI {major}.{minor}{extra}");
    }
    let bytes: u64 = guest.boot().memory().iter().map(|bank| bank.size()).sum();
    println!("hello: {} KiB of RAM, {} KiB free", bytes / 1024, pages::free_pages() * 4);

    if guest.arguments().has("crash") {
        panic!("told to crash");
    }
    if guest.arguments().has("exit") {
        return Ok(ShutdownReason::Poweroff);
    }
    println!("hello: waiting for control/shutdown");
    shutdown::awaited(&store).await
}
