//! Measures its first disk: direct reads and writes of 4 KiB and 1 MiB.
//!
//! The start of a writable disk is overwritten. Command line: `mib=N` (default 8), how much each measurement moves. The
//! last line is `blkbench: PASS`; the lines above have `what=... requests=... us=... iops=... kib_s=...`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec;

use embassy_time::Instant;
use pv_guest_lib::blk::{BlkError, Disk, Runner, Storage};
use pv_guest_lib::{Guest, heap, pages, println, xenbus};

static DISK: Storage = Storage::new();

const SMALL: usize = 4 << 10;
const LARGE: usize = 1 << 20;

#[pv_guest_lib::main]
async fn main(guest: Guest) -> Result<(), BlkError> {
    // What does not become a heap is for the driver's pages.
    if heap::init(pages::free_pages() / 2).is_err() {
        println!("blkbench: FAIL, no memory for a heap");
        return Ok(());
    }
    let store = guest.store();
    let disks = xenbus::devices(&store, "vbd").await?;
    let (disk, runner) = Disk::connect(&store, disks.first().ok_or(BlkError::Closed)?, &DISK).await?;
    if let Ok(task) = serve(runner) {
        guest.spawner().spawn(task);
    }
    let bytes = guest.arguments().parsed::<u64>("mib", 8) << 20;
    let bytes = bytes.min(disk.info()?.sectors * 512);
    measure("read 4 KiB", bytes, SMALL, async |at, buffer: &mut [u8]| disk.read(at, buffer).await).await?;
    measure("read 1 MiB", bytes, LARGE, async |at, buffer: &mut [u8]| disk.read(at, buffer).await).await?;
    if !disk.info()?.read_only {
        measure("write 4 KiB", bytes, SMALL, async |at, buffer: &mut [u8]| disk.write(at, buffer).await).await?;
        measure("write 1 MiB", bytes, LARGE, async |at, buffer: &mut [u8]| disk.write(at, buffer).await).await?;
        disk.flush().await?;
    }
    println!("blkbench: PASS");
    Ok(())
}

#[embassy_executor::task]
async fn serve(runner: Runner) {
    if let Err(error) = runner.run().await {
        println!("blkbench: the disk is gone: {error}");
    }
}

/// Makes requests of `size` bytes one after the other until `bytes` were moved, and prints what that took.
async fn measure(
    what: &str,
    bytes: u64,
    size: usize,
    mut request: impl AsyncFnMut(u64, &mut [u8]) -> Result<(), BlkError>,
) -> Result<(), BlkError> {
    let mut buffer = vec![0x5A; size];
    let count = (bytes / size as u64).max(1);
    let start = Instant::now();
    for number in 0..count {
        request(number * size as u64 / 512, &mut buffer).await?;
    }
    let micros = start.elapsed().as_micros().max(1);
    let (iops, rate) = (count * 1_000_000 / micros, count * size as u64 * 1_000_000 / 1024 / micros);
    println!("blkbench: what={what} requests={count} us={micros} iops={iops} kib_s={rate}");
    Ok(())
}
