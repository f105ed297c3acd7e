//! What the device says of itself: feature bits and the configuration space (VIRTIO 1.2, 5.2.3 and 5.2.4).

use driver_api::{DiskInfo, SECTOR_SIZE};

use crate::regs::{Registers, Transport, TransportError};

/// Feature bits of a block device, and the two of the queue that are used here.
pub mod features {
    /// `seg_max` is valid.
    pub const SEG_MAX: u64 = 1 << 2;
    /// Writes are refused.
    pub const RO: u64 = 1 << 5;
    /// `blk_size` is valid.
    pub const BLK_SIZE: u64 = 1 << 6;
    /// There is a write cache, and a command to flush it.
    pub const FLUSH: u64 = 1 << 9;
    /// The topology fields are valid.
    pub const TOPOLOGY: u64 = 1 << 10;
    /// There is a discard command.
    pub const DISCARD: u64 = 1 << 13;
    /// A descriptor may name a table of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// The ring says from which index on a notification is wanted.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Everything that this driver knows how to use.
    pub const WANTED: u64 = SEG_MAX | RO | BLK_SIZE | FLUSH | TOPOLOGY | DISCARD | INDIRECT_DESC | EVENT_IDX;
}

const CAPACITY: usize = 0;
const SEG_MAX: usize = 12;
const BLK_SIZE: usize = 20;
const PHYSICAL_BLOCK_EXP: usize = 24;
const MAX_DISCARD_SECTORS: usize = 36;
const DISCARD_SECTOR_ALIGNMENT: usize = 44;

/// What was agreed on at start-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// What other code sees.
    pub info: DiskInfo,
    /// Data segments that the device takes in one request.
    pub seg_max: u32,
    /// Sectors that one discard may cover.
    pub max_discard: u32,
    /// Requests take one descriptor of the ring each.
    pub indirect: bool,
    /// Notifications are suppressed by index.
    pub event_idx: bool,
}

/// How many sectors of 512 bytes the device has now.
pub fn sectors<R: Registers>(transport: &Transport<R>) -> u64 {
    transport.config(|config| config.config64(CAPACITY))
}

impl Config {
    /// Negotiates features and reads the configuration.
    pub fn read<R: Registers>(transport: &Transport<R>) -> Result<Self, TransportError> {
        let taken = transport.negotiate(features::WANTED)?;
        let has = |feature: u64| taken & feature != 0;
        Ok(transport.config(|config| {
            let logical_block = match config.config32(BLK_SIZE) {
                size if has(features::BLK_SIZE) && size >= SECTOR_SIZE && size.is_power_of_two() => size,
                _ => SECTOR_SIZE,
            };
            let exponent = match config.config8(PHYSICAL_BLOCK_EXP) {
                exponent if has(features::TOPOLOGY) => u32::from(exponent),
                _ => 0,
            };
            let (max_discard, alignment) = if has(features::DISCARD) {
                let alignment = config.config32(DISCARD_SECTOR_ALIGNMENT).max(1);
                (config.config32(MAX_DISCARD_SECTORS), alignment)
            } else {
                (0, 1)
            };
            let seg_max = if has(features::SEG_MAX) { config.config32(SEG_MAX) } else { 1 };
            Self {
                info: DiskInfo {
                    sectors: config.config64(CAPACITY),
                    logical_block,
                    physical_block: logical_block.checked_shl(exponent).unwrap_or(logical_block),
                    read_only: has(features::RO),
                    flush: has(features::FLUSH),
                    discard: max_discard != 0,
                    discard_granularity: alignment.saturating_mul(SECTOR_SIZE).max(logical_block),
                },
                seg_max: seg_max.max(1),
                max_discard,
                indirect: has(features::INDIRECT_DESC),
                event_idx: has(features::EVENT_IDX),
            }
        }))
    }
}
