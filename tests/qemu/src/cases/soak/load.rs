//! Debian's Linux at work on more vCPUs than there are pCPUs, with nothing in its log that should not be there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cases::linux::{PROMPT, leave};
use crate::cases::net::enter;
use crate::machine::Machine;
use crate::suite::{Case, Lab, Needs};

pub(super) const CASES: &[Case] = &[
    load("linux_with_twice_the_vcpus_of_1_pcpu_works_with_a_clean_log", |lab| overcommit(lab, 1)),
    load("linux_with_twice_the_vcpus_of_2_pcpus_works_with_a_clean_log", |lab| overcommit(lab, 2)),
    load("linux_with_twice_the_vcpus_of_4_pcpus_works_with_a_clean_log", |lab| overcommit(lab, 4)),
    load("linux_with_twice_the_vcpus_of_8_pcpus_works_with_a_clean_log", |lab| overcommit(lab, 8)),
];

pub(super) const fn load(name: &'static str, run: fn(&Lab) -> Result<()>) -> Case {
    Case { name, needs: Needs::Load, alone: true, run }
}

/// Time for a piece of work in the emulator, with up to sixteen vCPUs on a busy host.
pub(super) const WORK: Duration = Duration::from_secs(900);

/// The most vCPUs of one guest here.
const MOST: u32 = 8;

/// What a guest does, one after the other; each fails if what was worked on is not right. It is as much for many vCPUs as for
/// few, since the host has few CPUs for all of them.
fn works(vcpus: u32) -> [(&'static str, String); 4] {
    let stress = |what: &str, operations: u32| {
        format!("stress-ng --quiet --{what} 0 --{what}-ops {} --verify", operations / vcpus)
    };
    [
        ("computes", stress("cpu", 400)),
        ("talks through pipes", stress("pipe", 20_000)),
        ("waits on futexes", stress("futex", 20_000)),
        ("compiles", "sh /load/compile".to_owned()),
    ]
}

/// What a kernel says that has lost time, an interrupt or a lock.
const COMPLAINTS: &str = "rcu.*(stall|detected)|soft lockup|hard lockup|BUG|WARNING|Oops|spurious|hung task|blocked for more than|Call trace|nobody cared";

/// One guest with all the vCPUs there may be, and then two with half of them each.
fn overcommit(lab: &Lab, pcpus: u32) -> Result<()> {
    let mut config = lab.config();
    (config.smp, config.mem) = (pcpus, "3G".to_owned());
    for guests in [1, 2] {
        let vcpus = pcpus * 2 / guests;
        if vcpus > MOST {
            continue;
        }
        let mut machine = Machine::boot(&config)?;
        let names: Vec<String> = (0..guests).map(|n| format!("load{n}")).collect();
        for name in &names {
            boot(&mut machine, name, vcpus)?;
            leave(&mut machine)?;
        }
        for (what, command) in works(vcpus) {
            (lab.say)(&format!("{guests} with {vcpus} vCPUs on {pcpus} pCPUs: {what}"));
            for name in &names {
                enter(&mut machine, name)?;
                machine.send(&format!("{{ {command}; echo $? > /tmp/status; }} > /tmp/said 2>&1 &\r"))?;
                machine.expect(PROMPT, WORK)?;
                leave(&mut machine)?;
            }
            for name in &names {
                enter(&mut machine, name)?;
                finished(&mut machine).with_context(|| format!("{name} {what}"))?;
                leave(&mut machine)?;
            }
        }
        for name in &names {
            enter(&mut machine, name)?;
            clean_log(&mut machine)?;
            leave(&mut machine)?;
        }
    }
    Ok(())
}

/// Creates a guest that has the tools, and waits for its shell.
pub(super) fn boot(machine: &mut Machine, name: &str, vcpus: u32) -> Result<()> {
    machine.send(&format!("xl create -c /store/load.cfg name={name} vcpus={vcpus}\r"))?;
    machine.expect("linux: user space after", WORK)?;
    let said = machine.expect(PROMPT, WORK)?;
    ensure!(said.contains(&format!("{vcpus} vCPU")), "the guest counts other vCPUs:\n{said}");
    Ok(())
}

/// Runs a command in a guest that must succeed.
pub(super) fn work(machine: &mut Machine, command: &str) -> Result<String> {
    let done = machine.inside(PROMPT, command, WORK)?;
    ensure!(done.status == 0, "`{command}` in the guest failed with {}:\n{}", done.status, done.text);
    Ok(done.text)
}

/// Waits for the work in the background, which must have succeeded.
fn finished(machine: &mut Machine) -> Result<()> {
    work(machine, "until [ -s /tmp/status ]; do usleep 200000; done; cat /tmp/said; mv /tmp/status /tmp/last")?;
    work(machine, "grep -qx 0 /tmp/last").map(|_| ())
}

/// Nothing in the guest's log says that it lost time.
pub(super) fn clean_log(machine: &mut Machine) -> Result<()> {
    work(machine, &format!("! dmesg | grep -iE '{COMPLAINTS}'")).map(|_| ())
}
