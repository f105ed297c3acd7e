//! How a disk is connected: the XenBus handshake and what the two sides tell each other.

use hypercall_abi::blkif::{VDISK_READONLY, keys};
use hypercall_abi::xenbus::XenbusState;

use super::ring::Ring;
use super::{BlkError, Connected, Disk, DiskInfo, MultiWakerRegistration, Runner, Storage};
use crate::xenbus::{Device, FrontEnd};
use crate::xenstore::XenStore;

impl Disk {
    /// Connects the disk in the directory `frontend` (see [`crate::xenbus::devices`]). The runner must be run for
    /// requests to be answered.
    ///
    /// # Errors
    /// See [`BlkError`]; [`BlkError::Closed`] when the back end closes instead of connecting.
    pub async fn connect(
        store: &XenStore,
        frontend: &str,
        storage: &'static Storage,
    ) -> Result<(Self, Runner), BlkError> {
        let mut front = FrontEnd::begin(store, frontend).await?;
        let device = front.device();
        let mut ring = Ring::new(device.backend_id(), handle(frontend)?)?;
        device.publish(keys::RING_REF, u64::from(ring.gref().0)).await?;
        device.publish(keys::EVENT_CHANNEL, u64::from(ring.port().0)).await?;
        device.publish_text(keys::PROTOCOL, keys::PROTOCOL_ARM).await?;
        device.publish(keys::FEATURE_PERSISTENT, 1).await?;
        front.connect(XenbusState::Initialised).await?;

        let device = front.device();
        let info = info(device).await?;
        match device.backend_number(keys::FEATURE_MAX_INDIRECT_SEGMENTS).await {
            Ok(segments) => ring.allow_indirect(segments),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error.into()),
        }
        let connected = Connected { ring, info, waiting: MultiWakerRegistration::new() };
        critical_section::with(|cs| {
            let mut place = storage.connected.borrow(cs).borrow_mut();
            if place.is_some() {
                return Err(BlkError::InUse);
            }
            *place = Some(connected);
            Ok(())
        })?;
        // A wish from before is not for this connection.
        storage.close.reset();
        front.device().set_state(XenbusState::Connected).await?;
        Ok((Self { storage }, Runner { storage, front }))
    }
}

/// The device's number, as requests carry it: the low half of the directory's name.
fn handle(frontend: &str) -> Result<u16, BlkError> {
    let name = frontend.rsplit('/').next().unwrap_or_default();
    let number = name.parse::<u32>().map_err(|_| BlkError::Incomplete)?;
    Ok(u16::try_from(number & 0xFFFF).unwrap_or_default())
}

/// What the back end's directory says of the disk.
pub(super) async fn info(device: &Device) -> Result<DiskInfo, BlkError> {
    let sectors = device.backend_number(keys::SECTORS).await.map_err(|_| BlkError::Incomplete)?;
    let sector_size = device.backend_number(keys::SECTOR_SIZE).await.unwrap_or(512);
    if !(512..=4096).contains(&sector_size) || !u32::is_power_of_two(sector_size) {
        return Err(BlkError::Incomplete);
    }
    let flags: u32 = device.backend_number(keys::INFO).await.unwrap_or(0);
    Ok(DiskInfo {
        sectors,
        sector_size,
        read_only: flags & VDISK_READONLY != 0,
        flush: device.backend_feature(keys::FEATURE_FLUSH_CACHE).await?,
        barrier: device.backend_feature(keys::FEATURE_BARRIER).await?,
        discard: device.backend_feature(keys::FEATURE_DISCARD).await?,
    })
}
