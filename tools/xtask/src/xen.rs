//! The peer: Debian's Xen with a Debian Dom0, for tests that run one guest on both hypervisors.
//!
//! Nothing is installed; Dom0 is an initial file system of unpacked packages. Its hot-plug scripts are ours,
//! because Debian's wait for udev, which is not there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use qemu_tests::machine::Machine;
use qemu_tests::xen::{PROMPT, Peer};

use crate::command;
use crate::cpio::Archive;
use crate::foreign;
use crate::linux;
use crate::paths::{self, Paths};
use crate::rootfs::Packer;
use crate::setup;
use crate::ui;

/// What Dom0 runs before its shell. The order is Xen's own: store, then Dom0's entries in it, then consoles.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/lib/xen-4.17/bin:/sbin:/bin:/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
mkdir -p /run/lock /run/xen /run/xenstored
while read module; do insmod /modules/$module.ko; done < /modules/order
mount -t xenfs xenfs /proc/xen
brctl addbr xenbr0
ip link set xenbr0 up
ip addr add 10.0.0.254/24 dev xenbr0
xenstored --pid-file /run/xenstored.pid
xen-init-dom0
xenconsoled --log=guest --log-dir=/var/log/xen/console --pid-file /run/xenconsoled.pid
exec setsid cttyhack sh -l
"#;

const PROFILE: &str = "\
export PATH=/usr/lib/xen-4.17/bin:/sbin:/bin:/usr/sbin:/usr/bin
export PS1='dom0# '
";

/// Tells the back end which device a disk is; a file gets a loop device first.
const BLOCK_SCRIPT: &str = r#"#!/bin/sh
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
[ "$1" = add ] || exit 0
device=$(xenstore-read "$XENBUS_PATH/params")
[ -b "$device" ] || { file=$device; device=$(losetup -f); losetup "$device" "$file"; }
xenstore-write "$XENBUS_PATH/physical-device" "$(stat -c %t:%T "$device")"
xenstore-write "$XENBUS_PATH/hotplug-status" connected
"#;

/// Puts the back end's end of a cable on the bridge. The device goes by itself, and with it its port.
const VIF_SCRIPT: &str = r#"#!/bin/sh
export PATH=/sbin:/bin:/usr/sbin:/usr/bin
[ "$1" = online ] || exit 0
brctl addif "$(xenstore-read "$XENBUS_PATH/bridge")" "$vif"
ip link set "$vif" up
xenstore-write "$XENBUS_PATH/hotplug-status" connected
"#;

const XL_CONF: &str = "autoballoon = \"off\"\nlockfile = \"/run/lock/xl\"\n";

/// Creates the guest, waits for its end, shows what it left. It is a file because Xen's console drops what is
/// typed faster than Dom0 reads.
const WATCH: &str = r#"xl create /guest/guest.cfg
waited=0
while xl domid guest > /dev/null 2>&1 && [ $waited -lt SECONDS ]; do sleep 1; waited=$((waited + 1)); done
echo "-- console"
cat /var/log/xen/console/guest-guest.log
echo
echo "-- xl list"
xl list
echo "-- store"
xenstore-ls -f /local
"#;

const MODULES: &[&str] = &[
    "xen-evtchn",
    "xen-privcmd",
    "xenfs",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-blkback",
    "xen-netback",
    "bridge",
    "loop",
    "brd",
];

/// The last one is no program: libc loads it when a thread is cancelled, and nothing names it as needed.
const PROGRAMS: &[&str] = &[
    "bin/busybox",
    "usr/lib/xen-4.17/bin/xl",
    "usr/lib/xen-4.17/bin/xenstored",
    "usr/lib/xen-4.17/bin/xenconsoled",
    "usr/lib/xen-4.17/bin/xenconsole",
    "usr/lib/xen-4.17/bin/xen-init-dom0",
    "usr/bin/xenstore-ls",
    "usr/bin/xenstore-read",
    "usr/bin/xenstore-write",
    "usr/bin/xenstore-list",
    "usr/bin/xenstore-rm",
    "lib/aarch64-linux-gnu/libgcc_s.so.1",
];

/// Options of the helper command `cargo xtask xen`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Kernel of the guest, an arm64 Image
    #[arg(long, value_name = "FILE")]
    guest: PathBuf,
    /// Further lines of the guest's xl.cfg
    #[arg(long, value_name = "LINE")]
    cfg: Vec<String>,
    /// Files that Dom0 has in /guest
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Seconds after which the guest is looked at, when it has not ended before
    #[arg(long, default_value_t = 10, value_name = "S")]
    seconds: u64,
    /// CPU model
    #[arg(long, default_value = "cortex-a72", value_name = "MODEL")]
    cpu: String,
}

/// Fetches and makes what the peer is booted from.
pub fn peer(paths: &Paths) -> Result<Peer> {
    let linux = linux::guest(paths)?;
    let packages = [foreign::fetch(paths.foreign(), foreign::LINUX)?, foreign::fetch(paths.foreign(), foreign::XEN)?];
    let hypervisor = packages[1].join("boot/xen-4.17-arm64");
    ensure!(hypervisor.is_file(), "{} is missing", hypervisor.display());
    let archive = paths.foreign().join("xen-dom0.cpio");
    if !paths::is_fresh(&archive, &[&hypervisor, &std::env::current_exe()?]) {
        ui::say("xen", "initial file system for Debian's Dom0");
        let folders = packages.each_ref().map(PathBuf::as_path);
        std::fs::write(&archive, dom0(&folders)?)?;
    }
    Ok(Peer { hypervisor, kernel: linux.kernel, archive })
}

fn dom0(packages: &[&Path]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "mnt", "tmp", "root", "run", "var/lib/xen", "var/lib/xenstored"] {
        archive.folder(folder)?;
    }
    // xenconsoled ends silently when this is missing.
    archive.folder("var/log/xen/console")?;
    archive.link("var/run", "../run")?;
    archive.link("var/lock", "../run/lock")?;
    archive.device("dev/console", 5, 1)?;
    archive.file("init", INIT.as_bytes())?;
    archive.file("etc/profile", PROFILE.as_bytes())?;
    archive.file("etc/xen/xl.conf", XL_CONF.as_bytes())?;
    archive.file("etc/xen/scripts/block", BLOCK_SCRIPT.as_bytes())?;
    archive.file("etc/xen/scripts/vif-bridge", VIF_SCRIPT.as_bytes())?;
    let mut packer = Packer::new(&mut archive, packages);
    for program in PROGRAMS {
        packer.program(program)?;
    }
    packer.modules("order", MODULES)?;
    linux::busybox_links(&mut archive)?;
    archive.finish()
}

/// Writes Dom0's archive with further files in `/guest`; Linux reads archives that follow one another as one.
pub fn with_files(peer: &Peer, files: &[(String, Vec<u8>)], output: &Path) -> Result<Peer> {
    let mut bytes = std::fs::read(&peer.archive).with_context(|| format!("cannot read {}", peer.archive.display()))?;
    let mut more = Archive::default();
    for (name, data) in files {
        more.file(&format!("guest/{name}"), data)?;
    }
    bytes.extend(more.finish()?);
    command::make_parent(output)?;
    std::fs::write(output, bytes)?;
    Ok(Peer { archive: output.to_path_buf(), ..peer.clone() })
}

/// Runs a guest on Xen and prints what it said.
pub fn command(paths: &Paths, options: &Options) -> Result<()> {
    setup::qemu()?;
    let read = |file: &Path| std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let cfg =
        format!("name = \"guest\"\nkernel = \"/guest/kernel\"\nmemory = 64\nvcpus = 1\n{}\n", options.cfg.join("\n"));
    let mut files = vec![("kernel".to_owned(), read(&options.guest)?), ("guest.cfg".to_owned(), cfg.into_bytes())];
    files.push(("run".to_owned(), WATCH.replace("SECONDS", &options.seconds.to_string()).into_bytes()));
    for file in &options.file {
        let name = file.file_name().with_context(|| format!("{} has no name", file.display()))?;
        files.push((name.to_string_lossy().into_owned(), read(file)?));
    }
    let place = paths.images().join(format!("xen-dom0-{}.cpio", std::process::id()));
    let peer = with_files(&peer(paths)?, &files, &place)?;
    ui::say("xen", "booting Debian's Xen 4.17");
    let mut config = peer.config();
    config.cpu.clone_from(&options.cpu);
    let mut machine = Machine::start(&config, None)?;
    let booted = machine.expect(PROMPT, Duration::from_secs(90));
    std::fs::remove_file(&place)?;
    booted?;
    let done = machine.inside(PROMPT, "sh /guest/run", Duration::from_secs(options.seconds * 3 + 60))?;
    println!("{}", done.text);
    Ok(())
}
