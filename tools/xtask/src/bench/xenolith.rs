//! Runs the measuring guest on Xenolith.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::config::{Config, Disk, Module};
use qemu_tests::machine::Machine;

use super::domains;
use super::output::{self, Output};
use super::watch::{self, Trace};
use crate::build;
use crate::paths::{Paths, write_if_changed};
use crate::setup;
use crate::store;
use crate::ui;

/// What is booted.
const IMAGES: &[(&str, &str)] = &[
    ("xenolith", "the hypervisor"),
    ("dom0", "the control domain"),
    ("paths", "test guest: measures the paths through the hypervisor"),
    ("frames", "test guest: measures the switch"),
];

/// The guest that measures the switch, which needs nobody else.
const FRAMES: &str = "name = \"frames\"\nkernel = \"/store/frames\"\nmemory = 4\nvcpus = 1\n";

/// Time for the measurements on a busy host.
const LONG: Duration = Duration::from_secs(180);

/// Builds what is booted, and sets up what boots it.
pub fn build(paths: &Paths) -> Result<()> {
    setup::qemu()?;
    build::images(paths, IMAGES).map(drop)
}

/// Boots what is built, and measures.
pub fn measure(paths: &Paths, cpu: &str) -> Result<Output> {
    let mut machine = start(paths, cpu, "", None)?;
    let spinner = ui::spinner("bench", "measuring on Xenolith");
    let said = machine.expect(output::END, LONG).context("the measuring guest on Xenolith")?;
    machine.prompt(LONG)?;
    machine.send("xl create -c /store/frames.cfg\r")?;
    let switched = machine.expect(output::END, LONG).context("the guest that measures the switch")?;
    spinner.finish_and_clear();
    let (mut output, more) = (output::read(&said)?, output::read(&switched)?);
    output.figures.extend(more.figures);
    output.failures.extend(more.failures);
    Ok(output)
}

/// Boots what is built, and follows the paths with a debugger.
pub fn follow(paths: &Paths, cpu: &str) -> Result<Trace> {
    let socket = watch::socket();
    let mut machine = start(paths, cpu, watch::WATCHED, Some(&socket))?;
    watch::follow(&mut machine, &socket, LONG).context("the measuring guest on Xenolith")
}

/// Boots and starts the two domains, the measuring one with its console attached.
fn start(paths: &Paths, cpu: &str, word: &str, debugger: Option<&Path>) -> Result<Machine> {
    let folder = paths.images().join("bench-store");
    std::fs::create_dir_all(&folder)?;
    for image in ["paths", "frames"] {
        store::copy(&paths.image(image), &folder.join(image))?;
    }
    write_if_changed(&folder.join("frames.cfg"), FRAMES.as_bytes())?;
    for (name, text) in domains("/store/paths", word) {
        write_if_changed(&folder.join(name), text.as_bytes())?;
    }
    let disk = paths.image("bench-store.img");
    store::prepare(&folder, &disk)?;
    let mut config = Config::new(paths.image("xenolith"));
    cpu.clone_into(&mut config.cpu);
    config.smp = 1;
    config.icount = true;
    config.debugger = debugger.map(Path::to_path_buf);
    config.modules.push(Module::Kernel(paths.image("dom0"), String::new()));
    config.disks.push(Disk { serial: "store".to_owned(), file: disk, snapshot: true });
    let mut machine = Machine::boot(&config)?;
    machine.ok("xl create /store/partner.cfg")?;
    machine.send("xl create -c /store/bench.cfg\r")?;
    Ok(machine)
}
