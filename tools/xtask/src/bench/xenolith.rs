//! Runs the measuring guest on Xenolith.

use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::config::{Config, Disk, Module};
use qemu_tests::machine::Machine;

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

/// The measuring domain and its partner: name, id of the other.
const DOMAINS: &[(&str, &str)] = &[("partner", "partner=2"), ("bench", "bench=1")];

/// Time for the measurements on a busy host.
const LONG: Duration = Duration::from_secs(60);

/// Builds, boots, measures.
pub fn measure(paths: &Paths, cpu: &str) -> Result<Output> {
    build::images(paths, IMAGES)?;
    let folder = paths.images().join("bench-store");
    std::fs::create_dir_all(&folder)?;
    store::copy(&paths.image("paths"), &folder.join("paths"))?;
    for (name, arguments) in DOMAINS {
        write_if_changed(
            &folder.join(format!("{name}.cfg")),
            configuration("/store/paths", name, arguments).as_bytes(),
        )?;
    }
    let disk = paths.image("bench-store.img");
    store::prepare(&folder, &disk)?;
    let mut config = Config::new(paths.image("xenolith"));
    cpu.clone_into(&mut config.cpu);
    config.smp = 1;
    config.icount = true;
    config.modules.push(Module::Kernel(paths.image("dom0"), String::new()));
    config.disks.push(Disk { serial: "store".to_owned(), file: disk, snapshot: true });
    let spinner = ui::spinner("bench", "Xenolith");
    let mut machine = Machine::boot(&config)?;
    machine.ok("xl create /store/partner.cfg")?;
    machine.send("xl create -c /store/bench.cfg\r")?;
    let said = machine.expect(output::END, LONG).context("the measuring guest on Xenolith")?;
    spinner.finish_and_clear();
    output::read(&said)
}

/// The `xl.cfg` of a domain that runs the guest.
pub fn configuration(kernel: &str, name: &str, arguments: &str) -> String {
    format!("name = \"{name}\"\nkernel = \"{kernel}\"\nmemory = 16\nvcpus = 1\nextra = \"{arguments}\"\n")
}
