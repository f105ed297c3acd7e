//! Opens every disk it was given, writes and verifies patterns, and says whether all was as it should be.
//!
//! The last line is `blkcheck: PASS` or `blkcheck: FAIL` with the numbers; then the guest powers itself off. A
//! writable disk is overwritten. `mib=N` on the command line sets how much of each disk is used (default 8); with
//! `resize` it waits until the first disk has got another size before it goes. Its memory follows `xl mem-set`.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

mod pattern;

use alloc::vec;

use pv_guest_lib::blk::{BlkError, Disk, DiskInfo, Runner, Storage};
use pv_guest_lib::executor::Spawner;
use pv_guest_lib::xenstore::XenStore;
use pv_guest_lib::{Guest, balloon, heap, pages, println, time, xenbus};

/// Disks that are looked at.
const MAX_DISKS: usize = 4;
/// Request sizes in sectors, from the smallest, over those around the most that the ring itself holds, to one that needs
/// several indirect requests.
const SIZES: [u64; 9] = [1, 3, 8, 9, 64, 88, 96, 1000, 2504];

static DISKS: [Storage; MAX_DISKS] = [const { Storage::new() }; MAX_DISKS];

/// What was done to the disks.
#[derive(Default)]
struct Tally {
    disks: u64,
    written: u64,
    verified: u64,
    failures: u64,
}

#[pv_guest_lib::main]
async fn main(guest: Guest) {
    let mut tally = Tally::default();
    let memory = guest.boot().memory().iter().map(|bank| bank.size()).sum();
    if let Ok(task) = follow_target(memory, guest.store()) {
        guest.spawner().spawn(task);
    }
    match heap::init(pages::free_pages() / 2) {
        Ok(_) => {
            check_all(guest.spawner(), &guest.store(), guest.arguments().parsed("mib", 8), &mut tally).await;
            if guest.arguments().has("resize")
                && let Err(error) = resize().await
            {
                println!("blkcheck: resize: {error}");
                tally.failures += 1;
            }
        }
        Err(_) => println!("blkcheck: no memory for a heap"),
    }
    let verdict = if tally.failures == 0 && tally.disks > 0 { "PASS" } else { "FAIL" };
    println!(
        "blkcheck: {verdict} disks={} written={} verified={} failures={}",
        tally.disks, tally.written, tally.verified, tally.failures
    );
}

async fn check_all(spawner: Spawner, store: &XenStore, mib: u64, tally: &mut Tally) {
    let devices = match xenbus::devices(store, "vbd").await {
        Ok(devices) => devices,
        Err(error) => {
            println!("blkcheck: no list of disks: {error}");
            return;
        }
    };
    for (path, storage) in devices.iter().zip(&DISKS) {
        tally.disks += 1;
        let checked = async {
            let (disk, runner) = Disk::connect(store, path, storage).await?;
            if let Ok(task) = serve(runner) {
                spawner.spawn(task);
            }
            check(path, disk, mib, tally).await
        };
        if let Err(error) = checked.await {
            println!("blkcheck: {path}: {error}");
            tally.failures += 1;
        }
    }
}

#[embassy_executor::task(pool_size = MAX_DISKS)]
async fn serve(runner: Runner) {
    if let Err(error) = runner.run().await {
        println!("blkcheck: a disk is gone: {error}");
    }
}

#[embassy_executor::task]
async fn follow_target(memory: u64, store: XenStore) {
    let Err(error) = balloon::follow(memory, &store).await;
    println!("blkcheck: no balloon: {error}");
}

async fn check(path: &str, disk: Disk, mib: u64, tally: &mut Tally) -> Result<(), BlkError> {
    let info = disk.info()?;
    println!("blkcheck: {path}: {info:?}");
    let start = time::now_us();
    let before = (tally.written, tally.verified);
    let end = info.sectors.min(mib * 2048);
    if info.read_only {
        if disk.write(0, &vec![0; info.sector_size as usize]).await != Err(BlkError::ReadOnly) {
            println!("blkcheck: {path}: a read-only disk was written");
            tally.failures += 1;
        }
        read_all(disk, end, tally).await?;
    } else {
        for (round, &size) in SIZES.iter().enumerate() {
            round_trip(path, disk, info, end, size, round as u64, tally).await?;
        }
        disk.flush().await?;
        if info.barrier {
            disk.barrier().await?;
        }
    }
    edges(path, disk, info, tally).await;
    let micros = (time::now_us() - start).max(1);
    let bytes = (tally.written - before.0) + (tally.verified - before.1);
    println!("blkcheck: {path}: {} KiB in {micros} us, {} KiB/s", bytes / 1024, bytes * 1_000_000 / 1024 / micros);
    Ok(())
}

/// Writes a pattern in pieces of `size` sectors over the start of the disk, flushes, and reads it back.
async fn round_trip(
    path: &str,
    disk: Disk,
    info: DiskInfo,
    end: u64,
    size: u64,
    round: u64,
    tally: &mut Tally,
) -> Result<(), BlkError> {
    let unit = u64::from(info.sector_size / 512);
    let size = size.next_multiple_of(unit);
    // Small pieces would take long over the whole range; a share of it shows the same.
    let end = end.min(size * 256);
    let mut buffer = vec![0; usize::try_from(size * 512).unwrap_or(0)];
    let mut sector = 0;
    while sector + size <= end {
        pattern::fill(&mut buffer, sector, round);
        disk.write(sector, &buffer).await?;
        tally.written += buffer.len() as u64;
        sector += size;
    }
    disk.flush().await?;
    sector = 0;
    while sector + size <= end {
        buffer.fill(0);
        disk.read(sector, &mut buffer).await?;
        if let Some(at) = pattern::first_difference(&buffer, sector, round) {
            println!("blkcheck: {path}: sector {} is not what was written, size {size}", sector + at / 512);
            tally.failures += 1;
        }
        tally.verified += buffer.len() as u64;
        sector += size;
    }
    Ok(())
}

/// Waits for another size of the first disk, and reads its new last sector.
async fn resize() -> Result<(), BlkError> {
    let [first, ..] = &DISKS;
    let disk = first.disk()?;
    println!("blkcheck: waiting for another size");
    let info = disk.resized(disk.info()?).await?;
    println!("blkcheck: {} sectors now", info.sectors);
    let unit = u64::from(info.sector_size / 512);
    disk.read(info.sectors - unit, &mut vec![0; info.sector_size as usize]).await
}

async fn read_all(disk: Disk, end: u64, tally: &mut Tally) -> Result<(), BlkError> {
    let mut buffer = vec![0; 128 * 512];
    let mut sector = 0;
    while sector + 128 <= end {
        disk.read(sector, &mut buffer).await?;
        tally.verified += buffer.len() as u64;
        sector += 128;
    }
    Ok(())
}

/// The end of the disk: its last sector can be read, the one behind it not.
async fn edges(path: &str, disk: Disk, info: DiskInfo, tally: &mut Tally) {
    let mut buffer = vec![0; info.sector_size as usize];
    let last = info.sectors - u64::from(info.sector_size / 512);
    if let Err(error) = disk.read(last, &mut buffer).await {
        println!("blkcheck: {path}: the last sector: {error}");
        tally.failures += 1;
    }
    if disk.read(info.sectors, &mut buffer).await != Err(BlkError::OutOfRange) {
        println!("blkcheck: {path}: a sector behind the end was read");
        tally.failures += 1;
    }
}
