//! A domain that can be suspended: its task goes on counting, and its disk and its interface, where it has them, are closed
//! before and connected again after.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::fmt::Display;

use embassy_futures::join::join;
use embassy_time::Timer;
use pv_guest_lib::blk::{BlkError, Disk, Storage};
use pv_guest_lib::net::stack::{self, StackResources};
use pv_guest_lib::shutdown::{Request, ShutdownReason, requested};
use pv_guest_lib::xenstore::XenStore;
use pv_guest_lib::{Guest, println, suspend, xenbus};
use static_cell::ConstStaticCell;

static DISK: Storage = Storage::new();
static SOCKETS: ConstStaticCell<StackResources<2>> = ConstStaticCell::new(StackResources::new());

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<ShutdownReason, &'static str> {
    if let Ok(task) = count() {
        guest.spawner().spawn(task);
    }
    let store = guest.store();
    let has_interface = !xenbus::devices(&store, "vif").await.map_err(said)?.is_empty();
    if has_interface {
        // It answers pings from now on.
        stack::start(&guest, SOCKETS.take()).await.map_err(said)?;
    }
    loop {
        match use_disk(&store).await.map_err(said)? {
            Request::Poweroff => return Ok(ShutdownReason::Poweroff),
            Request::Reboot => return Ok(ShutdownReason::Reboot),
            Request::Unknown => println!("control/shutdown asks for what this guest cannot do"),
            Request::Suspend => {
                if has_interface {
                    stack::close().await;
                }
                let resumed = suspend::suspend().await.map_err(said)?;
                if has_interface {
                    stack::reopen(&guest).await.map_err(said)?;
                }
                println!("{resumed:?} after a suspension");
            }
        }
    }
}

/// Uses the first disk, if there is one, until the tool stack asks for something; then no back end has anything of ours.
async fn use_disk(store: &XenStore) -> Result<Request, BlkError> {
    let devices = xenbus::devices(store, "vbd").await?;
    let Some(device) = devices.first() else { return Ok(requested(store).await?) };
    let (disk, runner) = Disk::connect(store, device, &DISK).await?;
    let wish = async {
        let mut sector = [0; 512];
        let read = disk.read(0, &mut sector).await;
        println!("the disk begins with {:02x?}: {read:?}", sector.first_chunk::<8>());
        let wish = requested(store).await;
        DISK.close();
        wish
    };
    // The runner ends once the back end has let go as well.
    let (ended, wish) = join(runner.run(), wish).await;
    ended?;
    Ok(wish?)
}

#[embassy_executor::task]
async fn count() {
    for number in 0u64.. {
        println!("count {number}");
        Timer::after_secs(1).await;
    }
}

fn said(error: impl Display) -> &'static str {
    println!("{error}");
    "it cannot go on"
}
