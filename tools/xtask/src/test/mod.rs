//! `cargo xtask test`: everything that must hold. What needs no machine runs while the machines' images are made.

use std::process::{Command, ExitCode};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use qemu_tests::suite::{self, Case, Lab, Needs, Tally};

use crate::bench;
use crate::build;
use crate::c;
use crate::command;
use crate::header;
use crate::paths::Paths;
use crate::setup::{self, Toolchain};
use crate::ui;

mod edges;
mod lab;
mod load;
mod rules;
pub mod soak;

/// Options of `cargo xtask test`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Runs only the QEMU cases whose name holds this text
    #[arg(value_name = "TEXT")]
    filter: Option<String>,
    /// Runs only what needs no QEMU
    #[arg(long, conflicts_with = "filter")]
    host: bool,
    /// Runs only the cases on Debian's Xen, with the images that run on Xenolith
    #[arg(long, conflicts_with = "host")]
    xen: bool,
    /// Prints the names of the QEMU cases and does nothing else
    #[arg(long)]
    list: bool,
}

/// Runs the tests; the last line says how many passed and failed.
pub fn command(paths: &Paths, options: &Options) -> Result<ExitCode> {
    let filter = options.filter.as_deref().unwrap_or_default();
    let mut cases = suite::select(filter);
    cases.retain(|case| !options.xen || case.needs == Needs::Xen);
    let all = options.filter.is_none() && !options.xen;
    if options.list {
        return list(&cases);
    }
    ensure!(!cases.is_empty(), "no case's name holds {filter}; `cargo xtask test --list` prints them");
    let toolchain = setup::toolchain()?;
    let lints = all && setup::lints();
    // The images are of other profiles than the rest, so neither waits for a folder of cargo's that the other one builds in.
    let (mut tally, mut hosted) = (Tally::default(), Ok(Tally::default()));
    let lab = thread::scope(|scope| {
        if all {
            scope.spawn(|| hosted = host(paths, toolchain, lints));
        }
        lab(paths, options, &cases, &mut tally)
    })?;
    tally += hosted?;
    if let Some(lab) = lab {
        ui::say("test", &format!("{} cases on {}", cases.len(), setup::qemu_version()?));
        tally += suite::run(&cases, &lab, |line| ui::say("qemu", line));
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the names of cases.
fn list(cases: &[Case]) -> Result<ExitCode> {
    let names: String = cases.iter().map(|case| format!("{}\n", case.name)).collect();
    ui::print(&names)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the images and what else the cases need, if any are to run.
fn lab(paths: &Paths, options: &Options, cases: &[Case], tally: &mut Tally) -> Result<Option<Lab>> {
    let built = check(tally, "the images build", || images(paths));
    check(tally, "the images are small", || rules::image_sizes(paths));
    if options.host || !built {
        return Ok(None);
    }
    setup::qemu()?;
    if options.filter.is_none() && !options.xen {
        check(tally, "no path through the hypervisor has become longer", || bench::check(paths));
    }
    lab::prepare(paths, cases).map(Some)
}

/// Builds all that the cases boot.
fn images(paths: &Paths) -> Result<()> {
    build::images(paths, &[build::IMAGES, build::TEST_IMAGES].concat())?;
    build::examples(paths)?;
    c::images(paths)
}

/// What needs no machine: rules about the sources, lints, and the tests of the crates that build on the host.
fn host(paths: &Paths, toolchain: Toolchain, with_lints: bool) -> Result<Tally> {
    let tally = &mut Tally::default();
    check(tally, "dependencies point one way", || edges::check(paths));
    check(tally, "unsafe is where it may be", || rules::unsafe_code(paths));
    check(tally, "the kernel stays within its lines", || rules::kernel_lines(paths));
    check(tally, "the header for C is what its library makes", || header::check(paths));
    if with_lints {
        lints(paths, toolchain, tally);
    } else {
        ui::say("test", "skipped: this compiler comes without clippy and rustfmt");
    }
    unit_tests(paths, tally)?;
    Ok(*tally)
}

fn lints(paths: &Paths, toolchain: Toolchain, tally: &mut Tally) {
    check(tally, "the sources are formatted", || {
        quietly(paths, setup::cargo("fmt").args(["--all", "--check", "--", "-l"]))
    });
    check(tally, "clippy on the host crates", || {
        quietly(paths, setup::cargo("clippy").args(["--quiet", "--all-targets", "--", "-D", "warnings"]))
    });
    check(tally, "clippy on the bare-metal crates", || {
        // Each on its own, as they are built: together, the hypervisor's crates would get features that it must not have.
        let images = build::IMAGES.iter().chain(build::TEST_IMAGES).map(|(package, _)| *package);
        images.chain([c::PACKAGE]).try_for_each(|package| {
            let mut clippy = toolchain.cargo("clippy");
            quietly(paths, clippy.args(["--quiet", "--package", package, "--", "-D", "warnings"]))
        })
    });
    check(tally, "clippy on the guest library with its examples", || {
        let mut clippy = toolchain.cargo("clippy");
        clippy.args(["--quiet", "--package", "pv-guest-lib", "--examples", "--features", build::EXAMPLE_FEATURES]);
        quietly(paths, clippy.args(["--", "-D", "warnings"]))
    });
}

/// The tests of the default members; each one counts.
fn unit_tests(paths: &Paths, tally: &mut Tally) -> Result<()> {
    let start = Instant::now();
    let mut cargo = setup::cargo("test");
    let cargo = cargo.args(["--quiet", "--no-fail-fast"]).current_dir(paths.root());
    let done = cargo.output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&done.stdout);
    let counted = count(&said);
    *tally += counted;
    if !done.status.success() {
        eprintln!("{said}{}", String::from_utf8_lossy(&done.stderr));
        // A crate that does not compile has no tests to count.
        tally.failed += u32::from(counted.failed == 0);
    }
    let (passed, failed, seconds) = (counted.passed, counted.failed, start.elapsed().as_secs_f32());
    ui::say("test", &format!("the crates that build on the host: {passed} passed, {failed} failed ({seconds:.1} s)"));
    Ok(())
}

/// Adds up the lines `test result: ok. 5 passed; 0 failed; ...`.
fn count(said: &str) -> Tally {
    let mut tally = Tally::default();
    for line in said.lines().filter_map(|line| line.strip_prefix("test result: ")) {
        let number = |word: &str| {
            let field = line.split([';', '.']).find(|field| field.trim_end().ends_with(word))?;
            field.split_whitespace().next()?.parse::<u32>().ok()
        };
        tally.passed += number("passed").unwrap_or_default();
        tally.failed += number("failed").unwrap_or_default();
    }
    tally
}

/// Runs one step and counts it; true when it held.
fn check(tally: &mut Tally, name: &str, step: impl FnOnce() -> Result<()>) -> bool {
    let start = Instant::now();
    let done = step();
    let seconds = start.elapsed().as_secs_f32();
    match done {
        Ok(()) => {
            tally.passed += 1;
            ui::say("test", &format!("{name}: ok ({seconds:.1} s)"));
            true
        }
        Err(error) => {
            tally.failed += 1;
            ui::say("test", &format!("{name}: FAILED ({seconds:.1} s)\n{error:#}"));
            false
        }
    }
}

/// Runs a command whose output matters only when it fails.
fn quietly(paths: &Paths, command: &mut Command) -> Result<()> {
    let done = command.current_dir(paths.root()).output();
    let done = done.with_context(|| format!("cannot start {}", command::line(command)))?;
    if !done.status.success() {
        let said = [done.stdout, done.stderr].concat();
        anyhow::bail!("{}\n{}", command::line(command), String::from_utf8_lossy(&said).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn the_results_of_all_crates_are_added_up() {
        let tally = count(
            "running 3 tests\n...\ntest result: ok. 3 passed; 0 failed; 0 ignored; finished in 0.00s\n\
             test result: FAILED. 2 passed; 1 failed; 0 ignored; finished in 0.00s\n",
        );
        assert_eq!((tally.passed, tally.failed), (5, 1));
    }
}
