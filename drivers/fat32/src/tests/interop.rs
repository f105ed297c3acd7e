//! Volumes of the crate `fatfs`, and ours read by it; and by `fsck.fat` where that is installed.

use std::io::{Cursor, Read, Seek, SeekFrom, Write};

use embassy_futures::block_on;

use super::check::check;
use super::{Ram, pattern};
use crate::FileSystem;

const NAMES: [&str; 4] = ["vmlinuz-6.1.0-arm64", "linux.cfg", "UPPER.BIN", "Größenwahn und andere lange Namen.txt"];

/// A volume of 40 MiB with 512-byte clusters, about the smallest that `fatfs` takes for FAT32.
fn formatted() -> Vec<u8> {
    let mut disk = Cursor::new(vec![0u8; 40 << 20]);
    let options = fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32).bytes_per_cluster(512);
    fatfs::format_volume(&mut disk, options).unwrap();
    disk.into_inner()
}

#[test]
fn files_written_by_fatfs_are_read() {
    let mut disk = Cursor::new(formatted());
    {
        let fs = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new()).unwrap();
        let dir = fs.root_dir().create_dir("guests").unwrap();
        for (seed, name) in (0..).zip(NAMES) {
            let mut file = dir.create_file(name).unwrap();
            file.write_all(&pattern(seed, 100_000)).unwrap();
        }
    }
    block_on(async {
        let fs = FileSystem::mount(Ram::new(disk.into_inner())).await.unwrap();
        let names: Vec<String> = fs.list("/guests").await.unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(names, NAMES);
        for (seed, name) in (0..).zip(NAMES) {
            let found = fs.read_all(&format!("/guests/{name}"), 100_000).await.unwrap();
            assert!(found == pattern(seed, 100_000), "{name}");
        }
    });
}

#[test]
fn files_written_by_us_are_read_by_fatfs_and_found_clean() {
    let ram = Ram::new(formatted());
    block_on(async {
        let fs = FileSystem::mount(ram.clone()).await.unwrap();
        fs.create_dir("/guests").await.unwrap();
        for (seed, name) in (0..).zip(NAMES) {
            let path = format!("/guests/{name}");
            fs.write(&path, 0, &pattern(seed, 70_000)).await.unwrap();
            fs.truncate(&path, 60_001).await.unwrap();
        }
        fs.write("/gone", 0, b"x").await.unwrap();
        fs.remove("/gone").await.unwrap();
        fs.rename("/guests/UPPER.BIN", "/moved here").await.unwrap();
        fs.sync().await.unwrap();
    });
    let bytes = ram.bytes();
    check(&bytes);
    fsck(&bytes);
    let mut disk = Cursor::new(bytes);
    let fs = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new()).unwrap();
    for (seed, name) in (0..).zip(NAMES) {
        let path = if name == "UPPER.BIN" { "moved here".into() } else { format!("guests/{name}") };
        let mut file = fs.root_dir().open_file(&path).unwrap();
        let mut found = Vec::new();
        file.read_to_end(&mut found).unwrap();
        assert!(found == pattern(seed, 70_000)[..60_001], "{name}");
        assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 60_001);
    }
}

/// Runs `fsck.fat -n` over the volume; a system without it has only the checks above.
fn fsck(bytes: &[u8]) {
    let path = std::env::temp_dir().join(format!("fat32-test-{}.img", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let result = std::process::Command::new("fsck.fat").arg("-n").arg(&path).output();
    std::fs::remove_file(&path).unwrap();
    if let Ok(output) = result {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
    }
}
