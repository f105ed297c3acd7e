//! Directories: a file whose content is entries of 32 bytes (Microsoft FAT specification 1.03, sections 6 and 7).
//!
//! A directory is read whole, changed in memory and written back by the sector; the specification bounds it to 2 MiB.

use alloc::string::String;
use alloc::vec::Vec;

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::FatError;
use crate::geometry::{Cluster, SECTOR};
use crate::name::{self, Short, UNITS};
use crate::table::Chain;

/// Bytes of an entry.
pub const ENTRY: usize = 32;
/// Most bytes of a directory.
pub const MAX_BYTES: usize = 65_536 * ENTRY;

const ATTR_VOLUME: u8 = 0x08;
const ATTR_DIRECTORY: u8 = 0x10;
const ATTR_ARCHIVE: u8 = 0x20;
/// All four low bits: not an entry but a piece of a long name.
const ATTR_LONG: u8 = 0x0f;
/// First byte of an entry that is free.
const DELETED: u8 = 0xe5;
/// First byte of an entry that is free as are all after it.
const LAST: u8 = 0x00;
/// Marks the piece of a long name that comes last, which is stored first.
const LAST_PIECE: u8 = 0x40;
/// The first day of FAT, 1 January 1980: the host has no calendar.
const EPOCH: U16 = U16::new(1 << 5 | 1);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    name: Short,
    attributes: u8,
    case: u8,
    created_tenths: u8,
    created_time: U16,
    created_date: U16,
    accessed_date: U16,
    cluster_high: U16,
    written_time: U16,
    written_date: U16,
    cluster_low: U16,
    size: U32,
}

impl Raw {
    /// An entry as this crate writes it: without case flags, and with the one date that it knows.
    fn new(name: Short, attributes: u8, first: Option<Cluster>, size: u32) -> Self {
        let (high, low) = split(first);
        Raw {
            name,
            attributes,
            case: 0,
            created_tenths: 0,
            created_time: U16::ZERO,
            created_date: EPOCH,
            accessed_date: EPOCH,
            cluster_high: high,
            written_time: U16::ZERO,
            written_date: EPOCH,
            cluster_low: low,
            size: size.into(),
        }
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LongRaw {
    order: u8,
    first: [U16; 5],
    attributes: u8,
    kind: u8,
    checksum: u8,
    second: [U16; 6],
    cluster: U16,
    third: [U16; 2],
}

const _: () = assert!(size_of::<Raw>() == ENTRY && size_of::<LongRaw>() == ENTRY);

/// A file or directory, as its entry describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The long name if it has one, else the 8.3 name.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Size in bytes; 0 for a directory.
    pub size: u32,
    /// The first cluster; `None` for an empty file.
    pub(crate) first: Option<Cluster>,
    pub(crate) short: Short,
    /// The entry's index among the directory's entries, and that of the first piece of its long name.
    pub(crate) index: usize,
    pub(crate) start: usize,
}

/// A directory in memory.
pub struct Directory {
    /// Where it lies.
    pub chain: Chain,
    bytes: Vec<u8>,
    /// The sectors, by index, that differ from the disk.
    dirty: Vec<bool>,
}

impl Directory {
    /// Wraps a directory's content.
    pub fn new(chain: Chain, mut bytes: Vec<u8>) -> Self {
        // What follows the end mark is garbage; as zeros it is simply free.
        let end = bytes.chunks_exact(ENTRY).position(|raw| raw.first() == Some(&LAST));
        if let Some(rest) = end.and_then(|index| bytes.get_mut(index * ENTRY..)) {
            rest.fill(0);
        }
        let sectors = bytes.len() / SECTOR;
        Self { chain, bytes, dirty: alloc::vec![false; sectors] }
    }

    /// The sectors to be written, as index and content.
    pub fn take_dirty(&mut self) -> Vec<(usize, &[u8])> {
        let dirty = core::mem::take(&mut self.dirty);
        self.dirty = alloc::vec![false; dirty.len()];
        self.bytes.chunks_exact(SECTOR).enumerate().filter(|(index, _)| dirty.get(*index) == Some(&true)).collect()
    }

    /// Adds a cluster's worth of free entries, all to be written.
    pub fn grow(&mut self, chain: Chain, bytes: usize) {
        self.chain = chain;
        self.bytes.resize(self.bytes.len() + bytes, 0);
        self.dirty.resize(self.bytes.len() / SECTOR, true);
    }

    /// Everything in the directory but `.`, `..` and the volume label.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut long = LongName::default();
        for (index, bytes) in self.bytes.chunks_exact(ENTRY).enumerate() {
            let Ok(raw) = Raw::ref_from_bytes(bytes) else { break };
            let [head, ..] = raw.name;
            if head == LAST {
                break;
            }
            if head == DELETED {
                long = LongName::default();
            } else if raw.attributes & 0x3f == ATTR_LONG {
                if let Ok(piece) = LongRaw::ref_from_bytes(bytes) {
                    long.add(index, piece);
                }
            } else {
                let (long_name, start) = core::mem::take(&mut long).finish(index, &raw.name);
                if raw.attributes & ATTR_VOLUME == 0 && head != b'.' {
                    entries.push(entry_of(raw, long_name, index, start));
                }
            }
        }
        entries
    }

    /// The entry of that name, by its long or its 8.3 name.
    pub fn find(&self, name: &str) -> Option<Entry> {
        self.entries()
            .into_iter()
            .find(|entry| name::same(&entry.name, name) || name::same(&name::display(&entry.short, 0), name))
    }

    /// Writes a new entry. `false` if there is no room; then [`Self::grow`] and try again.
    ///
    /// # Errors
    /// No 8.3 name is left for it.
    pub fn insert(&mut self, name: &str, is_dir: bool, first: Option<Cluster>, size: u32) -> Result<bool, FatError> {
        let entries = self.entries();
        let (short, needs_long) = name::shorten(name, |short| entries.iter().any(|entry| entry.short == *short))?;
        let pieces = if needs_long { name::pieces(name) } else { Vec::new() };
        let Some(start) = self.free_run(pieces.len() + 1) else {
            return Ok(false);
        };
        let sum = name::checksum(&short);
        let count = pieces.len();
        for (number, piece) in pieces.iter().enumerate() {
            // Stored last piece first; the number of pieces is at most 20.
            let mut order = u8::try_from(number + 1).unwrap_or(0);
            if number + 1 == count {
                order |= LAST_PIECE;
            }
            let raw = LongRaw {
                order,
                first: units(piece, 0),
                attributes: ATTR_LONG,
                kind: 0,
                checksum: sum,
                second: units(piece, 5),
                cluster: U16::ZERO,
                third: units(piece, 11),
            };
            self.put(start + count - 1 - number, raw.as_bytes());
        }
        let raw = Raw::new(short, if is_dir { ATTR_DIRECTORY } else { ATTR_ARCHIVE }, first, size);
        self.put(start + count, raw.as_bytes());
        // If the run covered the end mark, the next entry is the new one; the disk may still hold garbage there.
        self.touch(start + count + 1);
        Ok(true)
    }

    /// Changes where a file lies and how large it is.
    pub fn update(&mut self, index: usize, first: Option<Cluster>, size: u32) {
        let (high, low) = split(first);
        let range = index * ENTRY..(index + 1) * ENTRY;
        if let Some(Ok(raw)) = self.bytes.get_mut(range).map(Raw::mut_from_bytes) {
            raw.cluster_high = high;
            raw.cluster_low = low;
            raw.size = size.into();
        }
        self.touch(index);
    }

    /// Frees an entry and its long name.
    pub fn remove(&mut self, entry: &Entry) {
        for index in entry.start..=entry.index {
            if let Some(head) = self.bytes.get_mut(index * ENTRY) {
                *head = DELETED;
            }
            self.touch(index);
        }
    }

    /// Makes this the content of a new directory: the entries `.` and `..`. The root is called 0 there.
    pub fn dots(own: Cluster, parent: Option<Cluster>, cluster_bytes: usize) -> Vec<u8> {
        let mut bytes = alloc::vec![0; cluster_bytes];
        for ((name, cluster), place) in
            [(b".          ", Some(own)), (b"..         ", parent)].into_iter().zip(bytes.chunks_exact_mut(ENTRY))
        {
            let raw = Raw::new(*name, ATTR_DIRECTORY, cluster, 0);
            place.copy_from_slice(raw.as_bytes());
        }
        bytes
    }

    /// The index of the first of `count` free entries in a row.
    fn free_run(&self, count: usize) -> Option<usize> {
        let mut run = 0;
        for (index, raw) in self.bytes.chunks_exact(ENTRY).enumerate() {
            run = match raw.first() {
                Some(&(DELETED | LAST)) => run + 1,
                Some(_) | None => 0,
            };
            if run == count {
                return Some(index + 1 - count);
            }
        }
        None
    }

    fn put(&mut self, index: usize, raw: &[u8]) {
        if let Some(place) = self.bytes.get_mut(index * ENTRY..(index + 1) * ENTRY) {
            place.copy_from_slice(raw);
        }
        self.touch(index);
    }

    fn touch(&mut self, index: usize) {
        if let Some(dirty) = self.dirty.get_mut(index * ENTRY / SECTOR) {
            *dirty = true;
        }
    }
}

fn entry_of(raw: &Raw, long_name: Option<String>, index: usize, start: usize) -> Entry {
    let is_dir = raw.attributes & ATTR_DIRECTORY != 0;
    let cluster = Cluster(u32::from(raw.cluster_high.get()) << 16 | u32::from(raw.cluster_low.get()));
    Entry {
        name: long_name.unwrap_or_else(|| name::display(&raw.name, raw.case)),
        is_dir,
        size: if is_dir { 0 } else { raw.size.get() },
        first: Some(cluster).filter(|cluster| cluster.0 != 0),
        short: raw.name,
        index,
        start,
    }
}

fn units<const N: usize>(piece: &[u16; UNITS], from: usize) -> [U16; N] {
    let mut out = [U16::ZERO; N];
    out.iter_mut().zip(piece.iter().skip(from)).for_each(|(to, &unit)| *to = unit.into());
    out
}

/// A cluster's number as the two halves that an entry has.
fn split(cluster: Option<Cluster>) -> (U16, U16) {
    let [a, b, c, d] = cluster.map_or(0, |cluster| cluster.0).to_le_bytes();
    (U16::from_bytes([c, d]), U16::from_bytes([a, b]))
}

/// A long name being collected; anything out of order makes it void.
#[derive(Default)]
struct LongName {
    /// Pieces, last first.
    pieces: Vec<[u16; UNITS]>,
    start: usize,
    checksum: u8,
    /// The order that the next piece must have; 0 when the next must be the 8.3 entry.
    next: u8,
}

impl LongName {
    fn add(&mut self, index: usize, raw: &LongRaw) {
        let order = raw.order & !LAST_PIECE;
        if raw.order & LAST_PIECE != 0 && (1..=20).contains(&order) {
            *self = Self { pieces: Vec::new(), start: index, checksum: raw.checksum, next: order };
        }
        if self.next == 0 || order != self.next || raw.checksum != self.checksum {
            *self = Self::default();
            return;
        }
        let mut piece = [0; UNITS];
        let stored = raw.first.iter().chain(&raw.second).chain(&raw.third);
        piece.iter_mut().zip(stored).for_each(|(to, unit)| *to = unit.get());
        self.pieces.push(piece);
        self.next -= 1;
    }

    /// The name, if it belongs to the 8.3 entry at `index`, and where the whole begins.
    fn finish(self, index: usize, short: &Short) -> (Option<String>, usize) {
        let belongs = !self.pieces.is_empty()
            && self.next == 0
            && self.checksum == name::checksum(short)
            && self.start + self.pieces.len() == index;
        if !belongs {
            return (None, index);
        }
        let units = self.pieces.iter().rev().flatten().copied();
        let text = char::decode_utf16(units.take_while(|&unit| unit != 0))
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        (Some(text), self.start)
    }
}
