//! A guest of ours and its disk.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::case;
use super::guests::watch;
use super::life::{listed, wait_gone};
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] =
    &[case("blkcheck_verifies_every_pattern_it_writes_and_sees_disk_and_memory_resized", blkcheck)];

fn blkcheck(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    watch(&mut machine, "blkcheck.cfg extra=resize", "blkcheck: waiting for another size")?;
    // Meanwhile its memory shrinks and grows as it is told to.
    for mib in [12, 16] {
        machine.ok(&format!("xl mem-set blkcheck {mib}"))?;
        machine.ok("sleep 1")?;
        let listed = listed(&mut machine, "blkcheck")?.context("blkcheck is not listed")?;
        ensure!(listed.mem == mib, "{mib} MiB were asked for: {listed:?}");
    }
    machine.fails("xl mem-set blkcheck 17", &["may have 16384 KiB at most"])?;
    // As Linux's back end tells of another size: the new one, and its state once more.
    let domain = machine.ok("xl domid blkcheck")?;
    let back = format!("/local/domain/0/backend/vbd/{}/51712", domain.trim());
    machine.ok(&format!("xenstore-write {back}/sectors 4096 {back}/state 4"))?;
    machine.send("xl console blkcheck\r")?;
    machine.expect("blkcheck: 4096 sectors now", Duration::from_secs(30))?;
    machine.expect("blkcheck: PASS", Duration::from_secs(30))?;
    machine.prompt(Duration::from_secs(30))?;
    wait_gone(&mut machine, "blkcheck")
}
