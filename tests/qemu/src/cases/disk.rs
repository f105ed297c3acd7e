//! A guest of ours and its disk.

use std::time::Duration;

use anyhow::Result;

use super::case;
use super::guests::watch;
use super::life::wait_gone;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] =
    &[case("blkcheck_verifies_every_pattern_it_writes_and_sees_its_disk_resized", blkcheck)];

fn blkcheck(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    watch(&mut machine, "blkcheck.cfg extra=resize", "blkcheck: waiting for another size")?;
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
