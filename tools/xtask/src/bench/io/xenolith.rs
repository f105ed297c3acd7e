//! The measuring guests on Xenolith.

use std::time::Duration;

use anyhow::{Context, Result};
use qemu_tests::config::{Config, Disk, Module};
use qemu_tests::machine::Machine;

use super::guest::{self, ALONE, DISK_MIB, DOM0, END, Guest};
use super::{Found, scaled};
use crate::build;
use crate::paths::{Paths, write_if_changed};
use crate::store;
use crate::ui;

/// What is booted.
const IMAGES: &[(&str, &str)] = &[("xenolith", "the hypervisor"), ("dom0", "the control domain")];

/// Time for a part of the measurements on a busy host.
const LONG: Duration = Duration::from_secs(400);

/// The key that leaves a console.
const LEAVE: &str = "\x1d";

/// Builds what is booted, boots it, and measures.
pub fn measure(paths: &Paths, cpu: &str, guest: &Guest) -> Result<Found> {
    build::images(paths, IMAGES).map(drop)?;
    let folder = paths.images().join("io-store");
    std::fs::create_dir_all(&folder)?;
    store::copy(&guest.kernel, &folder.join("vmlinuz"))?;
    store::copy(&guest.ramdisk, &folder.join("guest.cpio"))?;
    let network = format!("bridge add xenbr0 host-only ip={DOM0}/24\n");
    write_if_changed(&folder.join("network.cfg"), network.as_bytes())?;
    for (name, text) in guest::configs("/store", &format!("ram:{DISK_MIB}M")) {
        write_if_changed(&folder.join(name), text.as_bytes())?;
    }
    let disk = paths.image("io-store.img");
    store::prepare(&folder, &disk)?;
    let mut config = Config::new(paths.image("xenolith"));
    cpu.clone_into(&mut config.cpu);
    config.smp = 1;
    config.icount = true;
    config.modules.push(Module::Kernel(paths.image("dom0"), String::new()));
    config.disks.push(Disk { serial: "store".to_owned(), file: disk, snapshot: true });
    let mut machine = Machine::boot(&config)?;
    let spinner = ui::spinner("bench", "measuring on Xenolith");
    machine.ok("iperf3 -s xenbr0")?;
    // Nobody asks a machine for a guest in its first moment: a second without work, of the machine's own time, is always the same.
    machine.ok("sleep 1")?;
    let created = machine.ok("time xl create /store/first.cfg")?;
    watch(&mut machine, ALONE)?;
    machine.ok("xl create /store/second.cfg")?;
    let said = watch(&mut machine, END)?;
    spinner.finish_and_clear();
    let mut figures = guest::read(&said);
    figures.extend(create(&created).map(|seconds| ("create".to_owned(), seconds * 1e6)));
    Ok(Found { figures: scaled(&figures), about: Vec::new(), said })
}

/// Looks at the console of the first guest until it has said `words`, and leaves it.
fn watch(machine: &mut Machine, words: &str) -> Result<String> {
    machine.send("xl console first\r")?;
    let said = machine.expect(words, LONG).context("the measuring guest on Xenolith")?;
    machine.send(LEAVE)?;
    machine.prompt(LONG)?;
    Ok(said)
}

/// The seconds that `time` said.
fn create(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.trim().strip_prefix("real "))?.trim().strip_suffix('s')?.parse().ok()
}
