//! `cargo xtask bench`: what the paths through the hypervisor cost, in instructions.
//!
//! One guest measures the same on Xen and on Xenolith, in QEMU with `-icount shift=0,sleep=off`: an instruction takes
//! a nanosecond of virtual time there, so the guest's clock counts instructions and two runs give the same figures.

mod output;
mod table;
mod xenolith;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use self::table::Figures;
use crate::paths::Paths;
use crate::setup;
use crate::ui;

/// The subcommands of `cargo xtask bench`.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Measures the paths through the hypervisor and compares them with Xen's
    Paths(PathsOptions),
}

/// Options of `cargo xtask bench paths`.
#[derive(Args, Clone, Debug)]
pub struct PathsOptions {
    /// Does not run Xen
    #[arg(long)]
    xenolith_only: bool,
    /// CPU model, in QEMU's words
    #[arg(long, default_value = "cortex-a72", value_name = "MODEL")]
    cpu: String,
}

/// Runs a subcommand.
pub fn command(paths: &Paths, command: &Command) -> Result<()> {
    match command {
        Command::Paths(options) => compare(paths, options),
    }
}

fn compare(paths: &Paths, options: &PathsOptions) -> Result<()> {
    setup::qemu()?;
    ensure!(options.xenolith_only, "Xen is not measured yet; give --xenolith-only");
    let ours = xenolith::measure(paths, &options.cpu)?;
    for failure in &ours.failures {
        ui::say("bench", failure);
    }
    println!("{}, -cpu {}, -smp 1, -icount shift=0,sleep=off; instructions:", setup::qemu_version()?, options.cpu);
    print!("{}", table::table(&Figures::new(), &ours.figures));
    let file = paths.images().join("bench/paths.json");
    crate::command::make_parent(&file)?;
    let text = serde_json::to_string_pretty(&ours.figures)?;
    std::fs::write(&file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    ui::say("bench", &format!("the figures are in {}", file.display()));
    Ok(())
}
