//! Tables written by hand, whole and damaged.

use driver_api::DiskInfo;
use embassy_futures::block_on;
use proptest::prelude::*;

use super::*;

/// A disk of bytes.
struct Bytes(Vec<u8>);

impl Sectors for Bytes {
    fn info(&self) -> DiskInfo {
        DiskInfo {
            sectors: self.0.len() as u64 / 512,
            logical_block: 512,
            physical_block: 512,
            read_only: true,
            flush: false,
            discard: false,
            discard_granularity: 512,
        }
    }

    async fn read(&self, sector: u64, data: &mut [u8]) -> Result<(), DiskError> {
        let start = usize::try_from(sector).unwrap() * 512;
        let from = self.0.get(start..start + data.len()).ok_or(DiskError::OutOfRange)?;
        data.copy_from_slice(from);
        Ok(())
    }

    async fn write(&self, _: u64, _: &[u8]) -> Result<(), DiskError> {
        Err(DiskError::ReadOnly)
    }

    async fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

const SECTORS: u64 = 200;

fn put(disk: &mut [u8], at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).unwrap();
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes a header at `block` over the entries at `entries`, with correct checksums.
fn seal(disk: &mut [u8], block: u64, entries: u64, alternate: u64) {
    let array = usize::try_from(entries).unwrap() * 512;
    let array_crc = crc32fast::hash(&disk[array..array + 128 * 128]);
    let mut header = Vec::new();
    header.extend(SIGNATURE);
    header.extend(0x0001_0000u32.to_le_bytes());
    header.extend(92u32.to_le_bytes());
    header.extend([0; 8]);
    for lba in [block, alternate, 34, SECTORS - 34] {
        header.extend(lba.to_le_bytes());
    }
    header.extend([7; 16]);
    header.extend(entries.to_le_bytes());
    header.extend(128u32.to_le_bytes());
    header.extend(128u32.to_le_bytes());
    header.extend(array_crc.to_le_bytes());
    let crc = crc32fast::hash(&header);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    put(disk, block * 512, &header);
}

/// A disk with two partitions and both tables.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; usize::try_from(SECTORS).unwrap() * 512];
    for array in [2, SECTORS - 33] {
        for (slot, first, last, name) in [(0u64, 40u64, 79u64, "root"), (2, 80, 80, "größe")] {
            let at = array * 512 + slot * 128;
            put(&mut disk, at, &[1; 16]);
            put(&mut disk, at + 16, &[2; 16]);
            put(&mut disk, at + 32, &first.to_le_bytes());
            put(&mut disk, at + 40, &last.to_le_bytes());
            let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            put(&mut disk, at + 56, &name);
        }
    }
    seal(&mut disk, 1, 2, SECTORS - 1);
    seal(&mut disk, SECTORS - 1, SECTORS - 33, 1);
    disk
}

fn summary(disk: Vec<u8>) -> Result<Vec<(u32, String, u64, u64)>, GptError> {
    let partitions = block_on(read(&Bytes(disk)))?;
    Ok(partitions.into_iter().map(|p| (p.number, p.name, p.extent.start, p.extent.sectors)).collect())
}

fn expected() -> Vec<(u32, String, u64, u64)> {
    vec![(1, "root".into(), 40, 40), (3, "größe".into(), 80, 1)]
}

#[test]
fn partitions_come_out_with_number_name_and_place() {
    assert_eq!(summary(disk()), Ok(expected()));
}

#[test]
fn a_damaged_primary_table_is_replaced_by_the_backup() {
    let mut damaged = disk();
    damaged[2 * 512 + 33] ^= 1;
    assert_eq!(summary(damaged), Ok(expected()));
    let mut gone = disk();
    gone[512..1024].fill(0);
    assert_eq!(summary(gone), Ok(expected()));
}

#[test]
fn two_damaged_tables_are_an_error_that_names_the_field() {
    let mut damaged = disk();
    damaged[2 * 512 + 33] ^= 1;
    damaged[(usize::try_from(SECTORS).unwrap() - 1) * 512 + 40] ^= 1;
    assert_eq!(summary(damaged), Err(GptError::Bad("array checksum")));
}

#[test]
fn a_disk_without_a_table_says_so() {
    assert_eq!(summary(vec![0; 100 * 512]), Err(GptError::NoTable));
    assert_eq!(summary(Vec::new()), Err(GptError::NoTable));
}

#[test]
fn a_partition_beyond_the_disk_is_refused_although_its_checksum_holds() {
    let mut forged = disk();
    for (block, array) in [(1, 2), (SECTORS - 1, SECTORS - 33)] {
        put(&mut forged, array * 512 + 40, &u64::MAX.to_le_bytes());
        seal(&mut forged, block, array, SECTORS - block);
    }
    assert_eq!(summary(forged), Err(GptError::Bad("partition range")));
}

#[test]
fn a_guid_prints_as_the_tools_print_it() {
    let bytes = [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];
    assert_eq!(Guid(bytes).to_string(), "0fc63daf-8483-4772-8e79-3d69d8477de4");
}

proptest! {
    #[test]
    fn whatever_a_disk_holds_partitions_lie_on_it(
        changes in proptest::collection::vec((512usize..1024, any::<u8>()), 0..4),
        reseal in any::<bool>(),
    ) {
        let mut disk = disk();
        for (at, value) in changes {
            disk[at] = value;
        }
        if reseal {
            disk[528..532].fill(0);
            let crc = crc32fast::hash(&disk[512..604]);
            disk[528..532].copy_from_slice(&crc.to_le_bytes());
        }
        if let Ok(partitions) = block_on(read(&Bytes(disk))) {
            for partition in partitions {
                prop_assert!(partition.extent.start + partition.extent.sectors <= SECTORS);
            }
        }
    }
}
