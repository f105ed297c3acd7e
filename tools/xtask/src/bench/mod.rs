//! `cargo xtask bench`: what the paths through the hypervisor cost, in instructions, and how fair its scheduler is.
//!
//! One guest measures the same on Xen and on Xenolith, in QEMU with `-icount shift=0,sleep=off`: an instruction takes
//! a nanosecond of virtual time there, so the guest's clock counts instructions and two runs give the same figures.

mod counts;
mod functions;
mod gate;
mod io;
mod output;
mod record;
mod report;
mod sched;
mod table;
mod watch;
mod xen;
mod xenolith;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::output::Output;
use self::record::Record;
use crate::paths::Paths;
use crate::setup;
use crate::ui;

pub use self::gate::check;

/// The CPU model of the record.
const CPU: &str = "cortex-a72";

/// The subcommands of `cargo xtask bench`.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Measures the paths through the hypervisor and compares them with Xen's
    Paths(Options),
    /// Counts what the hypervisor does on the paths beside plain instructions: exceptions, barriers, writes to system
    /// registers, invalidations of the TLB
    Counts(CountsOptions),
    /// Measures disks and networks of a Linux guest, and compares with Xen
    Io(Options),
    /// Measures the paths and fails when one has become longer than the record in the repository says
    Gate(gate::Options),
    /// Measures how fairly guests share a pCPU, how well caps hold, and how soon a vCPU that wakes up runs
    Sched(sched::Options),
    /// Draws the comparison with Xen, and how Xenolith's figures went from record to record
    Report(report::Options),
}

/// Options of `cargo xtask bench paths`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Does not run Xen, and takes its figures from the record in the repository
    #[arg(long)]
    xenolith_only: bool,
    /// Writes all figures, Xen's as well, into the record
    #[arg(long, conflicts_with_all = ["xenolith_only", "cpu"])]
    update: bool,
    /// CPU model, in QEMU's words
    #[arg(long, default_value = CPU, value_name = "MODEL")]
    cpu: String,
}

/// Options of `cargo xtask bench counts`.
#[derive(Args, Clone, Debug)]
pub struct CountsOptions {
    #[command(flatten)]
    common: Options,
    /// Shows instead in which functions of Xenolith the instructions of a path are
    #[arg(long, value_name = "PATH")]
    functions: Option<String>,
}

/// Runs a subcommand.
pub fn command(paths: &Paths, command: &Command) -> Result<()> {
    match command {
        Command::Paths(options) => measure(paths, options),
        Command::Counts(options) => count(paths, options),
        Command::Io(options) => io::command(paths, options),
        Command::Gate(options) => gate::command(paths, options),
        Command::Sched(options) => sched::command(paths, options),
        Command::Report(options) => report::command(paths, options),
    }
}

/// The table of instructions.
fn measure(paths: &Paths, options: &Options) -> Result<()> {
    xenolith::build(paths)?;
    let ours = xenolith::measure(paths, &options.cpu)?;
    complain("Xenolith", &ours);
    let xen = || {
        let (theirs, about) = xen::measure(paths, &options.cpu)?;
        complain("Xen", &theirs);
        Ok((theirs.figures, about))
    };
    let record = beside_xen(paths, options, record::PATHS, ours.figures, xen)?;
    print!("{}", table::table(&record.xen, &record.xenolith));
    Ok(())
}

/// The table of counts, or the functions of one path.
fn count(paths: &Paths, CountsOptions { common: options, functions }: &CountsOptions) -> Result<()> {
    xenolith::build(paths)?;
    if let Some(name) = functions {
        return functions::show(paths, &options.cpu, name);
    }
    let ours = watch::counts(&xenolith::follow(paths, &options.cpu)?);
    let xen = || xen::follow(paths, &options.cpu).map(|(trace, about)| (watch::counts(&trace), about));
    let record = beside_xen(paths, options, record::COUNTS, ours, xen)?;
    print!("{}", table::counts(&record.xen, &record.xenolith));
    Ok(())
}

/// What was found of Xenolith, beside what `xen` finds of Xen or what the record knows of it; written to a file, and
/// said of which programs it is.
fn beside_xen<T: Serialize + DeserializeOwned + Default>(
    paths: &Paths,
    options: &Options,
    name: &str,
    xenolith: BTreeMap<String, T>,
    xen: impl FnOnce() -> Result<(BTreeMap<String, T>, Vec<String>)>,
) -> Result<Record<T>> {
    let (xen, about_xen) = if options.xenolith_only {
        // Without a record, or for another CPU, the column stays empty.
        let record = Record::read(&record::kept(paths, name)).ok().filter(|record| record.cpu == options.cpu);
        record.map(|record| (record.xen, record.about_xen)).unwrap_or_default()
    } else {
        xen()?
    };
    let (qemu, rustc) = (setup::qemu_version()?, setup::rustc_version()?);
    let record = Record { qemu, rustc, cpu: options.cpu.clone(), about_xen, xen, xenolith };
    println!("{}, -cpu {}, -smp 1, -icount shift=0,sleep=off", record.qemu, record.cpu);
    record.about_xen.iter().for_each(|line| println!("Xen: {line}"));
    let file = if options.update { record::kept(paths, name) } else { paths.images().join("bench").join(name) };
    record.write(&file)?;
    ui::say("bench", &format!("the figures are in {}", file.display()));
    Ok(record)
}

/// Says which paths the guest could not measure.
fn complain(hypervisor: &str, output: &Output) {
    for failure in &output.failures {
        ui::say("bench", &format!("{hypervisor}: {failure}"));
    }
}

/// The configurations of the two domains that take part, by file name, with a further word on their command lines. The
/// partner is created first, and both hypervisors count domains from 1.
fn domains(kernel: &str, word: &str) -> [(String, String); 2] {
    [("partner", "partner=2"), ("bench", "bench=1")].map(|(name, extra)| {
        let extra = format!("{extra} {word}");
        let text = format!("name = \"{name}\"\nkernel = \"{kernel}\"\nmemory = 16\nvcpus = 1\nextra = \"{extra}\"\n");
        (format!("{name}.cfg"), text)
    })
}
