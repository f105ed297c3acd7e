//! The domain's disks by number, in the order of their directories in the store.

use embassy_executor::Spawner;
use pv_guest_lib::blk::{BlkError, Disk, Runner, Storage};
use pv_guest_lib::xenstore::XenStore;
use pv_guest_lib::{println, xenbus};

/// Disks that can be open at once.
const DISKS: usize = 4;

static STORAGE: [Storage; DISKS] = [const { Storage::new() }; DISKS];

/// A disk that was opened.
///
/// # Errors
/// [`BlkError::Closed`] without one of that number.
pub fn get(index: u32) -> Result<Disk, BlkError> {
    storage(index)?.disk()
}

/// Opens a disk.
///
/// # Errors
/// See [`BlkError`]; [`BlkError::Closed`] when the domain has no disk of that number.
pub async fn open(spawner: Spawner, store: XenStore, index: u32) -> Result<Disk, BlkError> {
    let storage = storage(index)?;
    let found = xenbus::devices(&store, "vbd").await?;
    let (disk, runner) = Disk::connect(&store, found.get(index as usize).ok_or(BlkError::Closed)?, storage).await?;
    if let Ok(task) = serve(runner) {
        spawner.spawn(task);
    }
    Ok(disk)
}

fn storage(index: u32) -> Result<&'static Storage, BlkError> {
    STORAGE.get(index as usize).ok_or(BlkError::Closed)
}

#[embassy_executor::task(pool_size = DISKS)]
async fn serve(runner: Runner) {
    if let Err(error) = runner.run().await {
        println!("a disk is gone: {error}");
    }
}
