//! GUID partition tables: finds a disk's partitions (UEFI specification 2.10, chapter 5.3).
//!
//! [`read`] tries the primary table and then the backup at the end of the disk, each with both of its checksums. Every
//! number in a table is checked against the disk, so a partition that comes out lies on it; and as a table may be
//! forged by whoever wrote the disk, the work is bounded whatever it claims.
//!
//! Reading is all that Dom0 needs, asynchronously; `gpt_disk_io` is synchronous, so only some eighty lines of parsing
//! could have been shared.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use driver_api::{DiskError, Extent, SECTOR_SIZE, Sectors};
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

#[cfg(test)]
mod tests;

/// Entries looked at; the specification's minimum is 128 and nobody uses more.
const MAX_ENTRIES: u32 = 1024;
/// Largest entry size accepted; the usual one is 128.
const MAX_ENTRY_SIZE: u32 = 4096;
const SIGNATURE: [u8; 8] = *b"EFI PART";
/// Bytes of the header that its checksum covers, when it says no more (table 5.5).
const HEADER_SIZE: usize = 92;

/// A GUID in the byte order of the disk (the first three fields little-endian).
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(transparent)]
pub struct Guid([u8; 16]);

impl Guid {
    /// The bytes as they stand on the disk.
    pub const fn bytes(&self) -> [u8; 16] {
        self.0
    }

    fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, e @ ..] = self.0;
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        let (b, c) = (u16::from_le_bytes([b0, b1]), u16::from_le_bytes([c0, c1]));
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d0:02x}{d1:02x}-")?;
        e.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    signature: [u8; 8],
    revision: U32,
    header_size: U32,
    header_crc: U32,
    reserved: U32,
    my_lba: U64,
    alternate_lba: U64,
    first_usable: U64,
    last_usable: U64,
    disk_guid: Guid,
    entries_lba: U64,
    entry_count: U32,
    entry_size: U32,
    entries_crc: U32,
}

const _: () = assert!(size_of::<Header>() == HEADER_SIZE);

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    kind: Guid,
    id: Guid,
    first: U64,
    /// Inclusive.
    last: U64,
    attributes: U64,
    name: [U16; 36],
}

const _: () = assert!(size_of::<Entry>() == 128);

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1, as Linux counts (`vda1`).
    pub number: u32,
    /// What it is for.
    pub kind: Guid,
    /// Its own identity (`PARTUUID`).
    pub id: Guid,
    /// Its label (`PARTLABEL`).
    pub name: String,
    /// Where it lies, in sectors of 512 bytes; on the disk for certain.
    pub extent: Extent,
}

/// Why there are no partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GptError {
    /// The disk could not be read.
    Disk(DiskError),
    /// Neither place holds a table.
    NoTable,
    /// There is a table, and this field of it is wrong.
    Bad(&'static str),
}

impl fmt::Display for GptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => write!(f, "partition table: {error}"),
            Self::NoTable => f.write_str("the disk has no GUID partition table"),
            Self::Bad(field) => write!(f, "the partition table's {field} is wrong"),
        }
    }
}

impl core::error::Error for GptError {}

impl From<DiskError> for GptError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// Reads the partitions of `disk`, from the primary table or, if that is damaged, from the backup.
///
/// # Errors
/// Neither can be used; what is wrong with the primary is told, unless only the backup is a table at all.
pub async fn read<S: Sectors>(disk: &S) -> Result<Vec<Partition>, GptError> {
    let info = disk.info();
    let ratio = u64::from((info.logical_block / SECTOR_SIZE).max(1));
    let last = (info.sectors / ratio).checked_sub(1).ok_or(GptError::NoTable)?;
    let primary = match table(disk, 1, ratio).await {
        Ok(partitions) => return Ok(partitions),
        Err(error) => error,
    };
    match (table(disk, last, ratio).await, primary) {
        (Ok(partitions), _) => Ok(partitions),
        (Err(error), GptError::NoTable) => Err(error),
        (Err(_), error) => Err(error),
    }
}

/// Reads the table whose header stands in block `block`; a block has `ratio` sectors.
async fn table<S: Sectors>(disk: &S, block: u64, ratio: u64) -> Result<Vec<Partition>, GptError> {
    let info = disk.info();
    let mut sector = [0u8; SECTOR_SIZE as usize];
    let at = block.checked_mul(ratio).ok_or(GptError::NoTable)?;
    disk.read(at, &mut sector).await?;
    let header = check_header(&mut sector, block)?;

    let (count, size) = (header.entry_count.get(), header.entry_size.get());
    if !(128..=MAX_ENTRY_SIZE).contains(&size) || !size.is_power_of_two() {
        return Err(GptError::Bad("entry size"));
    }
    if count > MAX_ENTRIES {
        return Err(GptError::Bad("number of entries"));
    }
    // At most 4 MiB, by the two bounds.
    let bytes = count as usize * size as usize;
    let start = header
        .entries_lba
        .get()
        .checked_mul(ratio)
        .filter(|&start| start < info.sectors)
        .ok_or(GptError::Bad("array position"))?;
    let mut entries = alloc::vec![0u8; bytes.next_multiple_of(SECTOR_SIZE as usize)];
    disk.read(start, &mut entries).await?;
    entries.truncate(bytes);
    if crc32fast::hash(&entries) != header.entries_crc.get() {
        return Err(GptError::Bad("array checksum"));
    }
    let mut partitions = Vec::new();
    for (number, raw) in (1u32..).zip(entries.chunks_exact(size as usize)) {
        let Ok((entry, _)) = Entry::read_from_prefix(raw) else {
            return Err(GptError::Bad("entry size"));
        };
        if !entry.kind.is_zero() {
            partitions.push(partition(number, &entry, ratio, info.sectors)?);
        }
    }
    Ok(partitions)
}

fn check_header(sector: &mut [u8; SECTOR_SIZE as usize], block: u64) -> Result<Header, GptError> {
    let Ok((header, _)) = Header::read_from_prefix(&sector[..]) else {
        return Err(GptError::NoTable);
    };
    if header.signature != SIGNATURE {
        return Err(GptError::NoTable);
    }
    let size = header.header_size.get() as usize;
    // The checksum is computed with its own field as zero.
    sector[16..20].fill(0);
    match sector.get(..size) {
        Some(covered) if size >= HEADER_SIZE && crc32fast::hash(covered) == header.header_crc.get() => {}
        Some(_) | None => return Err(GptError::Bad("header checksum")),
    }
    if header.my_lba.get() != block {
        return Err(GptError::Bad("header position"));
    }
    Ok(header)
}

fn partition(number: u32, entry: &Entry, ratio: u64, disk_sectors: u64) -> Result<Partition, GptError> {
    let bad = GptError::Bad("partition range");
    let (first, last) = (entry.first.get(), entry.last.get());
    let start = first.checked_mul(ratio).ok_or(bad)?;
    let end = last.checked_add(1).and_then(|end| end.checked_mul(ratio)).ok_or(bad)?;
    if first > last || end > disk_sectors {
        return Err(bad);
    }
    let name = char::decode_utf16(entry.name.iter().map(|unit| unit.get()).take_while(|&unit| unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    Ok(Partition { number, kind: entry.kind, id: entry.id, name, extent: Extent { start, sectors: end - start } })
}
