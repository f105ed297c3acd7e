//! The same binaries on Debian's Xen: what we built for Xen's ABI runs on Xen.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::machine::Machine;
use crate::suite::{Case, Lab, Needs};
use crate::xen::PROMPT;

pub(super) const CASES: &[Case] = &[
    on_xen("hello_runs_on_debians_xen_too", |lab| says(lab, &["hello"], "hello", "hello")),
    on_xen("blkcheck_verifies_its_disk_on_debians_xen_too", |lab| {
        says(lab, &["blkcheck"], "blkcheck", "blkcheck: PASS")
    }),
    on_xen("blkbench_measures_its_disk_on_debians_xen_too", |lab| {
        says(lab, &["blkbench"], "blkbench", "blkbench: PASS")
    }),
    on_xen("two_vcpus_of_a_guest_of_ours_compute_at_once_on_debians_xen_too", |lab| {
        says(lab, &["parallel"], "parallel", "parallel: PASS cpus=2 primes=17984 of=17984 turns=1000")
    }),
    on_xen("a_ping_of_ours_loses_nothing_on_debians_xen_too", |lab| {
        says(lab, &["httpd", "ping"], "ping", "PASS sent=100 received=100")
    }),
    on_xen("a_stream_from_source_to_sink_arrives_unharmed_on_debians_xen_too", |lab| {
        says(lab, &["sink", "source"], "sink", "PASS received=16777216")
    }),
    on_xen("a_guest_of_ours_goes_on_after_debians_xen_has_suspended_it", suspend),
    on_xen("httpd_serves_debians_dom0_on_debians_xen_too", httpd),
];

const fn on_xen(name: &'static str, run: fn(&Lab) -> Result<()>) -> Case {
    Case { name, needs: Needs::Xen, alone: false, run }
}

/// Time for a step in the emulator on a busy host.
const LONG: Duration = Duration::from_secs(120);

/// Boots Xen with its Dom0 to the shell.
fn boot(lab: &Lab) -> Result<Machine> {
    let mut machine = Machine::start(&lab.peer()?.config(), None)?;
    machine.expect(PROMPT, LONG)?;
    Ok(machine)
}

/// Runs a command of Dom0's that must succeed.
fn dom0(machine: &mut Machine, command: &str) -> Result<String> {
    let done = machine.inside(PROMPT, command, LONG)?;
    ensure!(done.status == 0, "`{command}` on Xen failed with {}: {}", done.status, done.text);
    Ok(done.text)
}

/// Waits until a guest has said something on its console.
fn wait_for(machine: &mut Machine, name: &str, words: &str) -> Result<()> {
    let said = dom0(machine, &format!("sh /guest/wait {name} '{words}'"))?;
    ensure!(said.contains(words), "{name} on Xen said: {said}");
    Ok(())
}

/// Creates guests and waits until one of them has said something.
fn says(lab: &Lab, guests: &[&str], name: &str, words: &str) -> Result<()> {
    let mut machine = boot(lab)?;
    for guest in guests {
        dom0(&mut machine, &format!("xl create /guest/{guest}.cfg"))?;
    }
    wait_for(&mut machine, name, words)
}

fn suspend(lab: &Lab) -> Result<()> {
    let mut machine = boot(lab)?;
    for name in ["suspend", "devices"] {
        dom0(&mut machine, &format!("xl create /guest/{name}.cfg"))?;
        wait_for(&mut machine, name, "count 1")?;
        let said = dom0(&mut machine, &format!("sh /guest/suspend {name}"))?;
        for words in ["Restored after a suspension", "Cancelled after a suspension", "it went on"] {
            ensure!(said.contains(words), "{name} said: {said}");
        }
        // What it says is shown from the start each time. It hears that it is to end once its disk is connected again.
        let disk = said.matches("the disk begins with Some([00, 00, 00, 00, 00, 00, 00, 00]): Ok").count();
        ensure!(name == "suspend" || disk >= 3, "the disk was not connected again: {said}");
    }
    Ok(())
}

fn httpd(lab: &Lab) -> Result<()> {
    let mut machine = boot(lab)?;
    dom0(&mut machine, "xl create /guest/httpd.cfg")?;
    wait_for(&mut machine, "httpd", "http://10.0.0.80:80/")?;
    let said = dom0(&mut machine, "sh /guest/fetch")?;
    ensure!(said.contains("requests 101") && said.contains("rx_bad 0"), "httpd on Xen says of itself: {said}");
    Ok(())
}
