//! `cargo xtask bench`: what the paths through the hypervisor cost, in instructions.
//!
//! One guest measures the same on Xen and on Xenolith, in QEMU with `-icount shift=0,sleep=off`: an instruction takes
//! a nanosecond of virtual time there, so the guest's clock counts instructions and two runs give the same figures.

mod gate;
mod output;
mod record;
mod table;
mod xen;
mod xenolith;

use anyhow::Result;
use clap::{Args, Subcommand};

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
    Paths(PathsOptions),
    /// Measures the paths and fails when one has become longer than the record in the repository says
    Gate(gate::Options),
}

/// Options of `cargo xtask bench paths`.
#[derive(Args, Clone, Debug)]
pub struct PathsOptions {
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

/// Runs a subcommand.
pub fn command(paths: &Paths, command: &Command) -> Result<()> {
    match command {
        Command::Paths(options) => compare(paths, options),
        Command::Gate(options) => gate::command(paths, options),
    }
}

/// The table of both, and the same as JSON.
fn compare(paths: &Paths, options: &PathsOptions) -> Result<()> {
    setup::qemu()?;
    xenolith::build(paths)?;
    let ours = xenolith::measure(paths, &options.cpu)?;
    complain("Xenolith", &ours);
    let (xen, about_xen) = if options.xenolith_only {
        // Without a record, or for another CPU, the column stays empty.
        let record = Record::read(&record::kept(paths)).unwrap_or_default();
        if record.cpu == options.cpu { (record.xen, record.about_xen) } else { Default::default() }
    } else {
        let (theirs, about) = xen::measure(paths, &options.cpu)?;
        complain("Xen", &theirs);
        (theirs.figures, about)
    };
    let (qemu, rustc) = (setup::qemu_version()?, setup::rustc_version()?);
    let record = Record { qemu, rustc, cpu: options.cpu.clone(), about_xen, xen, xenolith: ours.figures };
    println!("{}, -cpu {}, -smp 1, -icount shift=0,sleep=off", record.qemu, record.cpu);
    record.about_xen.iter().for_each(|line| println!("Xen: {line}"));
    print!("{}", table::table(&record.xen, &record.xenolith));
    let file = if options.update { record::kept(paths) } else { paths.images().join("bench/paths.json") };
    record.write(&file)?;
    ui::say("bench", &format!("the figures are in {}", file.display()));
    Ok(())
}

/// Says which paths the guest could not measure.
fn complain(hypervisor: &str, output: &Output) {
    for failure in &output.failures {
        ui::say("bench", &format!("{hypervisor}: {failure}"));
    }
}

/// The configurations of the two domains that take part, by file name. The partner is created first, and both
/// hypervisors count domains from 1.
fn domains(kernel: &str) -> [(String, String); 2] {
    [("partner", "partner=2"), ("bench", "bench=1")].map(|(name, extra)| {
        let text = format!("name = \"{name}\"\nkernel = \"{kernel}\"\nmemory = 16\nvcpus = 1\nextra = \"{extra}\"\n");
        (format!("{name}.cfg"), text)
    })
}
