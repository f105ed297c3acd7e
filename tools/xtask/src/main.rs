//! `cargo xtask`: the commands of this workspace.
//!
//! Two of them matter, `run` and `test`; the others are parts of these that are useful alone.

#![forbid(unsafe_code)]

mod bench;
mod build;
mod c;
mod command;
mod cpio;
mod flat;
mod foreign;
mod fuzz;
mod header;
mod linux;
mod paths;
mod rootfs;
mod run;
mod setup;
mod store;
mod symbolize;
mod test;
mod trace;
mod ui;
mod xen;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::paths::Paths;

/// Builds, boots and tests Xenolith. `cargo xtask run` on a fresh machine sets up what is missing.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Checks what this host has and installs or names what is missing
    Doctor,
    /// Builds the images and prints where they are
    Build,
    /// Boots Xenolith in QEMU and leaves you at Dom0's prompt
    Run(run::Options),
    /// Runs all tests: rules, lints, host tests, then the cases in QEMU
    Test(test::Options),
    /// Runs the campaigns, which take minutes or hours each and are no part of `test`
    Soak(test::soak::Options),
    /// Measures what the paths through the hypervisor cost, in instructions
    #[command(subcommand)]
    Bench(bench::Command),
    /// Looks for bytes that bring Dom0's network to do what it must not
    Fuzz(fuzz::Options),
    /// Writes the header for guests in C from the library that they link
    Header,
    /// Names the functions and lines of a crash that Xenolith printed
    Symbolize(symbolize::Options),
    /// Sums up what `xl trace` wrote, and draws it for Perfetto
    Trace(trace::Options),
    /// Runs a guest on Debian's Xen, to compare
    #[command(hide = true)]
    Xen(xen::Options),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{:>9}  {error:#}", "error");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let paths = Paths::find()?;
    match cli.command {
        Cmd::Doctor => setup::doctor()?,
        Cmd::Build => build::command(&paths)?,
        Cmd::Run(options) => return run::command(&paths, &options),
        Cmd::Test(options) => return test::command(&paths, &options),
        Cmd::Soak(options) => return test::soak::command(&paths, &options),
        Cmd::Bench(command) => bench::command(&paths, &command)?,
        Cmd::Fuzz(options) => return fuzz::command(&paths, &options),
        Cmd::Header => header::command(&paths)?,
        Cmd::Symbolize(options) => symbolize::command(&paths, &options)?,
        Cmd::Trace(options) => trace::command(&options)?,
        Cmd::Xen(options) => xen::command(&paths, &options)?,
    }
    Ok(ExitCode::SUCCESS)
}
