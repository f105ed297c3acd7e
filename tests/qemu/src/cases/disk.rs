//! A guest of ours and its disk.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::case;
use super::guests::watch;
use super::life::{listed, wait_gone};
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    case("blkcheck_verifies_every_pattern_it_writes_and_sees_disk_and_memory_resized", blkcheck),
    case("a_disk_that_somebody_writes_has_no_other_user_by_whatever_name", one_writer),
];

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

fn one_writer(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    let create = |name: &str, target: &str, access: &str| {
        format!("xl create -p /store/hello.cfg name={name} \"disk=['{target},raw,xvda,{access}']\"")
    };
    let in_use = ["is in use already"];
    machine.ok(&create("a", "/store/disk0.ext4", "w"))?;
    // FAT knows no small letters, and the file lies on that disk.
    for target in ["/store/disk0.ext4", "/store/Disk0.EXT4", "/dev/vda"] {
        for access in ["w", "r"] {
            machine.fails(&create("b", target, access), &in_use)?;
        }
    }
    machine.ok(&create("b", "/store/disk1.ext4", "w"))?;
    machine.ok("xl destroy a")?;
    machine.ok("xl destroy b")?;
    // Dom0 itself writes to the disk with /store.
    machine.fails(&create("c", "/dev/vda", "w"), &in_use)?;
    for (name, target) in [("c", "/store/disk0.ext4"), ("d", "/store/DISK0.ext4"), ("e", "/dev/vda")] {
        machine.ok(&create(name, target, "r"))?;
    }
    machine.fails(&create("f", "/store/disk0.ext4", "w"), &in_use).map(drop)
}
