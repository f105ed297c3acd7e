//! Debian packages for arm64, fetched and unpacked beside the system, never installed.
//!
//! apt runs with a private state folder and the host's own list of sources, so the host's configuration
//! and package database stay as they are, signatures are checked as usual, and no root is needed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command;
use crate::setup;
use crate::ui;

/// A named set of packages that are unpacked into one folder.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// The folder's name in the cache.
    pub name: &'static str,
    /// The packages, dependencies included; a name that ends in `*` stands for the newest that fits.
    pub packages: &'static [&'static str],
}

/// What the Linux demo guest is made of: a kernel, a shell, and XenStore's tools.
pub const LINUX: Set = Set {
    name: "linux",
    packages: &[
        "linux-image-6.1.0-*-arm64",
        "busybox-static",
        "xenstore-utils",
        "libxenstore4",
        "libxentoolcore1",
        "libc6",
    ],
};

/// What a Dom0 on Debian's own Xen needs besides `LINUX`.
pub const XEN: Set = Set {
    name: "xen",
    packages: &[
        "xen-hypervisor-4.17-arm64",
        "xen-utils-4.17",
        "xen-utils-common",
        "libxencall1",
        "libxendevicemodel1",
        "libxenevtchn1",
        "libxenforeignmemory1",
        "libxengnttab1",
        "libxenhypfs1",
        "libxenmisc4.17",
        "libxentoollog1",
        "libbz2-1.0",
        "libfdt1",
        "libgcc-s1",
        "liblzma5",
        "liblzo2-2",
        "libncurses6",
        "libtinfo6",
        "libuuid1",
        "libyajl2",
        "libzstd1",
        "zlib1g",
    ],
};

/// What measures disks and networks, beside the C library in `LINUX`. BusyBox's `dd` and `date` have no fractions.
pub const MEASURE: Set =
    Set { name: "measure", packages: &["coreutils", "iperf3", "libiperf0", "libsctp1", "libssl3"] };

/// What puts the Linux guest under load in the campaigns, with the libraries that are not in `LINUX`.
pub const LOAD: Set = Set {
    name: "load",
    packages: &[
        "stress-ng",
        "make",
        "tcc",
        "libapparmor1",
        "libbsd0",
        "libcrypt1",
        "libdrm2",
        "libegl1",
        "libexpat1",
        "libffi8",
        "libgbm1",
        "libgles2",
        "libglvnd0",
        "libjpeg62-turbo",
        "libjudydebian1",
        "libkmod2",
        "liblzma5",
        "libmd0",
        "libsctp1",
        "libssl3",
        "libwayland-server0",
        "libx11-xcb1",
        "libxau6",
        "libxcb-randr0",
        "libxcb1",
        "libxdmcp6",
        "libxxhash0",
        "libzstd1",
        "zlib1g",
    ],
};

/// Returns the folder a set is unpacked in, fetching it when it is not there yet.
pub fn fetch(cache: &Path, set: Set) -> Result<PathBuf> {
    let folder = cache.join(set.name);
    let done = folder.join(".complete");
    let wanted = set.packages.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|had| had == wanted) {
        return Ok(folder);
    }
    setup::dpkg()?;
    let apt = Apt::open(cache)?;
    let names = apt.resolve(set.packages)?;
    let debs = apt.download(set.name, &names)?;
    // A half-unpacked folder of an earlier try is replaced; it holds nothing but what we put there.
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot replace {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder)?;
    for deb in &debs {
        command::run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&folder))?;
    }
    std::fs::write(&done, wanted)?;
    Ok(folder)
}

/// apt with a private state folder.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Prepares the state folder and brings the package lists.
    fn open(cache: &Path) -> Result<Self> {
        let folder = cache.join("apt");
        for part in ["lists/partial", "cache/archives/partial", "debs"] {
            std::fs::create_dir_all(folder.join(part)).with_context(|| format!("cannot create {part} in the cache"))?;
        }
        std::fs::write(folder.join("status"), "")?;
        let apt = Self { folder };
        let spinner = ui::spinner("fetch", "package lists for arm64");
        // A source of the host that has nothing for arm64, or is down, makes the update fail in part; what
        // counts is whether the packages are found afterwards.
        let updated = command::output(apt.command("apt-get").arg("update"));
        spinner.finish_and_clear();
        if let Err(error) = updated {
            ui::say("fetch", &format!("warning: {error:#}"));
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let place = |name: &str| self.folder.join(name).display().to_string();
        for setting in [
            "APT::Architecture=arm64".to_owned(),
            "APT::Architectures=arm64".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
            format!("Dir::State={}", place("")),
            format!("Dir::State::status={}", place("status")),
            format!("Dir::State::lists={}", place("lists")),
            format!("Dir::Cache={}", place("cache")),
        ] {
            command.arg("-o").arg(setting);
        }
        command.env("LC_ALL", "C");
        command
    }

    /// Replaces each name with a `*` by the newest package that fits it.
    fn resolve(&self, names: &[&str]) -> Result<Vec<String>> {
        names.iter().map(|name| self.resolve_one(name)).collect()
    }

    fn resolve_one(&self, name: &str) -> Result<String> {
        let Some((before, after)) = name.split_once('*') else {
            return Ok(name.to_owned());
        };
        let all = command::output(self.command("apt-cache").arg("pkgnames").arg(before))?;
        newest(&all, before, after)
            .with_context(|| format!("the package sources of this host have no {name} for arm64 (Debian 12 has)"))
    }

    /// Downloads the packages and returns their files.
    fn download(&self, set: &str, names: &[String]) -> Result<Vec<PathBuf>> {
        let debs = self.folder.join("debs").join(set);
        if debs.exists() {
            std::fs::remove_dir_all(&debs)?;
        }
        std::fs::create_dir_all(&debs)?;
        let bar = ui::bar("fetch", &format!("{} packages for arm64: {set}", names.len()), 100);
        let mut command = self.command("apt-get");
        command.args(["-qq", "-o", "APT::Status-Fd=1", "download"]).args(names);
        let mut child = command.current_dir(&debs).stdout(Stdio::piped()).spawn().context("cannot start apt-get")?;
        if let Some(pipe) = child.stdout.take() {
            for line in BufReader::new(pipe).lines() {
                // dlstatus:<item>:<percent of all, with decimals>:<text>
                let line = line?;
                let percent = line.split([':', '.']).nth(2).and_then(|field| field.parse().ok());
                if let Some(percent) = percent {
                    bar.set_position(percent);
                }
            }
        }
        let status = child.wait()?;
        bar.finish_and_clear();
        if !status.success() {
            bail!("apt-get could not download {} ({status})", names.join(" "));
        }
        let mut files: Vec<PathBuf> = std::fs::read_dir(&debs)?.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|ext| ext == "deb"));
        if files.len() != names.len() {
            bail!("apt-get downloaded {} of {} packages into {}", files.len(), names.len(), debs.display());
        }
        Ok(files)
    }
}

/// Of the names `before<number>after`, the one with the highest number.
fn newest(names: &str, before: &str, after: &str) -> Option<String> {
    let number = |name: &str| name.strip_prefix(before)?.strip_suffix(after)?.parse::<u64>().ok();
    let best = names.lines().filter_map(|name| Some((number(name)?, name))).max()?;
    Some(best.1.to_owned())
}

/// The file or folder in `folder` whose name starts with `prefix`.
pub fn with_prefix(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .with_context(|| format!("no {prefix}* in {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_kernel_is_chosen_by_number_and_variants_are_left_out() {
        let names = "linux-image-6.1.0-9-arm64\nlinux-image-6.1.0-47-cloud-arm64\nlinux-image-6.1.0-31-arm64\n";
        let found = newest(names, "linux-image-6.1.0-", "-arm64");
        assert_eq!(found.as_deref(), Some("linux-image-6.1.0-31-arm64"));
        assert_eq!(newest("linux-image-6.1.0-47-rt-arm64", "linux-image-6.1.0-", "-arm64"), None);
    }
}
