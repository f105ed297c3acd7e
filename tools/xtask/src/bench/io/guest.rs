//! The Linux guest that measures: one kernel and one initial file system for both hypervisors.
//!
//! The guest needs nobody who types. Its command line says what it is, and it says on its console what it found, a line
//! for each figure, so that the same script runs where the console is a log file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::foreign;
use crate::linux;
use crate::paths::{self, Paths};
use crate::rootfs::Packer;
use crate::ui;

/// Dom0's address on the bridge.
pub const DOM0: &str = "10.0.0.254";
/// MiB of the RAM-backed disk.
pub const DISK_MIB: u32 = 64;
/// What the first guest says when it is done with Dom0 and waits for the second.
pub const ALONE: &str = "io: alone";
/// What the first guest says last.
pub const END: &str = "io: end";

/// What the kernel runs. The uptime comes first, because it is one of the figures.
const INIT: &str = r#"#!/bin/sh
mount -t proc proc /proc
read up rest < /proc/uptime
echo "io: userspace $up"
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read module; do insmod /modules/$module.ko; done < /modules/order
say() { echo "io: $1 $2"; }
word() { sed -n "s/.*$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
ip link set lo up
tries=0
while [ ! -d /sys/class/net/eth0 ] && [ $tries -lt 200 ]; do tries=$((tries + 1)); usleep 20000; done
ip addr add $(word io.ip)/24 dev eth0
ip link set eth0 up
case $(word io.role) in
first) . /etc/first ;;
second) iperf3 -s > /dev/null ;;
esac
poweroff -f
"#;

/// What the first guest measures. A figure is said by `say`; `dd` tells seconds, `ping` milliseconds, `iperf3` Mbit/s.
const FIRST: &str = r#"
seconds() { /bin/dd "$@" 2>&1 | sed -n 's/.*copied, \([0-9.]*\) s,.*/\1/p'; }
rate() { timeout 10 iperf3 -f m "$@" 2>&1 | tee /tmp/iperf | sed -n 's/.* \([0-9.]*\) Mbits.sec.*receiver.*/\1/p'; }
answers() { ping -c 1 -W 1 $1 > /dev/null; }
tries=0
while [ ! -b /dev/xvda ] && [ $tries -lt 200 ]; do tries=$((tries + 1)); usleep 20000; done
# What was never written may cost less to read.
seconds if=/dev/zero of=/dev/xvda bs=1M count=MIB oflag=direct > /dev/null
say read_4k $(seconds if=/dev/xvda of=/dev/null bs=4k count=4000 iflag=direct)
say write_4k $(seconds if=/dev/zero of=/dev/xvda bs=4k count=4000 oflag=direct)
say read_1m $(seconds if=/dev/xvda of=/dev/null bs=1M count=MIB iflag=direct)
say write_1m $(seconds if=/dev/zero of=/dev/xvda bs=1M count=MIB oflag=direct)
until answers DOM0; do :; done
say ping $(ping -q -c 20 DOM0 | sed -n 's/.*= [0-9.]*.\([0-9.]*\).*/\1/p')
say to_dom0 $(rate -c DOM0 -n 256M)
cat /tmp/iperf
say from_dom0 $(rate -c DOM0 -n 256M -R)
cat /tmp/iperf
echo ALONE
until answers $(word io.peer); do :; done
sleep 1
say to_guest $(rate -c $(word io.peer) -n 256M)
cat /tmp/iperf
echo END
"#;

/// The modules of Debian's kernel that the guest loads.
const MODULES: &[&str] = &["xen-blkfront", "xen-netfront"];

/// What measures. BusyBox has a `dd` of its own at another place.
const TOOLS: &[&str] = &["bin/dd", "bin/date", "usr/bin/iperf3"];

/// The files of the guest.
pub struct Guest {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial file system.
    pub ramdisk: PathBuf,
    /// An archive of what measures, for a Dom0 that is Linux.
    pub tools: PathBuf,
}

/// Fetches and makes what is missing.
pub fn prepare(paths: &Paths) -> Result<Guest> {
    let kernel = linux::guest(paths)?.kernel;
    let packages =
        [foreign::fetch(paths.foreign(), foreign::LINUX)?, foreign::fetch(paths.foreign(), foreign::MEASURE)?];
    let folders = packages.each_ref().map(PathBuf::as_path);
    let made = paths.foreign().join("bench-io");
    std::fs::create_dir_all(&made)?;
    let (ramdisk, tools) = (made.join("guest.cpio"), made.join("tools.cpio"));
    let this_program = std::env::current_exe()?;
    if !paths::is_fresh(&ramdisk, &[&kernel, &this_program]) || !paths::is_fresh(&tools, &[&this_program]) {
        ui::say("bench", "initial file system of the measuring Linux");
        let measure = archive(
            &tools,
            |packer| TOOLS.iter().try_for_each(|tool| packer.program(tool)),
            Archive::default(),
            &folders,
        )?;
        let guest = archive(
            &ramdisk,
            |packer| {
                packer.program("bin/busybox")?;
                packer.modules("order", MODULES)
            },
            frame()?,
            &folders,
        )?;
        // Linux takes archives that follow one another for one. They are not compressed: that would be measured too.
        std::fs::write(&ramdisk, [guest, measure].concat())?;
    }
    Ok(Guest { kernel, ramdisk, tools })
}

/// Packs an archive and writes it.
fn archive(
    place: &Path,
    pack: impl FnOnce(&mut Packer<'_>) -> Result<()>,
    mut archive: Archive,
    packages: &[&Path],
) -> Result<Vec<u8>> {
    pack(&mut Packer::new(&mut archive, packages))?;
    let bytes = archive.finish()?;
    std::fs::write(place, &bytes).with_context(|| format!("cannot write {}", place.display()))?;
    Ok(bytes)
}

/// The folders and scripts of the guest.
fn frame() -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "tmp"] {
        archive.folder(folder)?;
    }
    archive.device("dev/console", 5, 1)?;
    archive.file("init", INIT.as_bytes())?;
    let texts =
        [("DOM0", DOM0.to_owned()), ("MIB", DISK_MIB.to_string()), ("ALONE", ALONE.into()), ("END", END.into())];
    let first = texts.iter().fold(FIRST.to_owned(), |text, (word, value)| text.replace(word, value));
    archive.file("etc/first", first.as_bytes())?;
    linux::busybox_links(&mut archive)?;
    Ok(archive)
}

/// The configurations of both guests, by file name; their files are in `folder`, and the first has the disk `disk`.
pub fn configs(folder: &str, disk: &str) -> [(String, String); 2] {
    [("first", 1), ("second", 2)].map(|(role, number)| {
        let extra = format!("console=hvc0 quiet panic=1 io.role={role} io.ip=10.0.0.{number} io.peer=10.0.0.2");
        let disk = if role == "first" { format!("disk = [ \"{disk},raw,xvda,w\" ]\n") } else { String::new() };
        let text = format!(
            "name = \"{role}\"\nkernel = \"{folder}/vmlinuz\"\nramdisk = \"{folder}/guest.cpio\"\nextra = \"{extra}\"\n\
             memory = 256\nvcpus = 1\nvif = [ \"bridge=xenbr0\" ]\n{disk}"
        );
        (format!("{role}.cfg"), text)
    })
}

/// The figures that a guest has said, by name, in the guest's units.
pub fn read(console: &str) -> BTreeMap<String, f64> {
    let figure = |line: &str| {
        let mut words = line.trim().strip_prefix("io: ")?.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    console.lines().filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn figures_are_read_among_other_lines() {
        let console = "[    0.1] Linux\r\nio: userspace 0.91\r\nio: alone\r\nio: read_4k 0.200123\r\nio: to_dom0 \r\n";
        let found = read(console);
        assert_eq!((found.len(), found["userspace"], found["read_4k"]), (2, 0.91, 0.200123));
    }
}
