//! `cargo xtask run`: sets up, builds, boots, and leaves the user at Dom0's prompt or types a script there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use qemu_tests::config::{Config, Disk, Module, Nic};
use qemu_tests::machine::Machine;
use qemu_tests::marks::Filter;

use crate::build;
use crate::command;
use crate::linux;
use crate::paths::Paths;
use crate::setup;
use crate::store;
use crate::ui;

/// The status that `timeout` uses too.
const TIMED_OUT: u8 = 124;

/// With `--timeout` absent a script may run this long; longer than anything a person waits for.
const NO_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Options of `cargo xtask run`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// CPU model, in QEMU's words (cortex-a53, cortex-a57, cortex-a72, cortex-a76, max)
    #[arg(long, default_value = "cortex-a72", value_name = "MODEL")]
    pub cpu: String,
    /// Version of the machine's GIC, which is that of its guests: 2 or 3
    #[arg(long, default_value_t = 3, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(2..=3))]
    pub gic: u32,
    /// Number of pCPUs
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub smp: u32,
    /// RAM of the machine, with QEMU's suffixes
    #[arg(long, default_value = "2G", value_name = "SIZE")]
    pub mem: String,
    /// One instruction takes one nanosecond of virtual time, so that runs repeat exactly
    #[arg(long)]
    pub icount: bool,
    /// A further disk for Dom0: a raw image that Dom0's writes change (may be given more than once)
    #[arg(long, value_name = "FILE")]
    pub disk: Vec<PathBuf>,
    /// Leads a TCP port of this host's loopback to a port of Dom0's address outside, which `bridge forward` leads on to
    /// a guest (may be given more than once)
    #[arg(long, value_name = "HOST:PORT", value_parser = forward)]
    pub forward: Vec<(u16, u16)>,
    /// Leaves the network device out
    #[arg(long, conflicts_with = "forward")]
    pub no_net: bool,
    /// Folder of this host that Dom0 sees as /store, by way of a FAT32 image that is made anew when the
    /// folder has changed; what Dom0 writes goes to the image, not to the folder [default: the demo guests]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Types the lines of FILE at Dom0's prompt, one after the other; the console goes to stdout and the exit
    /// status is that of the first command that failed
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Ends the machine after S seconds, with exit status 124
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
    /// Waits for a debugger on port 1234 before the first instruction
    #[arg(long)]
    pub gdb: bool,
    /// Prints the QEMU command line and does nothing else
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command; the exit code is the script's or QEMU's.
pub fn command(paths: &Paths, options: &Options) -> Result<ExitCode> {
    let script = options.script.as_deref().map(read_script).transpose()?;
    for disk in &options.disk {
        ensure!(disk.is_file(), "--disk {}: no such file", disk.display());
    }
    let (_, image) = store_place(paths, options.store.as_deref())?;
    if options.dry_run {
        let config = config(paths, options, &image)?;
        println!("{}", command::line(Command::new(&config.emulator).args(config.arguments())));
        return Ok(ExitCode::SUCCESS);
    }
    setup::qemu()?;
    build::images(paths, build::IMAGES)?;
    let store = prepare_store(paths, options.store.as_deref())?;
    let config = config(paths, options, &store)?;
    let limit = options.timeout.map(Duration::from_secs);
    match script {
        Some(lines) => run_script(&config, &lines, limit),
        None => interactive(&config, limit),
    }
}

/// Reads `8080:80`.
fn forward(text: &str) -> Result<(u16, u16)> {
    let ports = text.split_once(':').and_then(|(host, port)| Some((host.parse().ok()?, port.parse().ok()?)));
    ports.filter(|(host, port)| *host != 0 && *port != 0).context("two ports with a colon between, such as 8080:80")
}

fn read_script(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("--script {}", file.display()))?;
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

/// The folder given with `--store`, and where its image is.
fn store_place(paths: &Paths, folder: Option<&Path>) -> Result<(Option<PathBuf>, PathBuf)> {
    let Some(folder) = folder else {
        return Ok((None, paths.image("store.img")));
    };
    // Each folder has its own image, so that two of them do not overwrite each other's writes.
    let full = folder.canonicalize().with_context(|| format!("--store {}", folder.display()))?;
    ensure!(full.is_dir(), "--store {}: not a folder", folder.display());
    let name: String = full.to_string_lossy().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    Ok((Some(full), paths.image(&format!("store{name}.img"))))
}

/// The image of the store, made anew when the folder is newer than it.
fn prepare_store(paths: &Paths, folder: Option<&Path>) -> Result<PathBuf> {
    let (folder, image) = store_place(paths, folder)?;
    let folder = match folder {
        Some(folder) => folder,
        None => {
            let folder = paths.images().join("store");
            store::demo(paths, &linux::guest(paths)?, &folder)?;
            folder
        }
    };
    store::prepare(&folder, &image)?;
    ui::say("store", &format!("/store is {}; Dom0's writes stay in this image", image.display()));
    Ok(image)
}

fn config(paths: &Paths, options: &Options, store: &Path) -> Result<Config> {
    let mut config = Config::new(paths.image("xenolith"));
    config.cpu.clone_from(&options.cpu);
    config.gic = options.gic;
    config.smp = options.smp;
    config.mem.clone_from(&options.mem);
    config.icount = options.icount;
    config.nic = (!options.no_net).then(|| Nic { forwards: options.forward.clone() });
    config.gdb = options.gdb;
    config.modules.push(Module::Kernel(paths.image("dom0"), String::new()));
    config.disks.push(Disk { serial: "store".to_owned(), file: store.to_path_buf(), snapshot: false });
    for (index, file) in options.disk.iter().enumerate() {
        let file = std::path::absolute(file)?;
        config.disks.push(Disk { serial: format!("disk{index}"), file, snapshot: false });
    }
    Ok(config)
}

/// Hands the terminal to QEMU.
fn interactive(config: &Config, limit: Option<Duration>) -> Result<ExitCode> {
    ui::say("run", "Ctrl-A X ends QEMU, Ctrl-A H lists its other keys");
    let mut qemu = Command::new(&config.emulator).args(config.arguments()).spawn().context("cannot start QEMU")?;
    let until = limit.map(|limit| Instant::now() + limit);
    loop {
        if let Some(status) = qemu.try_wait()? {
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            qemu.kill()?;
            qemu.wait()?;
            eprintln!();
            ui::say("run", "the time given by --timeout is over");
            return Ok(ExitCode::from(TIMED_OUT));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Types the lines; all of them, also after one that failed, so that a script can clean up after itself.
fn run_script(config: &Config, lines: &[String], limit: Option<Duration>) -> Result<ExitCode> {
    let until = Instant::now() + limit.unwrap_or(NO_LIMIT);
    let mut filter = Filter::default();
    let listener = Box::new(move |piece: &[u8]| {
        let mut stdout = std::io::stdout().lock();
        let shown = if piece.is_empty() { std::mem::take(&mut filter).finish() } else { filter.pass(piece) };
        // When nobody reads stdout any more the machine still runs to its end.
        let _ = stdout.write_all(&shown).and_then(|()| stdout.flush());
    });
    let mut machine = Machine::start(config, Some(listener))?;
    let left = || until.saturating_duration_since(Instant::now());
    let mut result = 0;
    let typed = type_lines(&mut machine, lines, left, &mut result);
    println!();
    match typed {
        Ok(()) => {}
        Err(_) if left().is_zero() => {
            ui::say("run", "the time given by --timeout is over");
            return Ok(ExitCode::from(TIMED_OUT));
        }
        Err(error) => bail!(error),
    }
    // A status outside of what a process can return is still a failure.
    Ok(ExitCode::from(u8::try_from(result).unwrap_or(u8::MAX)))
}

fn type_lines(machine: &mut Machine, lines: &[String], left: impl Fn() -> Duration, result: &mut i32) -> Result<()> {
    machine.prompt(left())?;
    for (index, line) in lines.iter().enumerate() {
        machine.send(&format!("{line}\r"))?;
        match machine.prompt(left()) {
            Ok(status) => {
                let status = status.with_context(|| format!("`{line}` ended without a status"))?;
                if *result == 0 {
                    *result = status;
                }
            }
            // The last line may well be `poweroff`.
            Err(_) if index + 1 == lines.len() && machine.end(Duration::ZERO).is_ok() => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
