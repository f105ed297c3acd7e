//! Runs the measuring guest on Xenolith.

use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::config::{Config, Disk, Module};
use qemu_tests::machine::Machine;

use super::domains;
use super::output::{self, Output};
use crate::build;
use crate::paths::{Paths, write_if_changed};
use crate::store;
use crate::ui;

/// What is booted.
const IMAGES: &[(&str, &str)] = &[
    ("xenolith", "the hypervisor"),
    ("dom0", "the control domain"),
    ("paths", "test guest: measures the paths through the hypervisor"),
];

/// Time for the measurements on a busy host.
const LONG: Duration = Duration::from_secs(180);

/// Builds what is booted.
pub fn build(paths: &Paths) -> Result<()> {
    build::images(paths, IMAGES).map(drop)
}

/// Boots what is built, and measures.
pub fn measure(paths: &Paths, cpu: &str) -> Result<Output> {
    let folder = paths.images().join("bench-store");
    std::fs::create_dir_all(&folder)?;
    store::copy(&paths.image("paths"), &folder.join("paths"))?;
    for (name, text) in domains("/store/paths") {
        write_if_changed(&folder.join(name), text.as_bytes())?;
    }
    let disk = paths.image("bench-store.img");
    store::prepare(&folder, &disk)?;
    let mut config = Config::new(paths.image("xenolith"));
    cpu.clone_into(&mut config.cpu);
    config.smp = 1;
    config.icount = true;
    config.modules.push(Module::Kernel(paths.image("dom0"), String::new()));
    config.disks.push(Disk { serial: "store".to_owned(), file: disk, snapshot: true });
    let spinner = ui::spinner("bench", "measuring on Xenolith");
    let mut machine = Machine::boot(&config)?;
    machine.ok("xl create /store/partner.cfg")?;
    machine.send("xl create -c /store/bench.cfg\r")?;
    let said = machine.expect(output::END, LONG).context("the measuring guest on Xenolith")?;
    spinner.finish_and_clear();
    output::read(&said)
}
