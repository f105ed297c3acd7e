//! `cargo xtask fuzz`: looks for bytes that bring Dom0's network to do what it must not.
//!
//! The targets are those of `tests/fuzz`, whose tests tell them the same stories each time; this command looks for new
//! ones, for as long as it is given. Our crates are built with counters at their branches, which lead the search.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::command;
use crate::paths::Paths;
use crate::setup;
use crate::ui;

/// The profile that it is built with, which is also the folder of what was built.
const PROFILE: &str = "fuzz";

/// Options of `cargo xtask fuzz`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What to try [default: all, one after the other]
    target: Option<String>,
    /// For how long, each target
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// The seed of all chance; another one searches elsewhere
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Runs only the bytes of this file, which an earlier search has left
    #[arg(long, value_name = "FILE", requires = "target")]
    replay: Option<PathBuf>,
    /// Prints the targets and does nothing else
    #[arg(long)]
    list: bool,
}

/// Searches; fails when something was found.
pub fn command(paths: &Paths, options: &Options) -> Result<ExitCode> {
    let engine = build(paths)?;
    let listed = command::output(Command::new(&engine).arg("--list"))?;
    if options.list {
        print!("{listed}");
        return Ok(ExitCode::SUCCESS);
    }
    let known: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let wanted = match &options.target {
        Some(name) if !known.contains(&name.as_str()) => {
            bail!("there is no target {name}; there are {}", known.join(", "))
        }
        Some(name) => vec![name.as_str()],
        None => known,
    };
    let (all, mut failed) = (wanted.len(), Vec::new());
    for name in wanted {
        if !holds(paths, options, &engine, name)? {
            failed.push(name);
        }
    }
    println!("{} held, {} failed{}", all - failed.len(), failed.len(), list(&failed));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names behind a number, if there are any.
fn list(names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
}

/// Searches one target; false when bytes were found that make it fail.
fn holds(paths: &Paths, options: &Options, engine: &Path, name: &str) -> Result<bool> {
    let crashes = paths.target().join("fuzz-crashes").join(name);
    let mut engine = Command::new(engine);
    engine.arg(name).arg("--crashes").arg(&crashes);
    engine.args(["--seconds", &options.seconds.to_string(), "--seed", &options.seed.to_string()]);
    if let Some(file) = &options.replay {
        engine.arg("--replay").arg(file);
    }
    ui::say("fuzz", name);
    let status = engine.status().with_context(|| format!("cannot start {}", command::line(&engine)))?;
    if !status.success() {
        ui::say("fuzz", &format!("{name}: FAILED; bytes that do it are in {}", crashes.display()));
    }
    Ok(status.success())
}

/// Builds the engine, in a folder of its own: the same crates without counters are elsewhere.
fn build(paths: &Paths) -> Result<PathBuf> {
    let target: &Path = &paths.target().join("fuzz");
    let mut cargo = setup::cargo("build");
    cargo.args(["--quiet", "--profile", PROFILE, "--package", "fuzz-engine", "--target-dir"]).arg(target);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", paths.root().join("tests/fuzz/engine/instrument.sh"));
    ui::say("build", "the engine; the first time takes some minutes");
    command::run(cargo.current_dir(paths.root()))?;
    Ok(target.join(PROFILE).join("fuzz-engine"))
}
