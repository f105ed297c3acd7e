//! Who gets how much of a pCPU, and what becomes of wrong wishes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::linux::{inside, leave, start};
use super::net::enter;
use super::{alone, case};
use crate::machine::Machine;
use crate::pairs::{self, Meetings};
use crate::parse;
use crate::shares;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    case("shares_caps_and_wake_ups_are_what_the_scheduler_promises", promises),
    case("four_pairs_of_domains_do_four_times_the_work_of_one_and_meet_at_no_lock", pairs),
    case("busy_guests_spread_over_the_pcpus_wherever_they_begin", spread),
    case("pools_and_affinities_are_kept_and_wrong_ones_change_nothing", pools),
    alone("linux_with_four_vcpus_on_two_pcpus_sees_stolen_time_and_gives_vcpus_back_and_forth", stolen),
];

/// How often Linux gives one or three of its vCPUs back and gets them again, while it works on all that it has.
const HOT_PLUGS: usize = 5;

fn promises(lab: &Lab) -> Result<()> {
    let mut figures = shares::measure(&lab.config())?;
    figures.extend(shares::measure_hammers(&lab.config(), false)?);
    for (name, _, most) in shares::rows(false) {
        let figure = figures.get(&name).with_context(|| format!("no {name}"))?;
        ensure!(*figure <= most, "{name} is {figure}, which is above {most}: {figures:?}");
    }
    Ok(())
}

/// On pCPUs of their own they are to have 3.2 times the throughput of one, at least.
fn pairs(lab: &Lab) -> Result<()> {
    let Meetings { one_pair, many_pairs } = pairs::meetings(&lab.config(), &lab.lock_waits)?;
    ensure!(
        one_pair.is_some(),
        "no pCPU waited for a lock while the two domains of a pair ran at once: would it be seen?"
    );
    ensure!(many_pairs.is_none(), "a pCPU waited for a lock in {}", many_pairs.unwrap_or_default());
    let times = pairs::scale(&lab.config())?;
    (lab.say)(&format!("four pairs make {times:.2} times the round trips of one"));
    ensure!(times >= 3.2, "four pairs make {times:.2} times the round trips of one");
    Ok(())
}

/// How many busy guests there are, on two pCPUs, and how long they are looked at.
const HOGS: usize = 6;
const LOOK: Duration = Duration::from_secs(4);

/// One after the other they come to where room is, and one that came first keeps no pCPU to itself.
fn spread(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    for n in 0..HOGS {
        machine.ok(&format!("xl create /store/busy.cfg name=hog{n} \"extra='window=1000000'\""))?;
    }
    let times = |machine: &mut Machine| -> Result<Vec<f64>> {
        let domains = parse::list(&machine.ok("xl list")?)?;
        Ok(domains.iter().filter(|domain| domain.name.starts_with("hog")).map(|domain| domain.time).collect())
    };
    machine.ok("sleep 1")?;
    let before = times(&mut machine)?;
    std::thread::sleep(LOOK);
    let ran: Vec<f64> = times(&mut machine)?.iter().zip(before).map(|(after, before)| after - before).collect();
    let fair = ran.iter().sum::<f64>() / HOGS as f64;
    ensure!(ran.len() == HOGS && fair > 0.5, "the guests did not work: {ran:?}");
    ensure!(ran.iter().all(|ran| (ran / fair - 1.0).abs() < 0.2), "in the same time the guests ran for {ran:?} s");
    Ok(())
}

fn pools(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    config.smp = 4;
    let mut machine = Machine::boot(&config)?;
    let create = |machine: &mut Machine, words: &str| machine.ok(&format!("xl create -p /store/hello.cfg {words}"));
    create(&mut machine, "name=a vcpus=2 cpus=1-3 cpus_soft=3 cpu_weight=512 cap=150")?;
    let shares = machine.ok("xl sched-credit2")?;
    ensure!(shares.contains("Cpupool Pool-0: ") && shares.contains("    512  150"), "{shares}");
    machine.ok("xl sched-credit2 -d a -w 1024")?;
    ensure!(machine.ok("xl sched -d a")?.contains("   1024  150"), "the weight is not what it was set to");
    machine.ok("xl vcpu-pin a 1 2 -")?;
    for (command, words) in [
        ("xl sched-credit2 -d a -w 0", "weight 0 is not"),
        ("xl sched-credit2 -d a -w 65536", "weight 65536 is not"),
        ("xl sched-credit2 -d a -c 201", "cap 201 is not between 0 and 200"),
        ("xl vcpu-pin a 0 4", "cpu 4 does not exist"),
        ("xl vcpu-pin a 2 1", "vCPU 2 does not exist"),
        ("xl cpupool-cpu-remove Pool-0 2", "could run on no cpu of pool 'Pool-0'"),
        ("xl cpupool-cpu-remove Pool-0 0-3", "'Pool-0' would have no cpu left"),
        ("xl cpupool-create name=rt", "no free cpu found"),
        ("xl cpupool-create name=rt cpus=9", "cpu 9 illegal or not free"),
        ("xl cpupool-destroy Pool-0", "belong together"),
        ("xl cpupool-migrate 0 Pool-0", "belong together"),
        ("xl cpupool-migrate a rt", "Pool 'rt' does not exist"),
        ("xl vcpu-set a 3", "maxcpus is 2"),
        ("xl create /store/hello.cfg name=b cpus=7", "cpu 7 does not exist"),
        ("xl create /store/hello.cfg name=b pool=rt", "Pool 'rt' does not exist"),
    ] {
        machine.fails(command, &[words])?;
    }
    let vcpus = machine.ok("xl vcpu-list a")?;
    ensure!(vcpus.contains("1-3 / 3") && vcpus.contains("  2 / 3"), "refused commands changed something:\n{vcpus}");
    ensure!(machine.ok("xl sched -d a")?.contains("   1024  150"), "refused commands changed something");
    // A pool of which each vCPU has a pCPU of its own.
    machine.ok("xl vcpu-pin a all all all")?;
    machine.ok("xl cpupool-cpu-remove Pool-0 2,3")?;
    machine.ok("xl cpupool-create name=rt sched=null cpus=2-3")?;
    machine.ok("xl cpupool-migrate a rt")?;
    let vcpus = machine.ok("xl vcpu-list a")?;
    ensure!(vcpus.contains("  2 / all") && vcpus.contains("  3 / all"), "not one pCPU each:\n{vcpus}");
    let pools = machine.ok("xl cpupool-list")?;
    ensure!(pools.contains("Pool-0               2   credit2       y          1"), "{pools}");
    ensure!(pools.contains("rt                   2      null       y          1"), "{pools}");
    ensure!(machine.ok("xl cpupool-list -c rt")?.contains("2,3"), "the pool has other pCPUs");
    ensure!(machine.sh("xl create /store/hello.cfg name=b pool=rt")?.status != 0, "a third vCPU fits two pCPUs");
    ensure!(machine.sh("xl cpupool-destroy rt")?.status != 0, "a pool with a domain is gone");
    machine.ok("xl cpupool-rename rt fast")?;
    machine.fails("xl cpupool-rename fast Pool-0", &["Pool-0"])?;
    ensure!(machine.ok("xl cpupool-list fast")?.contains("fast  "), "the pool has kept its name");
    machine.ok("xl cpupool-rename fast rt")?;
    // A pCPU in no pool runs nobody, and comes back.
    machine.ok("xl destroy a")?;
    machine.ok("xl cpupool-destroy rt")?;
    machine.ok("xl create /store/hello.cfg name=b vcpus=2")?;
    let vcpus = machine.ok("xl vcpu-list")?;
    ensure!(vcpus.matches("0-1 / all").count() == 3, "somebody may run on pCPUs out of use:\n{vcpus}");
    machine.fails("xl vcpu-pin b 0 2", &["could run on no cpu of pool 'Pool-0'"])?;
    ensure!(machine.ok("xl vcpu-list")?.matches("0-1 / all").count() == 3, "a refused command changed something");
    // The control domain has its share like any other one.
    machine.ok("xl sched -d 0 -w 512 -c 80")?;
    ensure!(machine.ok("xl sched -d 0")?.contains("    512   80"), "the control domain has another share");
    machine.ok("xl cpupool-cpu-add Pool-0 2-3")?;
    ensure!(machine.ok("xl vcpu-list")?.matches("all / all").count() == 3, "the pCPUs have not come back");
    Ok(())
}

/// Linux with four vCPUs on two pCPUs works on all that it has meanwhile.
fn stolen(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    start(&mut machine, "vcpus=4")?;
    inside(&mut machine, "for i in 1 2 3 4; do while :; do :; done & done")?;
    let stat = |machine: &mut Machine| -> Result<Vec<u64>> {
        let line = inside(machine, "head -n 1 /proc/stat")?;
        Ok(line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    };
    // Until they were started counts as stolen too, as on Xen, and Linux takes that from the first seconds' ticks.
    inside(&mut machine, "sleep 4")?;
    let before = stat(&mut machine)?;
    inside(&mut machine, "sleep 4")?;
    let spent: Vec<u64> = stat(&mut machine)?.iter().zip(before).map(|(after, before)| after - before).collect();
    let (lost, all) = (*spent.get(7).context("no stolen time")?, spent.iter().take(8).sum::<u64>());
    // Four that work on two get half of what they want; the rest of those first seconds may be in it.
    let percent = lost * 100 / all.max(1);
    ensure!((40..=80).contains(&percent), "{lost} of {all} ticks are stolen");
    for (left, vcpus) in [(3, "0-2"), (1, "0")].into_iter().cycle().take(HOT_PLUGS) {
        leave(&mut machine)?;
        // More than there are pCPUs, but not more than it has.
        machine.ok(&format!("xl vcpu-set linux {left}"))?;
        enter(&mut machine, "linux")?;
        inside(&mut machine, &online(vcpus))?;
        leave(&mut machine)?;
        machine.fails("xl vcpu-set linux 4", &["overcommmitting", "2 physical CPUs"])?;
        machine.ok("xl vcpu-set --ignore-host linux 4")?;
        enter(&mut machine, "linux")?;
        // On Arm Linux makes them present, and leaves it to user space to turn them on.
        let on = "until echo 1 > /sys/devices/system/cpu/cpu$n/online; do usleep 100000; done 2>/dev/null";
        inside(&mut machine, &format!("for n in 1 2 3; do {on}; done"))?;
        inside(&mut machine, &online("0-3"))?;
    }
    inside(&mut machine, "! dmesg | grep -iE 'stall|lockup'")?;
    leave(&mut machine)
}

/// Waits in Linux until these vCPUs are online.
fn online(vcpus: &str) -> String {
    format!("until [ \"$(cat /sys/devices/system/cpu/online)\" = {vcpus} ]; do usleep 100000; done")
}
