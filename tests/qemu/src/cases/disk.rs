//! A guest of ours and its disk.

use anyhow::Result;

use super::case;
use super::life::wait_gone;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[case("blkcheck_verifies_every_pattern_it_writes", blkcheck)];

fn blkcheck(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.send("xl create -c /store/blkcheck.cfg\r")?;
    machine.expect("blkcheck: PASS", std::time::Duration::from_secs(90))?;
    machine.prompt(std::time::Duration::from_secs(30))?;
    wait_gone(&mut machine, "blkcheck")
}
