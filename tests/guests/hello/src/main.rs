//! The smallest guest that is of use: says who it is and where it runs, then waits to be told to stop.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_lib::{BootInfo, entry, hypercall, println, shutdown};

entry!(main);

fn main(boot: BootInfo) -> ! {
    println!("hello {boot:?}");
    println!("version {:?}", hypercall::version());
    shutdown::poweroff()
}
