//! The operations on a mounted volume, one at a time.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use driver_api::Sectors;

use crate::content::{self, bytes_of, sector_at};
use crate::dir::{Directory, Entry, MAX_BYTES};
use crate::error::FatError;
use crate::geometry::{Cluster, Geometry, SECTOR};
use crate::name;
use crate::table::{Chain, Table};

/// A mounted volume.
pub struct Volume<S> {
    pub disk: S,
    geometry: Geometry,
    table: Table,
    /// Files that are open, by their first cluster, and how often.
    open: BTreeMap<u32, u32>,
}

/// What a path names.
pub enum Target {
    /// The root, which has no entry.
    Root,
    /// Something with an entry in `parent`.
    Entry { parent: Directory, entry: Entry },
    /// Nothing, though `parent` is there.
    Missing { parent: Directory },
}

impl<S: Sectors> Volume<S> {
    /// Reads the boot sector and checks it.
    pub async fn mount(disk: S) -> Result<Self, FatError> {
        let mut sector = [0; SECTOR];
        disk.read(0, &mut sector).await?;
        let geometry = Geometry::parse(&sector, disk.info().sectors)?;
        let table = Table::open(&disk, geometry).await?;
        Ok(Self { disk, geometry, table, open: BTreeMap::new() })
    }

    /// Follows a path. An empty last component is the root itself.
    pub async fn walk(&mut self, path: &str) -> Result<(Target, Option<Cluster>), FatError> {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        let Some((last, parents)) = parts.split_last() else {
            return Ok((Target::Root, None));
        };
        let mut at = self.geometry.root;
        let mut at_root = true;
        for part in parents {
            let entry = self.directory(at).await?.find(part).ok_or(FatError::NotFound)?;
            at = directory_cluster(&entry)?;
            at_root = false;
        }
        let parent = self.directory(at).await?;
        let own = (!at_root).then_some(at);
        Ok(match parent.find(last) {
            Some(entry) => (Target::Entry { parent, entry }, own),
            None => (Target::Missing { parent }, own),
        })
    }

    /// What a path names, which must exist; `None` is the root.
    pub async fn lookup(&mut self, path: &str) -> Result<Option<Entry>, FatError> {
        match self.walk(path).await?.0 {
            Target::Root => Ok(None),
            Target::Entry { entry, .. } => Ok(Some(entry)),
            Target::Missing { .. } => Err(FatError::NotFound),
        }
    }

    /// The entries of a directory.
    pub async fn list(&mut self, path: &str) -> Result<Vec<Entry>, FatError> {
        let at = match self.lookup(path).await? {
            None => self.geometry.root,
            Some(entry) => directory_cluster(&entry)?,
        };
        Ok(self.directory(at).await?.entries())
    }

    /// Where a file's clusters lie.
    pub async fn chain_of(&mut self, entry: &Entry) -> Result<Chain, FatError> {
        if entry.is_dir {
            return Err(FatError::IsADirectory);
        }
        let chain = match entry.first {
            Some(first) => self.table.chain(&self.disk, first).await?,
            None => Chain::default(),
        };
        if u64::from(entry.size) > bytes_of(&chain.extents) {
            return Err(FatError::Corrupt("a file is larger than its clusters"));
        }
        Ok(chain)
    }

    /// Opens a file for [`crate::File`]: nothing may free its clusters until as many calls of [`Self::close`].
    pub async fn open(&mut self, path: &str) -> Result<(Entry, Chain), FatError> {
        let entry = self.lookup(path).await?.ok_or(FatError::IsADirectory)?;
        let chain = self.chain_of(&entry).await?;
        if let Some(first) = chain.first {
            *self.open.entry(first.0).or_insert(0) += 1;
        }
        Ok((entry, chain))
    }

    /// Undoes an [`Self::open`].
    pub fn close(&mut self, first: Cluster) {
        if let Some(count) = self.open.get_mut(&first.0) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&first.0);
            }
        }
    }

    fn check_idle(&self, first: Option<Cluster>) -> Result<(), FatError> {
        match first {
            Some(first) if self.open.contains_key(&first.0) => Err(FatError::Busy),
            Some(_) | None => Ok(()),
        }
    }

    /// Writes `data` at `offset`, growing the file (with zeros before `offset`) and creating it if need be.
    pub async fn write(&mut self, path: &str, offset: u32, data: &[u8]) -> Result<(), FatError> {
        let end = u32::try_from(data.len()).ok().and_then(|len| offset.checked_add(len)).ok_or(FatError::TooLarge)?;
        let (mut parent, entry, chain) = self.file(path).await?;
        let size = entry.size.max(end);
        let chain = self.resize(&entry, chain, size).await?;
        if offset > entry.size {
            content::zero(&self.disk, &chain.extents, entry.size, offset).await?;
        }
        content::put_bytes(&self.disk, &chain.extents, offset.into(), data).await?;
        self.finish(&mut parent, &entry, &chain, size).await
    }

    /// Sets a file's length, creating it if need be; what is new reads as zeros.
    pub async fn truncate(&mut self, path: &str, size: u32) -> Result<(), FatError> {
        let (mut parent, entry, chain) = self.file(path).await?;
        if size < entry.size {
            self.check_idle(chain.first)?;
            // The entry first: after a power cut there may be lost clusters, but never two owners of one.
            let first = chain.first.filter(|_| size != 0);
            parent.update(entry.index, first, size);
            self.write_directory(&mut parent).await?;
        }
        let chain = self.resize(&entry, chain, size).await?;
        if size > entry.size {
            content::zero(&self.disk, &chain.extents, entry.size, size).await?;
        }
        self.finish(&mut parent, &entry, &chain, size).await
    }

    /// The file at `path`, made empty if there is none.
    async fn file(&mut self, path: &str) -> Result<(Directory, Entry, Chain), FatError> {
        match self.walk(path).await?.0 {
            Target::Root => Err(FatError::IsADirectory),
            Target::Entry { parent, entry } => {
                let chain = self.chain_of(&entry).await?;
                Ok((parent, entry, chain))
            }
            Target::Missing { mut parent } => {
                let name = last_part(path);
                name::check(name)?;
                self.insert(&mut parent, name, false, None, 0).await?;
                let entry = parent.find(name).ok_or(FatError::Corrupt("a new entry"))?;
                Ok((parent, entry, Chain::default()))
            }
        }
    }

    /// Gives a file as many clusters as `size` bytes need.
    async fn resize(&mut self, entry: &Entry, mut chain: Chain, size: u32) -> Result<Chain, FatError> {
        // A cluster has at least 512 bytes, so that the count fits.
        let clusters = (size as usize).div_ceil(self.geometry.cluster_bytes());
        let clusters = u32::try_from(clusters).map_err(|_| FatError::TooLarge)?;
        if clusters > chain.clusters {
            self.table.extend(&self.disk, &mut chain, clusters).await?;
        } else if size < entry.size {
            self.table.shorten(&self.disk, &mut chain, clusters).await?;
        }
        Ok(chain)
    }

    /// Makes a change of a file visible: the table first, then the entry that relies on it.
    async fn finish(
        &mut self,
        parent: &mut Directory,
        entry: &Entry,
        chain: &Chain,
        size: u32,
    ) -> Result<(), FatError> {
        self.table.flush(&self.disk).await?;
        if entry.size != size || entry.first != chain.first {
            parent.update(entry.index, chain.first, size);
        }
        self.write_directory(parent).await
    }

    /// Makes a directory.
    pub async fn make_directory(&mut self, path: &str) -> Result<(), FatError> {
        let (target, parent_cluster) = self.walk(path).await?;
        let Target::Missing { mut parent } = target else {
            return Err(FatError::Exists);
        };
        let name = last_part(path);
        name::check(name)?;
        let mut chain = Chain::default();
        self.table.extend(&self.disk, &mut chain, 1).await?;
        let own = chain.first.ok_or(FatError::NoSpace)?;
        let content = Directory::dots(own, parent_cluster, self.geometry.cluster_bytes());
        content::put_bytes(&self.disk, &chain.extents, 0, &content).await?;
        self.table.flush(&self.disk).await?;
        self.insert(&mut parent, name, true, Some(own), 0).await
    }

    /// Removes a file or an empty directory.
    pub async fn remove(&mut self, path: &str) -> Result<(), FatError> {
        let (Target::Entry { mut parent, entry }, _) = self.walk(path).await? else {
            return Err(FatError::NotFound);
        };
        if entry.is_dir {
            let inside = self.directory(directory_cluster(&entry)?).await?;
            if !inside.entries().is_empty() {
                return Err(FatError::NotEmpty);
            }
        }
        self.check_idle(entry.first)?;
        parent.remove(&entry);
        self.write_directory(&mut parent).await?;
        if let Some(first) = entry.first {
            self.table.release(&self.disk, first).await?;
        }
        self.table.flush(&self.disk).await
    }

    /// Moves a file or a directory; what has the new name already, if it is a file, is replaced.
    pub async fn rename(&mut self, from: &str, to: &str) -> Result<(), FatError> {
        let (Target::Entry { entry, .. }, _) = self.walk(from).await? else {
            return Err(FatError::NotFound);
        };
        name::check(last_part(to))?;
        let (target, parent_cluster) = self.walk(to).await?;
        let mut replaced = None;
        let mut parent = match target {
            Target::Root => return Err(FatError::Exists),
            Target::Missing { parent } => parent,
            Target::Entry { parent, entry: old } if old.first == entry.first && old.short == entry.short => parent,
            Target::Entry { .. } if entry.is_dir => return Err(FatError::Exists),
            Target::Entry { entry: old, .. } if old.is_dir => return Err(FatError::Exists),
            Target::Entry { mut parent, entry: old } => {
                self.check_idle(old.first)?;
                parent.remove(&old);
                replaced = old.first;
                parent
            }
        };
        if entry.is_dir && self.is_inside(to, entry.first).await? {
            return Err(FatError::Exists);
        }
        let (Target::Entry { parent: mut old_parent, .. }, old_cluster) = self.walk(from).await? else {
            return Err(FatError::NotFound);
        };
        if old_cluster == parent_cluster {
            // One directory, so one copy of it in memory.
            parent.remove(&entry);
            self.insert(&mut parent, last_part(to), entry.is_dir, entry.first, entry.size).await?;
        } else {
            self.insert(&mut parent, last_part(to), entry.is_dir, entry.first, entry.size).await?;
            old_parent.remove(&entry);
            self.write_directory(&mut old_parent).await?;
            if let (true, Some(first)) = (entry.is_dir, entry.first) {
                self.set_parent(first, parent_cluster).await?;
            }
        }
        if let Some(first) = replaced {
            self.table.release(&self.disk, first).await?;
        }
        self.table.flush(&self.disk).await
    }

    /// Whether the path leads through the directory that begins at `cluster`.
    async fn is_inside(&mut self, path: &str, cluster: Option<Cluster>) -> Result<bool, FatError> {
        let mut end = 0;
        for part in path.split('/') {
            end += part.len() + 1;
            let Some(prefix) = path.get(..end - 1) else { break };
            if let (Target::Entry { entry, .. }, _) = self.walk(prefix).await?
                && entry.first == cluster
                && entry.is_dir
                && end <= path.len()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rewrites a directory's `..`.
    async fn set_parent(&mut self, own: Cluster, parent: Option<Cluster>) -> Result<(), FatError> {
        let extent = self.geometry.extent(own);
        let mut sector = [0; SECTOR];
        self.disk.read(extent.start, &mut sector).await?;
        let fresh = Directory::dots(own, parent, SECTOR);
        let dots = 2 * crate::dir::ENTRY;
        if let (Some(place), Some(dots)) = (sector.get_mut(..dots), fresh.get(..dots)) {
            place.copy_from_slice(dots);
        }
        Ok(self.disk.write(extent.start, &sector).await?)
    }

    /// Makes everything durable.
    pub async fn sync(&mut self) -> Result<(), FatError> {
        self.table.flush(&self.disk).await?;
        Ok(self.disk.flush().await?)
    }

    async fn directory(&mut self, first: Cluster) -> Result<Directory, FatError> {
        let chain = self.table.chain(&self.disk, first).await?;
        let len = bytes_of(&chain.extents);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > MAX_BYTES.next_multiple_of(self.geometry.cluster_bytes()) {
            return Err(FatError::Corrupt("a directory is too large"));
        }
        let mut bytes = alloc::vec![0; len];
        let mut rest = bytes.as_mut_slice();
        for extent in &chain.extents {
            let run = usize::try_from(extent.sectors).unwrap_or(usize::MAX).saturating_mul(SECTOR);
            let (now, later) = rest.split_at_mut(run.min(rest.len()));
            self.disk.read(extent.start, now).await?;
            rest = later;
        }
        Ok(Directory::new(chain, bytes))
    }

    /// Adds an entry, making the directory larger if it is full, and writes it.
    async fn insert(
        &mut self,
        parent: &mut Directory,
        name: &str,
        is_dir: bool,
        first: Option<Cluster>,
        size: u32,
    ) -> Result<(), FatError> {
        while !parent.insert(name, is_dir, first, size)? {
            let mut chain = parent.chain.clone();
            let bytes = self.geometry.cluster_bytes();
            if bytes_of(&chain.extents) + bytes as u64 > MAX_BYTES as u64 {
                return Err(FatError::NoSpace);
            }
            let clusters = chain.clusters + 1;
            self.table.extend(&self.disk, &mut chain, clusters).await?;
            parent.grow(chain, bytes);
        }
        self.write_directory(parent).await?;
        self.table.flush(&self.disk).await
    }

    async fn write_directory(&mut self, directory: &mut Directory) -> Result<(), FatError> {
        let extents = directory.chain.extents.clone();
        for (index, bytes) in directory.take_dirty() {
            let sector = sector_at(&extents, index as u64).ok_or(FatError::Corrupt("a directory"))?;
            self.disk.write(sector.start, bytes).await?;
        }
        Ok(())
    }
}

/// The first cluster of a directory.
fn directory_cluster(entry: &Entry) -> Result<Cluster, FatError> {
    if !entry.is_dir {
        return Err(FatError::NotADirectory);
    }
    entry.first.ok_or(FatError::Corrupt("a directory has no cluster"))
}

/// The last component of a path that does not end in `.` or `..`.
fn last_part(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}
