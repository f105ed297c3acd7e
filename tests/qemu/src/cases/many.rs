//! Many domains: at once, and one after the other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::life::{resources, timed};
use super::linux::{LONG, PROMPT, leave};
use super::net::enter;
use super::{alone, case};
use crate::machine::Machine;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    alone("eight_linux_guests_share_four_pcpus_fairly", eight),
    case("a_thousand_domains_come_and_go_and_leave_nothing", thousand),
    case("domain_number_101_is_created_within_1_percent_of_the_time_of_number_2", hundred),
];

/// How many guests run at once; the lab's store has a disk for each.
const GUESTS: u32 = 8;

/// Reads and writes its disk for ever, and counts the rounds where Dom0 can see it.
const WORK: &str = "while dd if=/dev/xvda of=/dev/null bs=64k count=32 iflag=direct 2>/dev/null && \
                    dd if=/dev/zero of=/mnt/f bs=64k count=16 conv=fsync 2>/dev/null; do \
                    n=$((n+1)); xenstore-write data/rounds $n; done &\r";

fn eight(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    config.smp = 4;
    config.mem = "4G".to_owned();
    let mut machine = Machine::boot(&config)?;
    let mut domains = Vec::new();
    for guest in 0..GUESTS {
        let disk = format!("'disk=[\"/store/disk{guest}.ext4,raw,xvda,w\"]'");
        machine.ok(&format!("xl create /store/linux.cfg name=linux{guest} memory=192 {disk}"))?;
        domains.push(machine.ok(&format!("xl domid linux{guest}"))?.trim().to_owned());
    }
    // They boot at once, and nobody works before all have booted.
    for guest in 0..GUESTS {
        machine.send(&format!("xl console linux{guest}\r"))?;
        machine.expect(PROMPT, LONG)?;
        leave(&mut machine)?;
    }
    for guest in 0..GUESTS {
        enter(&mut machine, &format!("linux{guest}"))?;
        machine.send(WORK)?;
        leave(&mut machine)?;
    }
    let before = rounds(&mut machine, &domains)?;
    machine.sh_within("sleep 30", LONG)?;
    let after = rounds(&mut machine, &domains)?;
    let made: Vec<u32> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    let (least, most) = (made.iter().min().context("no guest")?, made.iter().max().context("no guest")?);
    ensure!(*least > 0 && least * 3 >= *most, "the guests made {made:?} rounds in the same time");
    Ok(())
}

/// The rounds each guest has made.
fn rounds(machine: &mut Machine, domains: &[String]) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for domain in domains {
        let done = machine.sh(&format!("xenstore-read /local/domain/{domain}/data/rounds"))?;
        // A guest that has not finished its first round has written nothing yet.
        all.push(if done.status == 0 { done.text.trim().parse()? } else { 0 });
    }
    Ok(all)
}

fn thousand(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    // The first domain may make the heap of Dom0 grow; that stays.
    let cycle = |machine: &mut Machine| {
        machine.ok("xl create /store/hello.cfg")?;
        machine.ok("xl destroy hello")
    };
    cycle(&mut machine)?;
    let before = resources(&mut machine)?;
    for round in 0..1000 {
        cycle(&mut machine).with_context(|| format!("round {round}"))?;
    }
    machine.sh_within("sleep 1", Duration::from_secs(20))?;
    let after = resources(&mut machine)?;
    ensure!(before.0 == after.0, "free memory was {} and is {}", before.0, after.0);
    ensure!(before.1 == after.1, "XenStore was\n{}\nand is\n{}", before.1, after.1);
    Ok(())
}

fn hundred(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    (config.smp, config.icount, config.mem) = (1, true, "4G".to_owned());
    let mut machine = Machine::boot(&config)?;
    let create = |machine: &mut Machine, n| {
        // Until the domains before it have come to rest.
        machine.ok("sleep 0.1")?;
        timed(machine, &format!("xl create /store/hello.cfg name=hello{n} memory=4"))
    };
    create(&mut machine, 1)?;
    // The quickest of a few: an interrupt of the serial line or a timer may fall into any one of them.
    let mut times = Vec::new();
    for n in 2..=101 {
        times.push(create(&mut machine, n)?);
    }
    let quickest = |times: &[u64]| times.iter().copied().min().context("nothing was created");
    let (second, last) = (quickest(&times[..8])?, quickest(&times[92..])?);
    let all = format!("all, from the second on: {times:?}");
    ensure!(last * 100 <= second * 101, "the second domain took {second} us of virtual time, number 101 {last}; {all}");
    Ok(())
}
