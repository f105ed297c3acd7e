//! The smallest guest that is of use: says who it is and where it runs, then waits to be told to stop.
//!
//! With `exit` on its command line it powers itself off at once; with `crash` it panics.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_lib::executor::{self, Spawner};
use pv_guest_lib::shutdown::{self, Request, ShutdownReason};
use pv_guest_lib::xenstore::{self, XenStore, XsError};
use pv_guest_lib::{BootInfo, entry, hypercall, println};

entry!(main);

fn main(boot: BootInfo) -> ! {
    executor::run(|spawner| {
        if let Ok(task) = hello(spawner, boot) {
            spawner.spawn(task);
        }
    })
}

#[embassy_executor::task]
async fn hello(spawner: Spawner, boot: BootInfo) {
    let store = xenstore::start(spawner);
    let domid = match &store {
        Some(store) => store.read_number::<u16>("domid").await.ok(),
        None => None,
    };
    match domid {
        Some(domid) => println!("hello: domain {domid}"),
        None => println!("hello: a domain without a store"),
    }
    if let Ok((major, minor)) = hypercall::version() {
        let extra = hypercall::extra_version().unwrap_or_default();
        let extra = core::str::from_utf8(&extra).unwrap_or("").trim_end_matches('\0');
        println!("hello: on Xen ABI {major}.{minor}{extra}");
    }
    let bytes: u64 = boot.memory().iter().map(|bank| bank.size()).sum();
    println!("hello: {} KiB of RAM, {} KiB free", bytes / 1024, pv_guest_lib::pages::free_pages() * 4);

    let mut words = boot.arguments().split_whitespace();
    if words.clone().any(|word| word == "crash") {
        panic!("told to crash");
    }
    match store {
        Some(store) if words.all(|word| word != "exit") => obey(&store).await,
        Some(_) | None => shutdown::poweroff(),
    }
}

/// Does what the tool stack asks, for ever.
async fn obey(store: &XenStore) -> ! {
    println!("hello: waiting for control/shutdown");
    loop {
        let request: Result<Request, XsError> = shutdown::requested(store).await;
        match request {
            Ok(Request::Poweroff) => shutdown::poweroff(),
            Ok(Request::Reboot) => shutdown::shutdown(ShutdownReason::Reboot),
            Ok(request @ (Request::Suspend | Request::Unknown)) => println!("hello: cannot {request:?}"),
            Err(error) => panic!("waiting for control/shutdown: {error}"),
        }
    }
}
