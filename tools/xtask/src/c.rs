//! Builds the guests in C: the library as an archive, their sources with clang, and both into an image.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::command;
use crate::paths::Paths;
use crate::setup::{self, BARE_TARGET};
use crate::ui;

/// The guests in C, in `tests/guests`, and what each is in the words of the summary.
const GUESTS: &[(&str, &str)] = &[("c-hello", "test guest in C: console, store, disk, event")];

/// The library's package, and the archive that it becomes.
pub const PACKAGE: &str = "pv-guest-c";
const ARCHIVE: &str = "libpv_guest.a";

/// How clang makes code that may run anywhere and uses no register that the library does not save.
const COMPILE: &[&str] = &[
    "--target=aarch64-none-elf",
    "-ffreestanding",
    "-fPIC",
    "-mgeneral-regs-only",
    "-O2",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
];

/// How a guest is linked: position-independent, as the build scripts of the guests in Rust have it.
const LINK: &[&str] = &["-pie", "--no-dynamic-linker", "-znotext", "--build-id=none", "--gc-sections"];

/// The names of the guests in C.
pub fn guests() -> impl Iterator<Item = &'static str> {
    GUESTS.iter().map(|(name, _)| *name)
}

/// Builds all of them.
pub fn images(paths: &Paths) -> Result<()> {
    setup::clang()?;
    ui::say("build", &format!("{PACKAGE}, the guest library for C"));
    let mut cargo = setup::toolchain()?.cargo("build");
    cargo.current_dir(paths.root()).args(["--quiet", "--profile", "guest", "--package", PACKAGE]);
    command::run(cargo.stdout(std::io::stderr()))?;
    let archive = paths.target().join(BARE_TARGET).join("guest").join(ARCHIVE);
    for (name, what) in GUESTS {
        ui::say("build", &format!("{name}, {what}"));
        image(paths, name, &archive)?;
    }
    Ok(())
}

/// How clang makes a program of Linux's that needs no library.
const FOR_LINUX: &[&str] = &[
    "--target=aarch64-linux-gnu",
    "-ffreestanding",
    "-nostdlib",
    "-static",
    "-O2",
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fuse-ld=lld",
];

/// Builds a program of Linux's in a guest, or in Dom0 on Xen, from its source, and returns its bytes.
pub fn for_linux(paths: &Paths, source: &str) -> Result<Vec<u8>> {
    setup::clang()?;
    let source = paths.root().join(source);
    let program = paths.image("linux").join(source.file_stem().unwrap_or_default());
    command::make_parent(&program)?;
    let mut clang = Command::new("clang");
    clang.args(FOR_LINUX).arg("-o").arg(&program).arg(&source);
    command::run(&mut clang)?;
    Ok(std::fs::read(&program)?)
}

fn image(paths: &Paths, name: &str, archive: &PathBuf) -> Result<()> {
    let library = paths.root().join("pv-guest-lib");
    let object = paths.image(&format!("{name}.o"));
    let linked = paths.image(&format!("{name}.linked"));
    command::make_parent(&object)?;
    let source = paths.root().join("tests/guests").join(name).join("main.c");
    let mut clang = Command::new("clang");
    clang.args(COMPILE).arg("-I").arg(library.join("c/include")).arg("-c").arg(source).arg("-o").arg(&object);
    command::run(&mut clang)?;
    let mut lld = Command::new("ld.lld");
    lld.args(LINK).arg("-T").arg(library.join("image.ld")).arg("-o").arg(&linked).arg(&object).arg(archive);
    command::run(&mut lld)?;
    build::convert(&linked, &paths.image(&format!("{name}.elf")), &paths.image(name))
}
