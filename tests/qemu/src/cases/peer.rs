//! The same binaries on Debian's Xen: what we built for Xen's ABI runs on Xen.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::machine::Machine;
use crate::suite::{Case, Lab, Needs};
use crate::xen::PROMPT;

pub(super) const CASES: &[Case] = &[
    Case { name: "hello_runs_on_debians_xen_too", needs: Needs::Xen, run: hello },
    Case { name: "blkcheck_verifies_its_disk_on_debians_xen_too", needs: Needs::Xen, run: blkcheck },
];

/// Time for a step in the emulator on a busy host.
const LONG: Duration = Duration::from_secs(120);

/// Boots Xen with its Dom0 to the shell.
fn boot(lab: &Lab) -> Result<Machine> {
    let mut machine = Machine::start(&lab.peer()?.config(), None)?;
    machine.expect(PROMPT, LONG)?;
    Ok(machine)
}

fn hello(lab: &Lab) -> Result<()> {
    let mut machine = boot(lab)?;
    let done = machine.inside(PROMPT, "xl create /guest/hello.cfg && sleep 2", LONG)?;
    ensure!(done.status == 0, "xl create on Xen: {}", done.text);
    let log = machine.inside(PROMPT, "cat /var/log/xen/console/guest-hello.log", LONG)?;
    ensure!(log.text.contains("hello"), "hello said nothing on Xen: {}", log.text);
    Ok(())
}

fn blkcheck(lab: &Lab) -> Result<()> {
    let mut machine = boot(lab)?;
    let done = machine.inside(PROMPT, "xl create /guest/blkcheck.cfg && sleep 8", LONG)?;
    ensure!(done.status == 0, "xl create on Xen: {}", done.text);
    let log = machine.inside(PROMPT, "cat /var/log/xen/console/guest-blkcheck.log", LONG)?;
    ensure!(log.text.contains("blkcheck: PASS"), "blkcheck on Xen said: {}", log.text);
    Ok(())
}
