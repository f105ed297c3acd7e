//! All vCPUs of the domain (feature `smp`), each with an executor of its own, and a channel between them.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::channel::Channel;
use pv_guest_lib::abi::ids::VcpuId;
use pv_guest_lib::cpus::{self, StartError};
use pv_guest_lib::{Guest, println};

static UP: Channel<CriticalSectionRawMutex, VcpuId, 4> = Channel::new();

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), StartError> {
    for cpu in guest.cpus() {
        cpu.start(|_spawner| async { UP.send(cpus::current()).await })?;
    }
    for _ in guest.cpus() {
        println!("vCPU {} is up", UP.receive().await);
    }
    Ok(())
}
