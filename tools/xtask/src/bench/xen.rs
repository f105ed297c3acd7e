//! Runs the measuring guest on Debian's Xen, whose Dom0 is a Debian Linux that has nothing else to do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu_tests::machine::Machine;
use qemu_tests::xen::PROMPT;

use super::domains;
use super::output::{self, END, Output};
use super::watch::{self, Trace};
use crate::paths::Paths;
use crate::ui;
use crate::xen;

/// Creates the domains and shows what the measuring one has said in the end.
const SCRIPT: &str = r#"xl create /guest/partner.cfg || exit
xl create /guest/bench.cfg || exit
log=/var/log/xen/console/guest-bench.log
while ! grep -q "UNTIL" $log; do
    xl domid bench > /dev/null 2>&1 || break
    sleep 1
done
cat $log
BUILD
"#;

/// Says which build of Xen it is.
pub const BUILD: &str = r#"xl info | sed -n "s/^build_id *:/build-id:/p""#;

/// Time for the boot of Xen and Linux on a busy host, and for the measurements.
const LONG: Duration = Duration::from_secs(600);

/// What Xen says about itself, in its log and by its tools.
const ABOUT: &[&str] = &["Xen version", "Using scheduler", "build-id:"];

/// The figures, and the lines that say which Xen they are of.
pub fn measure(paths: &Paths, cpu: &str) -> Result<(Output, Vec<String>)> {
    let (mut machine, booted) = boot(paths, cpu, "", END, None)?;
    let spinner = ui::spinner("bench", "measuring on Xen");
    let done = machine.inside(PROMPT, "sh /guest/run", LONG).context("the measuring guest on Xen")?;
    spinner.finish_and_clear();
    ensure!(done.text.contains(END), "the measuring guest on Xen did not come to its end:\n{}", done.text);
    Ok((output::read(&done.text)?, about(&(booted + &done.text))))
}

/// What is executed on each path, and the lines that say by which Xen.
pub fn follow(paths: &Paths, cpu: &str) -> Result<(Trace, Vec<String>)> {
    let socket = watch::socket();
    let (mut machine, booted) = boot(paths, cpu, watch::WATCHED, watch::MARK, Some(&socket))?;
    let build = machine.inside(PROMPT, BUILD, LONG)?;
    machine.send("sh /guest/run\r")?;
    let trace = watch::follow(&mut machine, &socket, LONG).context("the measuring guest on Xen")?;
    Ok((trace, about(&(booted + &build.text))))
}

/// Boots to Dom0's prompt, with a script that starts the two domains and shows the console of the measuring one when
/// it has said `until`; returns what was said on the way.
fn boot(paths: &Paths, cpu: &str, word: &str, until: &str, debugger: Option<&Path>) -> Result<(Machine, String)> {
    let read = |name: &str| std::fs::read(paths.image(name)).with_context(|| format!("cannot read the image {name}"));
    let script = SCRIPT.replace("UNTIL", until).replace("BUILD", BUILD);
    let mut files = vec![("paths".to_owned(), read("paths")?), ("run".to_owned(), script.into())];
    for (name, text) in domains("/guest/paths", word) {
        files.push((name, text.into_bytes()));
    }
    let place = paths.image("bench/xen-dom0.cpio");
    let peer = xen::with_files(&xen::peer(paths)?, &files, &place)?;
    let mut config = peer.config();
    cpu.clone_into(&mut config.cpu);
    config.icount = true;
    config.debugger = debugger.map(Path::to_path_buf);
    // The default module (silo) lets no two guests talk to each other.
    config.cmdline += " xsm=dummy";
    let spinner = ui::spinner("bench", "booting Debian's Xen and its Linux");
    let mut machine = Machine::start(&config, None)?;
    let booted = machine.expect(PROMPT, LONG)?;
    spinner.finish_and_clear();
    Ok((machine, booted))
}

/// The lines of Xen's log that name its build and its scheduler.
pub fn about(booted: &str) -> Vec<String> {
    // Before the words stands who says them: Xen, or the prompt.
    let telling = |line: &str| ABOUT.iter().find_map(|words| Some(line.get(line.find(words)?..)?.trim().to_owned()));
    booted.lines().filter_map(telling).collect()
}

#[cfg(test)]
mod tests {
    use super::about;

    #[test]
    fn xens_build_and_scheduler_are_found_in_its_log() {
        let log = "dom0# build-id: 1f\n(XEN) Using scheduler: SMP Credit Scheduler rev2 (credit2)\n(XEN) other\n";
        assert_eq!(about(log), ["build-id: 1f", "Using scheduler: SMP Credit Scheduler rev2 (credit2)"]);
    }
}
