//! vCPUs that come and go while they are all needed, and pCPUs too.

use anyhow::{Result, ensure};

use super::load::{WORK, boot, clean_log, load, work};
use crate::cases::linux::{PROMPT, leave};
use crate::cases::net::enter;
use crate::machine::Machine;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] =
    &[load("linux_under_load_gives_vcpus_back_and_forth_200_times_while_pcpus_come_and_go", plug)];

/// How often vCPUs go and come.
const TIMES: u32 = 200;
/// vCPUs of the guest that has fewer and more of them, and of the one beside it.
const VCPUS: u32 = 4;
const BESIDE: u32 = 2;
/// pCPUs, of which one is out of use every other time.
const PCPUS: u32 = 3;

/// What keeps a guest busy for as long as the campaign lasts: computation, pipes, futexes, and a look at the results.
const WORKS: &str = "stress-ng --quiet --cpu 2 --pipe 1 --futex 1 --timeout 0 --verify";

fn plug(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    (config.smp, config.mem) = (PCPUS, "3G".to_owned());
    let mut machine = Machine::boot(&config)?;
    for (name, vcpus) in [("beside", BESIDE), ("load", VCPUS)] {
        boot(&mut machine, name, vcpus)?;
        machine.send(&format!("{WORKS} > /tmp/said 2>&1 &\r"))?;
        machine.expect(PROMPT, WORK)?;
        leave(&mut machine)?;
    }
    for time in 0..TIMES {
        // 1, 2 or 3 vCPUs are left.
        let left = 1 + time % (VCPUS - 1);
        machine.ok(&format!("xl vcpu-set load {left}"))?;
        // Out of use and back: the pCPU that the vCPUs were on before does not matter to them.
        let pcpu = 1 + time / 2 % (PCPUS - 1);
        let change = if time % 2 == 0 { "remove" } else { "add" };
        machine.ok(&format!("xl cpupool-cpu-{change} Pool-0 {pcpu}"))?;
        enter(&mut machine, "load")?;
        work(&mut machine, &until_online(left))?;
        leave(&mut machine)?;
        machine.ok(&format!("xl vcpu-set --ignore-host load {VCPUS}"))?;
        enter(&mut machine, "load")?;
        // On Arm Linux makes them present, and leaves it to user space to turn them on.
        let on = "until echo 1 > /sys/devices/system/cpu/cpu$n/online; do usleep 100000; done 2>/dev/null";
        work(&mut machine, &format!("n={left}; while [ $n -lt {VCPUS} ]; do {on}; n=$((n+1)); done"))?;
        work(&mut machine, &until_online(VCPUS))?;
        leave(&mut machine)?;
        if time % 10 == 9 {
            (lab.say)(&format!("{} of {TIMES} times", time + 1));
            in_order(&mut machine)?;
        }
    }
    Ok(())
}

/// Waits in Linux until so many vCPUs are online.
fn until_online(vcpus: u32) -> String {
    let list = if vcpus == 1 { "0".to_owned() } else { format!("0-{}", vcpus - 1) };
    format!("until [ \"$(cat /sys/devices/system/cpu/online)\" = {list} ]; do usleep 100000; done")
}

/// Both guests still work, have found nothing wrong in what they did, and have a clean log.
fn in_order(machine: &mut Machine) -> Result<()> {
    for name in ["beside", "load"] {
        enter(machine, name)?;
        let said = work(machine, "cat /tmp/said; pidof stress-ng > /dev/null")?;
        ensure!(!said.contains("fail"), "the work in {name} went wrong:\n{said}");
        clean_log(machine)?;
        leave(machine)?;
    }
    Ok(())
}
