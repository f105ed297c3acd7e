//! What the host must have: the bare-metal target, QEMU, the ext4 tool.
//!
//! Each has routes that are tried in order; the first that works is taken and named. Packages are installed
//! only when they are missing, the host is Debian and we are root; else the error is the command to type.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;
use crate::ui;

/// The target of everything that runs without an operating system.
pub const BARE_TARGET: &str = "aarch64-unknown-none-softfloat";

/// Debian's packages of the second toolchain route.
const DEBIAN_RUST: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "lld"];

/// How cargo builds for the bare-metal target here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The target's `core` is installed (by rustup, or with the compiler).
    Prebuilt,
    /// Debian's compiler builds `core` from its source package.
    BuildStd,
}

impl Toolchain {
    /// The words that `doctor` prints.
    pub fn describe(self) -> &'static str {
        match self {
            Toolchain::Prebuilt => "the installed target aarch64-unknown-none-softfloat",
            Toolchain::BuildStd => "core built from Debian's rust-web-src",
        }
    }

    /// A cargo command that can build for the bare-metal target; `verb` is `build`, `clippy` and so on.
    pub fn cargo(self, verb: &str) -> Command {
        let mut cargo = cargo(verb);
        cargo.args(["--target", BARE_TARGET]);
        if self == Toolchain::BuildStd {
            cargo.env("RUSTC_BOOTSTRAP", "1");
            cargo.arg("-Zbuild-std=core,alloc,compiler_builtins");
            cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_LINKER", "ld.lld");
        }
        cargo
    }
}

/// A cargo command for the host.
pub fn cargo(verb: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(verb);
    cargo
}

/// True when the compiler comes with its lints and its formatter, or rustup has brought them.
pub fn lints() -> bool {
    let present = || {
        let works = |verb| command::output(cargo(verb).arg("--version")).is_ok();
        works("clippy") && works("fmt")
    };
    if !present() && command::find("rustup").is_some() {
        ui::say("setup", "rustup component add clippy rustfmt");
        // When this fails the answer below says so.
        let _ = command::run(Command::new("rustup").args(["component", "add", "clippy", "rustfmt"]));
    }
    present()
}

/// Finds, and where it can installs, a compiler for the bare-metal target.
pub fn toolchain() -> Result<Toolchain> {
    if target_library_is_present() {
        return Ok(Toolchain::Prebuilt);
    }
    if command::find("rustup").is_some() {
        ui::say("setup", &format!("rustup target add {BARE_TARGET}"));
        let added = command::run(Command::new("rustup").args(["target", "add", BARE_TARGET]));
        if added.is_ok() && target_library_is_present() {
            return Ok(Toolchain::Prebuilt);
        }
    }
    if !source_of_core_is_present() && is_debian() {
        install(DEBIAN_RUST)?;
    }
    if source_of_core_is_present() {
        return Ok(Toolchain::BuildStd);
    }
    bail!("no compiler for {BARE_TARGET}; type: rustup target add {BARE_TARGET}");
}

/// Makes sure that QEMU for arm64 is there.
pub fn qemu() -> Result<()> {
    // The network card's boot ROM (ipxe-qemu) is not needed: the machines are started without one.
    program("qemu-system-aarch64", &["qemu-system-arm"])
}

/// Makes sure that ext4 images can be made.
pub fn mkfs() -> Result<()> {
    program("mkfs.ext4", &["e2fsprogs"])
}

/// Makes sure that guests in C can be built.
pub fn clang() -> Result<()> {
    program("clang", &["clang"])?;
    program("ld.lld", &["lld"])
}

/// Makes sure that packages made for another architecture can be unpacked.
pub fn dpkg() -> Result<()> {
    if command::find("apt-get").is_none() || command::find("dpkg-deb").is_none() {
        bail!(
            "the demo guests are Debian packages for arm64, fetched with apt-get and dpkg-deb, and this host has \
             no apt; run with --store DIR, a folder with guests of your own"
        );
    }
    Ok(())
}

/// Prints what is here, what is missing and which route is taken.
pub fn doctor() -> Result<()> {
    let mut missing = 0;
    let mut report = |name: &str, found: Result<String>| match found {
        Ok(text) => ui::say("ok", &format!("{name}: {text}")),
        Err(error) => {
            missing += 1;
            ui::say("missing", &format!("{name}: {error:#}"));
        }
    };
    report("compiler", toolchain().map(|route| route.describe().to_owned()));
    report("QEMU", qemu().and_then(|()| qemu_version()));
    report("mkfs.ext4", mkfs().map(|()| "present".to_owned()));
    report("clang and ld.lld", clang().map(|()| "present".to_owned()));
    report("apt", dpkg().map(|()| "present".to_owned()));
    if missing > 0 {
        bail!("{missing} missing; the lines above say what to type");
    }
    Ok(())
}

/// QEMU's own first line about itself.
pub fn qemu_version() -> Result<String> {
    let text = command::output(Command::new("qemu-system-aarch64").arg("--version"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The compiler's own line about itself.
pub fn rustc_version() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Ok(command::output(Command::new(rustc).arg("--version"))?.trim().to_owned())
}

fn program(name: &str, packages: &[&str]) -> Result<()> {
    if command::find(name).is_some() {
        return Ok(());
    }
    install(packages)?;
    if command::find(name).is_none() {
        bail!("{name} is still missing after installing {}", packages.join(" "));
    }
    Ok(())
}

/// Installs Debian packages, or fails with the command that would.
fn install(packages: &[&str]) -> Result<()> {
    let typed = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !is_debian() {
        bail!("{} needed; on Debian type: sudo {typed}", packages.join(" "));
    }
    if !is_root() {
        bail!("type: sudo {typed}");
    }
    ui::say("setup", &typed);
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-y"]).args(words);
        // Its stdout is chatter, and ours belongs to the console of the machine.
        command.stdout(std::io::stderr());
        command
    };
    // The lists may be stale or absent on a fresh machine; an update that half fails may still do.
    let _ = command::run(&mut apt(&["update"]));
    let mut words = vec!["install", "--no-install-recommends"];
    words.extend(packages);
    command::run(&mut apt(&words))
}

fn is_debian() -> bool {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    text.lines().any(|line| line == "ID=debian" || line.starts_with("ID_LIKE=") && line.contains("debian"))
}

fn is_root() -> bool {
    command::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// True when the compiler has a `core` for the target.
fn target_library_is_present() -> bool {
    let asked = command::output(Command::new("rustc").args(["--print", "target-libdir", "--target", BARE_TARGET]));
    let Ok(folder) = asked else {
        return false;
    };
    std::fs::read_dir(folder.trim())
        .is_ok_and(|files| files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-")))
}

/// True when the compiler's folder holds the source of `core`.
fn source_of_core_is_present() -> bool {
    let asked = command::output(Command::new("rustc").args(["--print", "sysroot"]));
    asked.is_ok_and(|root| {
        std::path::Path::new(root.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
    })
}
