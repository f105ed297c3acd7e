//! `cargo xtask soak`: the campaigns, which take too long for every change.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use qemu_tests::suite;

use super::{images, lab, list};
use crate::paths::Paths;
use crate::setup;
use crate::ui;

/// Options of `cargo xtask soak`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Runs only the campaigns whose name holds this text
    #[arg(value_name = "TEXT", default_value = "")]
    filter: String,
    /// Prints the names of the campaigns and does nothing else
    #[arg(long)]
    list: bool,
}

/// Runs the campaigns; the last line says how many passed and failed.
pub fn command(paths: &Paths, options: &Options) -> Result<ExitCode> {
    let cases = suite::select_campaigns(&options.filter);
    if options.list {
        return list(&cases);
    }
    ensure!(!cases.is_empty(), "no campaign's name holds {}; `cargo xtask soak --list` prints them", options.filter);
    images(paths)?;
    setup::qemu()?;
    let lab = lab::prepare(paths, &cases)?;
    ui::say("soak", &format!("{} campaigns on {}", cases.len(), setup::qemu_version()?));
    let tally = suite::run(&cases, &lab, |line| ui::say("soak", line));
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
