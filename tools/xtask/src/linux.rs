//! The Linux demo guest: Debian's kernel as it is, an initial file system around BusyBox, a disk with ext4.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::command;
use crate::cpio::Archive;
use crate::foreign;
use crate::paths::{self, Paths};
use crate::rootfs::Packer;
use crate::setup;
use crate::ui;

/// What BusyBox's init runs, and keeps running.
const INITTAB: &str = "\
::sysinit:/etc/rc
::respawn:/bin/cttyhack /etc/session
::ctrlaltdel:/sbin/reboot
";

/// The interactive shell is a child of the session's leader: as the leader itself it ends at once on hvc0
/// when nobody is attached to the console.
const SESSION: &str = "#!/bin/sh\n/bin/sh -l\n";

/// The demo guest prints its own uptime first, so that the time to user space can be read off the console.
const RC: &str = r#"#!/bin/sh
mount -t proc proc /proc
read up rest < /proc/uptime
echo "linux: user space after $up s"
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
while read module; do insmod /modules/$module.ko; done < /modules/order
mount -t xenfs xenfs /proc/xen
hostname linux
tries=0
while ls /sys/bus/xen/devices 2>/dev/null | grep -q vbd-51712 && [ ! -b /dev/xvda ] && [ $tries -lt 50 ]; do
    tries=$((tries + 1))
    usleep 20000
done
[ -b /dev/xvda ] && mount -t ext4 /dev/xvda /mnt && echo "linux: /dev/xvda is mounted at /mnt"
echo "linux: $(uname -r), $(nproc) vCPU, $(($(grep MemTotal /proc/meminfo | tr -dc 0-9) / 1024)) MiB"
"#;

/// What udhcpc does with what it is told.
const DHCP: &str = r#"#!/bin/sh
case $1 in
deconfig)
    ip addr flush dev $interface
    ip link set $interface up
    ;;
bound|renew)
    ip addr flush dev $interface
    ip addr add $ip/$mask dev $interface
    [ "$router" ] && ip route add default via $router
    rm -f /etc/resolv.conf
    for server in $dns; do echo nameserver $server >> /etc/resolv.conf; done
    ;;
esac
"#;

const PROFILE: &str = "\
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
export PS1='linux# '
";

/// What the disk holds besides its file system.
const README: &str = "This disk reached you through Xenolith's block back end and Linux's xen-blkfront.\n";

/// Room on the disk: a test writes 64 MiB beside the journal.
const DISK_SIZE: &str = "128M";

/// The modules of Debian's kernel that the guest loads.
const MODULES: &[&str] = &["xen-blkfront", "xen-netfront", "crc32c_generic", "ext4", "xenfs"];

/// Modules that a user loads who wants interfaces in VLANs: `while read m; do insmod /modules/$m.ko; done < /modules/vlan`.
const VLAN_MODULES: &[&str] = &["8021q"];

/// The programs that talk to XenStore.
const TOOLS: &[&str] = &[
    "usr/bin/xenstore-ls",
    "usr/bin/xenstore-read",
    "usr/bin/xenstore-write",
    "usr/bin/xenstore-list",
    "usr/bin/xenstore-rm",
    "usr/bin/xenstore-watch",
];

/// The files that make the guest.
#[derive(Clone, Debug)]
pub struct LinuxGuest {
    /// The kernel, an arm64 `Image`.
    pub kernel: PathBuf,
    /// The initial file system, gzip.
    pub initramfs: PathBuf,
    /// The disk with ext4.
    pub disk: PathBuf,
}

/// Fetches and makes what is missing.
pub fn guest(paths: &Paths) -> Result<LinuxGuest> {
    let packages = foreign::fetch(paths.foreign(), foreign::LINUX)?;
    let kernel = foreign::with_prefix(&packages.join("boot"), "vmlinuz-")?;
    let made = paths.foreign().join("guest");
    std::fs::create_dir_all(&made)?;
    let this_program = std::env::current_exe()?;
    let initramfs = made.join("initramfs.cpio.gz");
    if !paths::is_fresh(&initramfs, &[&kernel, &this_program]) {
        let spinner = ui::spinner("guest", "initial file system for Linux");
        pack(&packages, &initramfs)?;
        spinner.finish_and_clear();
    }
    let disk = made.join("linux.ext4");
    if !paths::is_fresh(&disk, &[]) {
        ui::say("guest", "ext4 disk for Linux");
        make_disk(&made, &disk, DISK_SIZE)?;
    }
    Ok(LinuxGuest { kernel, initramfs, disk })
}

fn pack(packages: &Path, output: &Path) -> Result<()> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "mnt", "tmp", "root"] {
        archive.folder(folder)?;
    }
    // The kernel opens /dev/console before anything is mounted; without it init has no output.
    archive.device("dev/console", 5, 1)?;
    archive.file("etc/inittab", INITTAB.as_bytes())?;
    archive.file("etc/rc", RC.as_bytes())?;
    archive.file("etc/session", SESSION.as_bytes())?;
    archive.file("etc/profile", PROFILE.as_bytes())?;
    archive.file("etc/udhcpc/default.script", DHCP.as_bytes())?;
    let folders = [packages];
    let mut packer = Packer::new(&mut archive, &folders);
    packer.program("bin/busybox")?;
    for tool in TOOLS {
        packer.program(tool)?;
    }
    packer.modules("order", MODULES)?;
    packer.modules("vlan", VLAN_MODULES)?;
    busybox_links(&mut archive)?;
    archive.link("init", "bin/busybox")?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&archive.finish()?)?;
    std::fs::write(output, encoder.finish()?).with_context(|| format!("cannot write {}", output.display()))
}

/// Names under which BusyBox is called before a shell could find its applets, or by the kernel itself.
pub fn busybox_links(archive: &mut Archive) -> Result<()> {
    for name in ["sh", "setsid", "cttyhack", "mount", "umount"] {
        archive.link(&format!("bin/{name}"), "busybox")?;
    }
    for name in ["poweroff", "reboot", "halt", "modprobe"] {
        archive.link(&format!("sbin/{name}"), "../bin/busybox")?;
    }
    Ok(())
}

/// Makes an ext4 disk; `folder` is where its content is prepared.
pub fn make_disk(folder: &Path, disk: &Path, size: &str) -> Result<()> {
    setup::mkfs()?;
    let content = folder.join("disk");
    std::fs::create_dir_all(&content)?;
    std::fs::write(content.join("README"), README)?;
    let unfinished = disk.with_extension("new");
    // Dropped at once: mkfs takes the size from its command line and writes only what is not zero.
    drop(File::create(&unfinished)?);
    let mkfs = command::find("mkfs.ext4").context("mkfs.ext4 is missing")?;
    command::output(
        Command::new(mkfs).args(["-q", "-F", "-L", "linux", "-d"]).arg(&content).arg(&unfinished).arg(size),
    )?;
    std::fs::rename(&unfinished, disk)?;
    Ok(())
}
