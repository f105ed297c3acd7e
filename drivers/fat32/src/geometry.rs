//! The boot sector: where the parts of the volume lie (Microsoft FAT specification 1.03, section 3).

use driver_api::{Extent, SECTOR_SIZE};
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::error::FatError;

/// Bytes of a sector, as a length.
pub const SECTOR: usize = SECTOR_SIZE as usize;

/// The number of a cluster; data clusters begin at [`Cluster::FIRST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cluster(pub u32);

impl Cluster {
    /// The first data cluster.
    pub const FIRST: Self = Self(2);
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct BootSector {
    jump: [u8; 3],
    oem: [u8; 8],
    bytes_per_sector: U16,
    sectors_per_cluster: u8,
    reserved_sectors: U16,
    fats: u8,
    root_entries: U16,
    total_sectors_16: U16,
    media: u8,
    fat_sectors_16: U16,
    sectors_per_track: U16,
    heads: U16,
    hidden_sectors: U32,
    total_sectors_32: U32,
    fat_sectors_32: U32,
    ext_flags: U16,
    version: U16,
    root_cluster: U32,
    fs_info: U16,
}

const _: () = assert!(size_of::<BootSector>() == 50);

/// A volume's layout, checked: every sector that it can name lies on the disk. All in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// First sector of the first table.
    pub table_start: u64,
    /// Sectors of one table.
    pub table_sectors: u64,
    /// How many tables there are; all are kept alike.
    pub tables: u8,
    /// Sectors of a cluster.
    pub cluster_sectors: u32,
    /// First sector of the first cluster.
    data_start: u64,
    /// Number of clusters.
    pub clusters: u32,
    /// Where the root directory begins.
    pub root: Cluster,
    /// The sector with the count of free clusters, if there is one.
    pub info_sector: Option<u64>,
}

impl Geometry {
    /// Reads a boot sector. `sectors` is the size of the disk.
    ///
    /// # Errors
    /// [`FatError::NotFat32`] names the field that is wrong.
    pub fn parse(sector: &[u8; SECTOR], sectors: u64) -> Result<Self, FatError> {
        let bad = FatError::NotFat32;
        let Ok((boot, _)) = BootSector::ref_from_prefix(&sector[..]) else {
            return Err(bad("boot sector"));
        };
        if sector[510..] != [0x55, 0xaa] {
            return Err(bad("signature"));
        }
        let ratio = match boot.bytes_per_sector.get() {
            size @ (512 | 1024 | 2048 | 4096) => u64::from(size) / u64::from(SECTOR_SIZE),
            _ => return Err(bad("bytes per sector")),
        };
        let per_cluster = boot.sectors_per_cluster;
        if !per_cluster.is_power_of_two() {
            return Err(bad("sectors per cluster"));
        }
        // This, and not the number of clusters, is how Linux and mkfs.fat tell FAT32 from its elders.
        if boot.root_entries.get() != 0 || boot.fat_sectors_16.get() != 0 || boot.fat_sectors_32.get() == 0 {
            return Err(bad("table size (FAT12 or FAT16?)"));
        }
        if boot.version.get() != 0 {
            return Err(bad("version"));
        }
        if boot.fats == 0 || boot.reserved_sectors.get() == 0 {
            return Err(bad("number of tables or reserved sectors"));
        }
        let reserved = u64::from(boot.reserved_sectors.get());
        let table = u64::from(boot.fat_sectors_32.get());
        let total = match boot.total_sectors_16.get() {
            0 => u64::from(boot.total_sectors_32.get()),
            small => u64::from(small),
        };
        let data = reserved + u64::from(boot.fats) * table;
        if total * ratio > sectors {
            return Err(bad("total sectors (the disk is smaller)"));
        }
        let data_sectors = total.checked_sub(data).ok_or(bad("total sectors"))?;
        let in_table = (table * ratio * u64::from(SECTOR_SIZE) / 4).saturating_sub(2);
        let clusters = (data_sectors / u64::from(per_cluster)).min(in_table).min(0x0fff_fff5);
        let geometry = Self {
            table_start: reserved * ratio,
            table_sectors: table * ratio,
            tables: boot.fats,
            // At most 128 * 8.
            cluster_sectors: u32::from(per_cluster) * u32::try_from(ratio).map_err(|_| bad("bytes per sector"))?,
            data_start: data * ratio,
            clusters: u32::try_from(clusters).map_err(|_| bad("total sectors"))?,
            root: Cluster(boot.root_cluster.get()),
            info_sector: match u64::from(boot.fs_info.get()) {
                0 | 0xffff => None,
                at => Some(at * ratio).filter(|_| at < reserved),
            },
        };
        if !geometry.contains(geometry.root) {
            return Err(bad("root cluster"));
        }
        Ok(geometry)
    }

    /// Whether there is such a data cluster.
    pub fn contains(&self, cluster: Cluster) -> bool {
        cluster >= Cluster::FIRST && cluster.0 - Cluster::FIRST.0 < self.clusters
    }

    /// Bytes of a cluster.
    pub fn cluster_bytes(&self) -> usize {
        self.cluster_sectors as usize * SECTOR
    }

    /// Where a data cluster lies.
    pub fn extent(&self, cluster: Cluster) -> Extent {
        let index = u64::from(cluster.0.saturating_sub(Cluster::FIRST.0));
        Extent {
            start: self.data_start + index * u64::from(self.cluster_sectors),
            sectors: self.cluster_sectors.into(),
        }
    }
}
