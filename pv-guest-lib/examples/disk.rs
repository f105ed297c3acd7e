//! A disk: what it is, reading, writing, and putting its cache out.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use pv_guest_lib::blk::{BlkError, Disk, Runner, Storage};
use pv_guest_lib::{Guest, println, xenbus};

static DISK: Storage = Storage::new();

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), BlkError> {
    let store = guest.store();
    let devices = xenbus::devices(&store, "vbd").await?;
    let (disk, runner) = Disk::connect(&store, devices.first().ok_or(BlkError::Closed)?, &DISK).await?;
    if let Ok(task) = serve(runner) {
        guest.spawner().spawn(task);
    }
    let info = disk.info()?;
    println!("{} sectors, {info:?}", info.sectors);
    let mut sector = [0; 512];
    disk.read(0, &mut sector).await?;
    println!("the first begins with {:02x?}", sector.first_chunk::<8>());
    if !info.read_only {
        disk.write(0, &sector).await?;
        disk.flush().await?;
    }
    // The runner ends once the back end has let go as well.
    DISK.close();
    Ok(())
}

#[embassy_executor::task]
async fn serve(runner: Runner) {
    if let Err(error) = runner.run().await {
        println!("the disk is gone: {error}");
    }
}
