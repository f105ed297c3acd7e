//! The disk that Dom0 sees as `/store`, made from a folder of the host.
//!
//! It is FAT32 with long names on a whole disk: small enough to be read and written by Dom0, and every
//! Linux host makes and mounts it. The host side uses the `fatfs` crate rather than dosfstools and mtools,
//! so that a fresh machine needs two packages less; the guest of the format is another implementation
//! (Dom0's), which keeps both honest.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fatfs::{Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions};

use crate::build;
use crate::command;
use crate::linux::LinuxGuest;
use crate::paths::{Paths, write_if_changed};
use crate::ui;

/// The name a Linux host shows for the disk.
const LABEL: [u8; 11] = *b"XENOLITH   ";

/// The smallest image: sparse, so its size costs nothing on the host, and guests' disks find room.
const SMALLEST: u64 = 1 << 30;

/// Bytes per cluster: few enough clusters for short chains, enough of them for FAT32 at the smallest size.
const CLUSTER: u32 = 8192;

/// The configurations of the demo guests, by file name.
const CONFIGS: &[(&str, &str)] = &[
    (
        "hello.cfg",
        "# Says who and where it is, and ends when it is asked to.\n\
         name = \"hello\"\n\
         kernel = \"/store/hello\"\n\
         memory = 16\n\
         vcpus = 1\n",
    ),
    (
        "blkcheck.cfg",
        "# Writes patterns to its disk and reads them back.\n\
         name = \"blkcheck\"\n\
         kernel = \"/store/blkcheck\"\n\
         memory = 16\n\
         vcpus = 1\n\
         disk = [ \"/store/scratch.img,raw,xvda,w\" ]\n",
    ),
    (
        "blkbench.cfg",
        "# Measures its disk, whose start it overwrites.\n\
         name = \"blkbench\"\n\
         kernel = \"/store/blkbench\"\n\
         memory = 16\n\
         vcpus = 1\n\
         disk = [ \"/store/scratch.img,raw,xvda,w\" ]\n",
    ),
    (
        "httpd.cfg",
        "# Serves a page about itself. It asks a DHCP server for its address, unless extra = \"ip=10.0.0.80/24\" or the like.\n\
         name = \"httpd\"\n\
         kernel = \"/store/httpd\"\n\
         memory = 4\n\
         vcpus = 1\n\
         vif = [ \"\" ]\n",
    ),
    (
        "ping.cfg",
        "# Asks httpd for echoes and ends.\n\
         name = \"ping\"\n\
         kernel = \"/store/ping\"\n\
         extra = \"ip=10.0.0.81/24 to=10.0.0.80 count=10\"\n\
         memory = 4\n\
         vcpus = 1\n\
         vif = [ \"\" ]\n",
    ),
    (
        "sink.cfg",
        "# Receives a TCP stream and checks every byte.\n\
         name = \"sink\"\n\
         kernel = \"/store/netperf\"\n\
         extra = \"ip=10.0.0.82/24\"\n\
         memory = 4\n\
         vcpus = 1\n\
         vif = [ \"\" ]\n",
    ),
    (
        "source.cfg",
        "# Sends a TCP stream to sink.\n\
         name = \"source\"\n\
         kernel = \"/store/netperf\"\n\
         extra = \"ip=10.0.0.83/24 to=10.0.0.82 mib=16\"\n\
         memory = 4\n\
         vcpus = 1\n\
         vif = [ \"\" ]\n",
    ),
    (
        "parallel.cfg",
        "# Counts primes on both its vCPUs.\n\
         name = \"parallel\"\n\
         kernel = \"/store/parallel\"\n\
         memory = 4\n\
         vcpus = 2\n",
    ),
    (
        "linux.cfg",
        "# Debian's kernel, unmodified, with a BusyBox user space and an ext4 disk at /dev/xvda.\n\
         name = \"linux\"\n\
         kernel = \"/store/vmlinuz\"\n\
         ramdisk = \"/store/initramfs.cpio.gz\"\n\
         extra = \"console=hvc0 quiet panic=1\"\n\
         memory = 256\n\
         vcpus = 1\n\
         disk = [ \"/store/linux.ext4,raw,xvda,w\" ]\n\
         on_poweroff = \"destroy\"\n\
         on_reboot = \"restart\"\n\
         on_crash = \"destroy\"\n",
    ),
];

/// The disk that blkcheck overwrites.
const SCRATCH_SIZE: u64 = 16 << 20;

/// Fills a folder with the demo guests.
pub fn demo(paths: &Paths, linux: &LinuxGuest, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, text) in CONFIGS {
        write_if_changed(&folder.join(name), text.as_bytes())?;
    }
    for name in build::guests() {
        copy(&paths.image(name), &folder.join(name))?;
    }
    copy(&linux.kernel, &folder.join("vmlinuz"))?;
    copy(&linux.initramfs, &folder.join("initramfs.cpio.gz"))?;
    copy(&linux.disk, &folder.join("linux.ext4"))?;
    let scratch = folder.join("scratch.img");
    if !scratch.is_file() {
        File::create(scratch)?.set_len(SCRATCH_SIZE)?;
    }
    Ok(())
}

/// Makes the image of a folder, unless it is there and the folder has not changed since.
pub fn prepare(folder: &Path, place: &Path) -> Result<()> {
    ensure!(folder.is_dir(), "--store {}: not a folder", folder.display());
    let changed = newest_change(folder)?;
    let made = place.metadata().and_then(|meta| meta.modified());
    if !made.is_ok_and(|made| made >= changed) {
        command::make_parent(place)?;
        image(folder, place)?;
    }
    Ok(())
}

/// Makes the image of a folder at `image`.
fn image(folder: &Path, image: &Path) -> Result<()> {
    let content = size_of(folder)?;
    // A quarter more for chains, folders and what Dom0 writes.
    let size = (content + content / 4).next_multiple_of(1 << 20).max(SMALLEST);
    let bar = ui::bar("store", &format!("{} from {}", ui::size(content), folder.display()), content.max(1));
    let unfinished = image.with_extension("new");
    let disk = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&unfinished)?;
    disk.set_len(size)?;
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat32).bytes_per_cluster(CLUSTER).volume_label(LABEL);
    fatfs::format_volume(&disk, options).context("cannot format the store")?;
    let system = FileSystem::new(&disk, FsOptions::new()).context("cannot open the new store")?;
    fill(&system.root_dir(), folder, &bar)?;
    system.unmount().context("cannot finish the store")?;
    bar.finish_and_clear();
    std::fs::rename(&unfinished, image)?;
    Ok(())
}

fn fill(into: &Dir<'_, &File>, folder: &Path, bar: &indicatif::ProgressBar) -> Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let failed = || format!("cannot put {} into the store", path.display());
        if path.is_dir() {
            fill(&into.create_dir(&name).with_context(failed)?, &path, bar)?;
        } else {
            let mut source = File::open(&path).with_context(failed)?;
            let mut target = into.create_file(&name).with_context(failed)?;
            let mut piece = vec![0; 1 << 18];
            loop {
                let length = source.read(&mut piece).with_context(failed)?;
                if length == 0 {
                    break;
                }
                target.write_all(&piece[..length]).with_context(failed)?;
                bar.inc(length as u64);
            }
        }
    }
    Ok(())
}

/// The bytes of all files below a folder.
fn size_of(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let meta = path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
        total += if meta.is_dir() { size_of(&path)? } else { meta.len() };
    }
    Ok(total)
}

/// The newest change below a folder, to tell whether an image made from it is stale.
fn newest_change(folder: &Path) -> Result<std::time::SystemTime> {
    let mut newest = folder.metadata()?.modified()?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let changed = if path.is_dir() { newest_change(&path)? } else { path.metadata()?.modified()? };
        newest = newest.max(changed);
    }
    Ok(newest)
}

/// Copies when the source is newer, so that an unchanged store keeps its date.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    if crate::paths::is_fresh(to, &[from]) {
        return Ok(());
    }
    std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use fatfs::{FatType, FileSystem, FsOptions};

    #[test]
    fn an_image_holds_the_folder_with_its_long_names_on_fat32() -> anyhow::Result<()> {
        let place = std::env::temp_dir().join(format!("xenolith-store-{}", std::process::id()));
        let folder = place.join("store");
        std::fs::create_dir_all(folder.join("a folder"))?;
        std::fs::write(folder.join("a folder/initramfs of Linux.cpio.gz"), b"content")?;
        let image = place.join("store.img");
        super::image(&folder, &image)?;
        let system =
            FileSystem::new(std::fs::OpenOptions::new().read(true).write(true).open(&image)?, FsOptions::new())?;
        let mut text = String::new();
        system.root_dir().open_file("a folder/initramfs of Linux.cpio.gz")?.read_to_string(&mut text)?;
        assert_eq!((text.as_str(), system.fat_type()), ("content", FatType::Fat32));
        std::fs::remove_dir_all(&place)?;
        Ok(())
    }
}
