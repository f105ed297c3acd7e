//! The allocation table: chains of clusters, and which clusters are free.
//!
//! One sector of it is kept in memory and written, to every copy of the table, when another is needed or
//! [`Table::flush`] is called.

use alloc::vec::Vec;

use driver_api::{Extent, Sectors};

use crate::error::FatError;
use crate::geometry::{Cluster, Geometry, SECTOR};

/// An entry's significant bits; the others are kept as they are.
const MASK: u32 = 0x0fff_ffff;
/// The smallest value that ends a chain.
const END: u32 = 0x0fff_fff8;
/// Entries in a sector.
const PER_SECTOR: u32 = 128;
/// Offsets in the information sector (section 5).
const INFO_FREE: usize = 488;
const INFO_NEXT: usize = 492;
const INFO_LEAD: [u8; 4] = *b"RRaA";
const INFO_UNKNOWN: u32 = u32::MAX;

struct Cached {
    sector: u64,
    bytes: [u8; SECTOR],
    dirty: bool,
}

/// The table of one volume.
pub struct Table {
    geometry: Geometry,
    cached: Option<Cached>,
    /// Where the search for a free cluster begins.
    hint: Cluster,
    /// Free clusters, if the information sector knows.
    free: Option<u32>,
    free_changed: bool,
}

impl Table {
    /// Opens the table, reading the information sector if there is one.
    pub async fn open<S: Sectors>(disk: &S, geometry: Geometry) -> Result<Self, FatError> {
        let mut table = Self { geometry, cached: None, hint: Cluster::FIRST, free: None, free_changed: false };
        if let Some(sector) = geometry.info_sector {
            let mut bytes = [0; SECTOR];
            disk.read(sector, &mut bytes).await?;
            if bytes[..4] == INFO_LEAD {
                table.free = Some(word(&bytes, INFO_FREE)).filter(|&free| free <= geometry.clusters);
                let next = Cluster(word(&bytes, INFO_NEXT));
                if geometry.contains(next) {
                    table.hint = next;
                }
            }
        }
        Ok(table)
    }

    /// The clusters of the chain that begins at `first`, as runs of sectors, with the last cluster.
    ///
    /// # Errors
    /// The chain leaves the volume or does not end.
    pub async fn chain<S: Sectors>(&mut self, disk: &S, first: Cluster) -> Result<Chain, FatError> {
        let mut chain = Chain::default();
        let mut cluster = first;
        for _ in 0..self.geometry.clusters {
            if !self.geometry.contains(cluster) {
                return Err(FatError::Corrupt("a cluster chain leaves the volume"));
            }
            chain.push(cluster, &self.geometry);
            match self.get(disk, cluster).await? {
                END.. => return Ok(chain),
                next => cluster = Cluster(next),
            }
        }
        Err(FatError::Corrupt("a cluster chain does not end"))
    }

    /// Adds clusters to `chain` until it has `count` of them; an empty chain is begun.
    ///
    /// # Errors
    /// No space is left; what was added by then is freed again.
    pub async fn extend<S: Sectors>(&mut self, disk: &S, chain: &mut Chain, count: u32) -> Result<(), FatError> {
        let (old_last, old_count) = (chain.last, chain.clusters);
        let grown = self.grow(disk, chain, count).await;
        if grown.is_err() {
            self.cut(disk, chain, old_last, old_count).await?;
        }
        grown
    }

    async fn grow<S: Sectors>(&mut self, disk: &S, chain: &mut Chain, count: u32) -> Result<(), FatError> {
        while chain.clusters < count {
            let cluster = self.find_free(disk).await?;
            self.set(disk, cluster, MASK).await?;
            self.free = self.free.map(|free| free.saturating_sub(1));
            self.free_changed = true;
            if let Some(last) = chain.last {
                self.set(disk, last, cluster.0).await?;
            }
            chain.push(cluster, &self.geometry);
            self.hint = Cluster(cluster.0 + 1);
        }
        Ok(())
    }

    /// Ends `chain` after `keep` clusters, of which `last` is the last, and frees the rest.
    async fn cut<S: Sectors>(
        &mut self,
        disk: &S,
        chain: &mut Chain,
        last: Option<Cluster>,
        keep: u32,
    ) -> Result<(), FatError> {
        let rest = match last {
            Some(last) => {
                let next = self.get(disk, last).await?;
                self.set(disk, last, MASK).await?;
                (next < END).then_some(Cluster(next))
            }
            None => chain.first,
        };
        if let Some(rest) = rest {
            self.release(disk, rest).await?;
        }
        *chain = match chain.first {
            Some(first) if keep != 0 => self.chain(disk, first).await?,
            Some(_) | None => Chain::default(),
        };
        Ok(())
    }

    /// Shortens `chain` to `count` clusters.
    ///
    /// # Errors
    /// The chain is damaged.
    pub async fn shorten<S: Sectors>(&mut self, disk: &S, chain: &mut Chain, count: u32) -> Result<(), FatError> {
        if count >= chain.clusters {
            return Ok(());
        }
        let last = match count.checked_sub(1) {
            Some(index) => Some(chain.cluster(index, &self.geometry).ok_or(FatError::Corrupt("a cluster chain"))?),
            None => None,
        };
        self.cut(disk, chain, last, count).await
    }

    /// Frees the chain that begins at `first`.
    ///
    /// # Errors
    /// The chain is damaged; what could be followed of it is free then.
    pub async fn release<S: Sectors>(&mut self, disk: &S, first: Cluster) -> Result<(), FatError> {
        let mut cluster = first;
        // A freed cluster reads as 0, so that a loop ends by itself.
        while self.geometry.contains(cluster) {
            let next = self.get(disk, cluster).await?;
            if next == 0 {
                return Err(FatError::Corrupt("a cluster chain meets a free cluster"));
            }
            self.set(disk, cluster, 0).await?;
            self.free = self.free.map(|free| free + 1);
            self.free_changed = true;
            self.hint = self.hint.min(cluster);
            if next >= END {
                return Ok(());
            }
            cluster = Cluster(next);
        }
        Err(FatError::Corrupt("a cluster chain leaves the volume"))
    }

    /// Writes what is only in memory.
    pub async fn flush<S: Sectors>(&mut self, disk: &S) -> Result<(), FatError> {
        self.write_back(disk).await?;
        if !self.free_changed {
            return Ok(());
        }
        if let Some(sector) = self.geometry.info_sector {
            let mut bytes = [0; SECTOR];
            disk.read(sector, &mut bytes).await?;
            if bytes[..4] == INFO_LEAD {
                let free = self.free.unwrap_or(INFO_UNKNOWN);
                put_word(&mut bytes, INFO_FREE, free);
                put_word(&mut bytes, INFO_NEXT, self.hint.0);
                disk.write(sector, &bytes).await?;
            }
        }
        self.free_changed = false;
        Ok(())
    }

    /// A free cluster, searched for from the hint on, once around.
    async fn find_free<S: Sectors>(&mut self, disk: &S) -> Result<Cluster, FatError> {
        let mut cluster = self.hint;
        for _ in 0..self.geometry.clusters {
            if !self.geometry.contains(cluster) {
                cluster = Cluster::FIRST;
            }
            if self.get(disk, cluster).await? == 0 {
                return Ok(cluster);
            }
            cluster = Cluster(cluster.0 + 1);
        }
        Err(FatError::NoSpace)
    }

    async fn get<S: Sectors>(&mut self, disk: &S, cluster: Cluster) -> Result<u32, FatError> {
        let at = self.load(disk, cluster).await?;
        Ok(self.cached.as_ref().map_or(END, |cached| word(&cached.bytes, at) & MASK))
    }

    async fn set<S: Sectors>(&mut self, disk: &S, cluster: Cluster, value: u32) -> Result<(), FatError> {
        let at = self.load(disk, cluster).await?;
        if let Some(cached) = &mut self.cached {
            let kept = word(&cached.bytes, at) & !MASK;
            put_word(&mut cached.bytes, at, kept | (value & MASK));
            cached.dirty = true;
        }
        Ok(())
    }

    /// Brings the sector with `cluster`'s entry into memory, and says where in it the entry is.
    async fn load<S: Sectors>(&mut self, disk: &S, cluster: Cluster) -> Result<usize, FatError> {
        let sector = u64::from(cluster.0 / PER_SECTOR);
        if self.cached.as_ref().is_none_or(|cached| cached.sector != sector) {
            self.write_back(disk).await?;
            self.cached = None;
            let mut bytes = [0; SECTOR];
            disk.read(self.geometry.table_start + sector, &mut bytes).await?;
            self.cached = Some(Cached { sector, bytes, dirty: false });
        }
        Ok((cluster.0 % PER_SECTOR) as usize * 4)
    }

    async fn write_back<S: Sectors>(&mut self, disk: &S) -> Result<(), FatError> {
        if let Some(cached) = self.cached.as_mut().filter(|cached| cached.dirty) {
            for copy in 0..u64::from(self.geometry.tables) {
                let start = self.geometry.table_start + copy * self.geometry.table_sectors;
                disk.write(start + cached.sector, &cached.bytes).await?;
            }
            cached.dirty = false;
        }
        Ok(())
    }
}

/// The clusters of a file, as runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The first cluster; `None` if there are none.
    pub first: Option<Cluster>,
    last: Option<Cluster>,
    /// How many clusters.
    pub clusters: u32,
    /// Where they lie, neighbours joined.
    pub extents: Vec<Extent>,
    /// First cluster of each extent.
    starts: Vec<Cluster>,
}

impl Chain {
    fn push(&mut self, cluster: Cluster, geometry: &Geometry) {
        let extent = geometry.extent(cluster);
        match self.extents.last_mut() {
            Some(run) if run.start + run.sectors == extent.start => run.sectors += extent.sectors,
            Some(_) | None => {
                self.extents.push(extent);
                self.starts.push(cluster);
            }
        }
        self.first.get_or_insert(cluster);
        self.last = Some(cluster);
        self.clusters += 1;
    }

    /// The `index`th cluster.
    fn cluster(&self, index: u32, geometry: &Geometry) -> Option<Cluster> {
        let mut left = u64::from(index) * u64::from(geometry.cluster_sectors);
        for (extent, start) in self.extents.iter().zip(&self.starts) {
            if left < extent.sectors {
                let into = u32::try_from(left / u64::from(geometry.cluster_sectors)).ok()?;
                return Some(Cluster(start.0 + into));
            }
            left -= extent.sectors;
        }
        None
    }
}

/// A little-endian word; `at` is a multiple of four within the sector.
fn word(bytes: &[u8; SECTOR], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]),
        Some(_) | None => 0,
    }
}

fn put_word(bytes: &mut [u8; SECTOR], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}
