//! Volumes that nobody made with good intent: every operation ends, with an error or not.

use embassy_futures::block_on;
use proptest::prelude::*;

use super::{RESERVED, Ram, tiny};
use crate::{FatError, FileSystem};

/// A volume with a file, a directory and a file in it.
fn populated() -> Vec<u8> {
    let ram = Ram::new(tiny(120));
    block_on(async {
        let fs = FileSystem::mount(ram.clone()).await.unwrap();
        fs.write("/file", 0, &[1; 5000]).await.unwrap();
        fs.create_dir("/a directory").await.unwrap();
        fs.write("/a directory/inner file.txt", 0, &[2; 3000]).await.unwrap();
    });
    ram.bytes()
}

fn set_entry(disk: &mut [u8], cluster: usize, value: u32) {
    let table = usize::from(disk[36]);
    for copy in 0..2 {
        let at = (RESERVED + copy * table) * 512 + cluster * 4;
        disk[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

#[test]
fn a_chain_that_loops_is_an_error() {
    let mut disk = populated();
    // Cluster 3 is the first of "/file".
    set_entry(&mut disk, 5, 3);
    let fs = block_on(FileSystem::mount(Ram::new(disk))).unwrap();
    let error = block_on(fs.open("/file")).unwrap_err();
    assert_eq!(error, FatError::Corrupt("a cluster chain does not end"));
}

#[test]
fn a_chain_that_leaves_the_volume_is_an_error() {
    for value in [1, 0, 122, 0x0fff_fff7] {
        let mut disk = populated();
        set_entry(&mut disk, 4, value);
        let fs = block_on(FileSystem::mount(Ram::new(disk))).unwrap();
        let error = block_on(fs.open("/file")).unwrap_err();
        assert_eq!(error, FatError::Corrupt("a cluster chain leaves the volume"), "{value}");
    }
}

#[test]
fn a_boot_sector_with_a_wrong_field_names_it() {
    for (at, value, field) in [
        (510, 0, "signature"),
        (11, 1, "bytes per sector"),
        (13, 3, "sectors per cluster"),
        (13, 0, "sectors per cluster"),
        (16, 0, "number of tables or reserved sectors"),
        (17, 1, "table size (FAT12 or FAT16?)"),
        (35, 1, "total sectors (the disk is smaller)"),
        (44, 200, "root cluster"),
        (42, 1, "version"),
    ] {
        let mut disk = tiny(120);
        disk[at] = value;
        let error = block_on(FileSystem::mount(Ram::new(disk))).err();
        assert_eq!(error, Some(FatError::NotFat32(field)), "byte {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_damage_makes_an_operation_hang_or_panic(
        changes in proptest::collection::vec((0usize..40, 0usize..512, any::<u8>()), 1..12),
    ) {
        let mut disk = populated();
        for (sector, at, value) in changes {
            disk[sector * 512 + at] = value;
        }
        block_on(async {
            let Ok(fs) = FileSystem::mount(Ram::new(disk)).await else { return };
            for entry in fs.list("/").await.unwrap_or_default() {
                let path = format!("/{}", entry.name);
                let _ = fs.list(&path).await;
                let _ = fs.read_all(&path, 1 << 20).await;
            }
            let _ = fs.write("/file", 4000, &[3; 9000]).await;
            let _ = fs.truncate("/file", 100).await;
            let _ = fs.rename("/a directory/inner file.txt", "/elsewhere").await;
            let _ = fs.remove("/a directory").await;
            let _ = fs.create_dir("/a directory/new").await;
            let _ = fs.sync().await;
        });
    }
}
