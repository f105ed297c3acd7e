//! One rule each.

use super::check::check;
use super::{mounted, pattern};
use crate::FatError;
use embassy_futures::block_on;

#[test]
fn a_file_reads_back_as_it_was_written_in_pieces() {
    block_on(async {
        let (ram, fs) = mounted(200);
        let data = pattern(1, 5000);
        fs.write("/a long name.bin", 0, &data[..700]).await.unwrap();
        fs.write("/a long name.bin", 700, &data[700..]).await.unwrap();
        fs.write("/A LONG NAME.BIN", 100, &data[100..200]).await.unwrap();
        assert_eq!(fs.read_all("/a long name.bin", 5000).await.unwrap(), data);
        assert_eq!(fs.list("/").await.unwrap().len(), 1);
        check(&ram.bytes());
    });
}

#[test]
fn what_lies_between_the_old_end_and_a_write_reads_as_zeros() {
    block_on(async {
        let (ram, fs) = mounted(200);
        // Leave garbage in clusters and in the slack of the last one.
        fs.write("/junk", 0, &[0xff; 20_000]).await.unwrap();
        fs.remove("/junk").await.unwrap();
        fs.write("/f", 0, b"abc").await.unwrap();
        fs.write("/f", 3000, b"xyz").await.unwrap();
        fs.truncate("/f", 4000).await.unwrap();
        let mut expected = vec![0; 4000];
        expected[..3].copy_from_slice(b"abc");
        expected[3000..3003].copy_from_slice(b"xyz");
        assert_eq!(fs.read_all("/f", 4000).await.unwrap(), expected);
        check(&ram.bytes());
    });
}

#[test]
fn the_extents_of_a_file_are_where_its_bytes_are() {
    block_on(async {
        let (ram, fs) = mounted(300);
        // Two files that grow in turn have no two clusters in a row.
        let data = pattern(7, 20 * 512);
        for step in 0..20u32 {
            let at = step * 512;
            let part = &data[at as usize..][..512];
            fs.write("/other", at, &[0; 512]).await.unwrap();
            fs.write("/image", at, part).await.unwrap();
        }
        let file = fs.open("/image").await.unwrap();
        assert!(file.extents().len() > 10, "{:?}", file.extents());
        let disk = ram.bytes();
        let mut found = Vec::new();
        for extent in file.extents() {
            let at = usize::try_from(extent.start).unwrap() * 512;
            found.extend_from_slice(&disk[at..at + usize::try_from(extent.sectors).unwrap() * 512]);
        }
        assert_eq!(found, data);
        assert_eq!(file.sectors(), 20);
    });
}

#[test]
fn an_open_file_keeps_its_clusters_until_it_is_closed() {
    block_on(async {
        let (ram, fs) = mounted(100);
        fs.write("/disk.img", 0, &pattern(3, 4096)).await.unwrap();
        fs.write("/new", 0, b"new").await.unwrap();
        let open = fs.open("/disk.img").await.unwrap();
        let again = fs.open("/disk.img").await.unwrap();
        assert_eq!(fs.remove("/disk.img").await, Err(FatError::Busy));
        assert_eq!(fs.truncate("/disk.img", 5).await, Err(FatError::Busy));
        assert_eq!(fs.rename("/new", "/disk.img").await, Err(FatError::Busy));
        fs.rename("/disk.img", "/moved.img").await.unwrap();
        fs.write("/moved.img", 4096, b"more").await.unwrap();
        drop(open);
        assert_eq!(fs.remove("/moved.img").await, Err(FatError::Busy));
        drop(again);
        fs.remove("/moved.img").await.unwrap();
        check(&ram.bytes());
    });
}

#[test]
fn directories_nest_move_and_are_removed_only_when_empty() {
    block_on(async {
        let (ram, fs) = mounted(200);
        fs.create_dir("/guests").await.unwrap();
        fs.create_dir("/guests/linux").await.unwrap();
        fs.create_dir("/attic").await.unwrap();
        fs.write("/guests/linux/linux.cfg", 0, b"name='x'").await.unwrap();
        assert_eq!(fs.create_dir("/guests").await, Err(FatError::Exists));
        assert_eq!(fs.remove("/guests").await, Err(FatError::NotEmpty));
        assert_eq!(fs.rename("/guests", "/guests/linux/self").await, Err(FatError::Exists));
        fs.rename("/guests/linux", "/attic/Linux 6.1").await.unwrap();
        check(&ram.bytes());
        assert_eq!(fs.read_all("/attic/linux 6.1/LINUX.CFG", 100).await.unwrap(), b"name='x'");
        assert_eq!(fs.read_all("/attic/../attic/./linux 6.1/linux.cfg", 100).await.unwrap(), b"name='x'");
        fs.remove("/guests").await.unwrap();
        assert_eq!(fs.list("/guests").await, Err(FatError::NotFound));
        assert_eq!(fs.list("/attic/linux 6.1/linux.cfg").await, Err(FatError::NotADirectory));
        check(&ram.bytes());
    });
}

#[test]
fn a_full_volume_refuses_and_loses_nothing() {
    block_on(async {
        let (ram, fs) = mounted(40);
        fs.write("/keep", 0, &pattern(2, 10 * 512)).await.unwrap();
        assert_eq!(fs.write("/big", 0, &[1; 40 * 512]).await, Err(FatError::NoSpace));
        check(&ram.bytes());
        fs.write("/fits", 0, &[1; 29 * 512]).await.unwrap();
        assert_eq!(fs.create_dir("/dir").await, Err(FatError::NoSpace));
        check(&ram.bytes());
        fs.remove("/fits").await.unwrap();
        fs.create_dir("/dir").await.unwrap();
        assert_eq!(fs.read_all("/keep", 10 * 512).await.unwrap(), pattern(2, 10 * 512));
        check(&ram.bytes());
    });
}

#[test]
fn a_directory_grows_with_its_entries_and_names_stay_apart() {
    block_on(async {
        let (ram, fs) = mounted(400);
        for n in 0..60 {
            let name = format!("/a rather long file name number {n}.text");
            fs.write(&name, 0, name.as_bytes()).await.unwrap();
        }
        let names: Vec<String> = fs.list("/").await.unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), 60);
        for name in names {
            let path = format!("/{name}");
            assert_eq!(fs.read_all(&path, 100).await.unwrap(), path.as_bytes());
        }
        check(&ram.bytes());
    });
}
