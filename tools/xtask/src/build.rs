//! Builds the bare-metal images.
//!
//! Each image is one cargo invocation, so that no image gets a feature that only another one asked for.
//! What cargo links is an ELF; what boots is its loadable bytes alone, which begin with an arm64 `Image`
//! header. Both are kept: the ELF names the addresses of a crash.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command;
use crate::flat;
use crate::paths::{Paths, write_if_changed};
use crate::setup::{self, BARE_TARGET};
use crate::ui;

/// The images: the package, and what it is in the words of the summary.
pub const IMAGES: &[(&str, &str)] = &[
    ("xenolith", "the hypervisor"),
    ("dom0", "the control domain"),
    ("hello", "demo guest: console and XenStore"),
    ("blkcheck", "demo guest: writes and verifies a disk"),
    ("blkbench", "demo guest: measures a disk"),
    ("httpd", "demo guest: serves a page about itself"),
    ("ping", "demo guest: asks another for echoes"),
    ("netperf", "demo guest: source or sink of a TCP stream"),
    ("parallel", "demo guest: computes on all its vCPUs"),
];

/// Those of them that guests boot from.
pub fn guests() -> impl Iterator<Item = &'static str> {
    IMAGES.iter().map(|(name, _)| *name).filter(|name| !matches!(*name, "xenolith" | "dom0"))
}

/// What only the tests boot.
pub const TEST_IMAGES: &[(&str, &str)] = &[
    ("hostile", "test guest: breaks one rule after the other"),
    ("conform", "test guest: asks for what the manuals promise"),
    ("paths", "test guest: measures the paths through the hypervisor"),
    ("frames", "test guest: measures the switch"),
    ("busy", "test guest: keeps its vCPU busy"),
];

/// The examples of the guest library that a case runs, and the features that examples need.
pub const EXAMPLES: &[&str] = &["events", "memory", "smoltcp", "suspend"];
pub const EXAMPLE_FEATURES: &str = "alloc,embassy-net,smoltcp,smp";

/// The image of an example.
pub fn example(name: &str) -> String {
    format!("example-{name}")
}

/// Builds the examples that a case runs.
pub fn examples(paths: &Paths) -> Result<()> {
    ui::say("build", "examples of pv-guest-lib");
    let mut cargo = setup::toolchain()?.cargo("build");
    cargo.current_dir(paths.root()).args(["--quiet", "--profile", "guest", "--package", "pv-guest-lib"]);
    cargo.args(["--features", EXAMPLE_FEATURES]);
    cargo.args(EXAMPLES.iter().flat_map(|name| ["--example", name]));
    command::run(cargo.stdout(std::io::stderr()))?;
    let folder = paths.target().join(BARE_TARGET).join("guest/examples");
    EXAMPLES.iter().try_for_each(|name| {
        let image = paths.image(&example(name));
        convert(&folder.join(name), &image.with_extension("elf"), &image)
    })
}

/// Builds a list of images and returns them in its order.
///
/// A package that does not build does not keep the others from being built, but the result is an error.
pub fn images(paths: &Paths, wanted: &[(&str, &str)]) -> Result<Vec<PathBuf>> {
    let toolchain = setup::toolchain()?;
    let mut built = Vec::new();
    let mut failed = Vec::new();
    for &(package, what) in wanted {
        ui::say("build", &format!("{package}, {what}"));
        match image(paths, toolchain, package) {
            Ok(file) => built.push(file),
            Err(error) => failed.push(format!("{package}: {error:#}")),
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(built)
}

/// Builds and prints where the images are; the text of `cargo xtask build`.
pub fn command(paths: &Paths) -> Result<()> {
    for file in images(paths, IMAGES)? {
        let bytes = std::fs::metadata(&file)?.len();
        println!("{:>9}  {}", ui::size(bytes), file.display());
    }
    Ok(())
}

fn image(paths: &Paths, toolchain: setup::Toolchain, package: &str) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo("build");
    cargo.current_dir(paths.root()).args(["--profile", profile(package), "--package", package]);
    if !ui::interactive() {
        cargo.arg("--quiet");
    }
    cargo.stdout(std::io::stderr());
    command::run(&mut cargo)?;
    let linked = paths.target().join(BARE_TARGET).join(profile(package)).join(package);
    let elf = paths.image(&format!("{package}.elf"));
    let image = paths.image(package);
    convert(&linked, &elf, &image).with_context(|| format!("cannot make {}", image.display()))?;
    Ok(image)
}

/// Guests are built small: each create reads one and copies it, and what they do themselves is little.
fn profile(package: &str) -> &'static str {
    if matches!(package, "xenolith" | "dom0" | "frames") { "release" } else { "guest" }
}

/// Writes the flat image and keeps the ELF beside it, touching neither when nothing changed.
pub fn convert(linked: &Path, elf: &Path, image: &Path) -> Result<()> {
    let data = std::fs::read(linked).with_context(|| format!("cannot read {}", linked.display()))?;
    command::make_parent(elf)?;
    write_if_changed(elf, &data)?;
    write_if_changed(image, &flat::from_elf(&data)?)
}
