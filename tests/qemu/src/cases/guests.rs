//! What the library promises to those who write guests with it, and what the demo guests do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::life::{listed, resources, wait_gone};
use super::linux::{inside, leave};
use super::net::{enter, guest};
use super::{alone, case};
use crate::machine::Machine;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    case("hello_lives_in_1_mib_and_ends_when_asked", in_one_mib),
    case("ten_thousand_pings_of_ours_to_linux_lose_nothing", ping),
    alone("a_stream_from_source_to_sink_arrives_unharmed", stream),
    case("an_interface_that_is_detached_under_a_guest_of_ours_leaves_nothing", detach),
    case("two_vcpus_of_a_guest_of_ours_compute_at_once", parallel),
    case("a_guest_finds_the_gic_and_the_breakpoints_that_the_manual_describes", conform),
    case("examples_of_the_library_run_and_one_is_suspended", examples),
    case("blkbench_measures_its_disk_to_the_end", blkbench),
    case("a_guest_in_c_uses_console_store_disk_and_events", in_c),
    case("httpd_in_4_mib_serves_linux_1000_pages_and_50_at_once", httpd),
];

/// The web server, at an address that needs no server.
const HTTPD: &str = "httpd.cfg extra=\"ip=10.0.0.80/24\"";

/// Time for a step of a guest of ours on a busy host.
pub(super) const STEP: Duration = Duration::from_secs(120);

/// Creates a domain with its console attached, waits for what it says, and returns all of that; leaves the console.
pub(super) fn watch(machine: &mut Machine, create: &str, word: &str) -> Result<String> {
    machine.send(&format!("xl create -c /store/{create}\r"))?;
    let said = machine.expect(word, STEP)?;
    machine.send("\x1d")?;
    machine.prompt(STEP)?;
    Ok(said)
}

fn in_one_mib(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    let said = watch(&mut machine, "hello.cfg memory=1", "hello: waiting for control/shutdown")?;
    ensure!(said.contains("hello: 1024 KiB of RAM"), "hello has other memory:\n{said}");
    machine.ok("xl shutdown -w hello")?;
    wait_gone(&mut machine, "hello")
}

fn ping(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    // Each waits for the one before, which on several threads of a busy host takes a thousand times longer.
    (config.smp, config.icount) = (1, true);
    let mut machine = Machine::boot(&config)?;
    guest(&mut machine, "linux", 1, "")?;
    let extra = "extra=\"ip=10.0.0.81/24 to=10.0.0.1 count=10000 every=0\"";
    watch(&mut machine, &format!("ping.cfg {extra}"), "ping: PASS sent=10000 received=10000")?;
    wait_gone(&mut machine, "ping")?;
    machine.ok("xl destroy linux")?;
    watch(&mut machine, HTTPD, "httpd: http://10.0.0.80:80/")?;
    let extra = "extra=\"ip=10.0.0.81/24 to=10.0.0.80 count=100 every=10\"";
    watch(&mut machine, &format!("ping.cfg {extra}"), "ping: PASS sent=100 received=100")?;
    wait_gone(&mut machine, "ping")?;
    machine.ok("xl shutdown -w httpd")?;
    wait_gone(&mut machine, "httpd")
}

fn stream(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.ok("xl create /store/sink.cfg")?;
    watch(&mut machine, "source.cfg", "netperf: PASS sent=16777216")?;
    machine.send("xl console sink\r")?;
    machine.expect("netperf: PASS received=16777216", STEP)?;
    machine.send("\x1d")?;
    machine.prompt(STEP)?;
    // A busy stream costs its receiver at most one event for sixteen packets.
    let top = machine.ok("xl top -b -n -i 1")?;
    let counter =
        |line: &str, unit: &str| line.split_whitespace().find_map(|word| word.strip_suffix(unit)?.parse::<u64>().ok());
    let sink = top.lines().skip_while(|line| !line.contains("sink")).nth(1).unwrap_or_default();
    let (packets, events) = (counter(sink, "pkts"), counter(sink, "events"));
    ensure!(packets.zip(events).is_some_and(|(packets, events)| packets > 10_000 && events * 16 <= packets), "{top}");
    Ok(())
}

fn detach(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    let before = resources(&mut machine)?;
    let mac = "00:16:3e:00:00:77";
    machine.ok("xl create /store/sink.cfg")?;
    machine.ok(&format!(
        "xl create /store/source.cfg \"vif=['mac={mac}']\" extra=\"ip=10.0.0.83/24 to=10.0.0.82 mib=64\""
    ))?;
    machine.ok("sleep 2")?;
    machine.ok(&format!("xl network-detach source {mac}"))?;
    let left = machine.ok("xl network-list source")?;
    ensure!(!left.contains(mac), "the interface is left:\n{left}");
    for name in ["source", "sink"] {
        machine.ok(&format!("xl destroy {name}"))?;
    }
    let after = resources(&mut machine)?;
    ensure!(before.0 == after.0, "free memory was {} and is {}", before.0, after.0);
    ensure!(before.1 == after.1, "XenStore was\n{}\nand is\n{}", before.1, after.1);
    Ok(())
}

fn parallel(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    let said = watch(&mut machine, "parallel.cfg", "parallel: PASS cpus=2 primes=17984 of=17984 turns=1000")?;
    // The game of turns cannot end unless both take part.
    for cpu in ["vCPU 0 took", "vCPU 1 took"] {
        ensure!(said.contains(cpu), "{cpu} no part:\n{said}");
    }
    wait_gone(&mut machine, "parallel")
}

fn conform(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    let said = watch(&mut machine, "conform.cfg", " broken=0")?;
    ensure!(said.contains("conform: PASS") && !said.contains("FAILED"), "these rules do not hold:\n{said}");
    // None of them has been left out.
    ensure!(said.matches(": ok").count() >= 67, "there are rules missing:\n{said}");
    ensure!(said.contains(" interrupts=1020 "), "not all numbers have been asked for:\n{said}");
    wait_gone(&mut machine, "conform")?;
    // Two guests with a breakpoint each, on one pCPU: one that stops at the other's crashes.
    let create = |name: &str, place: u8| {
        format!("xl create /store/conform.cfg name={name} cpus=\"0\" on_crash=\"preserve\" extra=breakpoint={place}")
    };
    for (name, place) in [("one", 2), ("two", 5)] {
        machine.ok(&create(name, place))?;
    }
    wait_gone(&mut machine, "one")?;
    wait_gone(&mut machine, "two")
}

fn examples(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    let create = |name| format!("hello.cfg name={name} kernel=/store/example-{name}");
    let said = watch(&mut machine, &create("events"), "event 3 on port")?;
    ensure!(said.contains("event 1 on port") && said.contains("event 2 on port"), "events says:\n{said}");
    let said = watch(&mut machine, &create("memory"), "the last of 1000 squares is Some(998001)")?;
    ensure!(said.contains("it went back: true"), "memory says:\n{said}");
    machine.ok(&format!("xl create /store/{} \"vif=['']\"", create("smoltcp")))?;
    let extra = "extra=\"ip=10.0.0.81/24 to=10.0.0.9 count=100 every=10\"";
    watch(&mut machine, &format!("ping.cfg {extra}"), "ping: PASS sent=100 received=100")?;
    wait_gone(&mut machine, "ping")?;
    machine.ok("xl destroy smoltcp")?;
    // It is suspended only once its back ends have nothing of it any more.
    let devices = "\"disk=['ram:1M,raw,xvda,w']\" \"vif=['']\" extra=ip=10.0.0.84/24";
    let said = watch(&mut machine, &format!("{} {devices}", create("suspend")), "count 2")?;
    ensure!(said.contains("the disk begins with"), "suspend says:\n{said}");
    let domain = machine.ok("xl domid suspend")?;
    machine.ok(&format!("xenstore-write /local/domain/{}/control/shutdown suspend", domain.trim()))?;
    machine.ok("sleep 1")?;
    let state = listed(&mut machine, "suspend")?.context("suspend is not listed")?.state;
    ensure!(state.contains("ss"), "a suspended domain has the state {state}");
    machine.ok("xl destroy suspend")?;
    Ok(())
}

fn blkbench(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    let said = watch(&mut machine, "blkbench.cfg extra=\"mib=4\"", "blkbench: PASS")?;
    for what in ["read 4 KiB", "read 1 MiB", "write 4 KiB", "write 1 MiB"] {
        ensure!(said.contains(&format!("what={what} requests=")), "{what} was not measured:\n{said}");
    }
    wait_gone(&mut machine, "blkbench")
}

fn in_c(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    let said = watch(&mut machine, "c-hello.cfg", "c-hello: PASS")?;
    ensure!(said.contains("my name is c-hello") && said.contains("an event on port"), "c-hello says:\n{said}");
    machine.ok("xl shutdown -w c-hello")?;
    wait_gone(&mut machine, "c-hello")
}

fn httpd(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    watch(&mut machine, HTTPD, "httpd: http://10.0.0.80:80/")?;
    guest(&mut machine, "linux", 1, "")?;
    enter(&mut machine, "linux")?;
    inside(&mut machine, "ping -c 20 -i 0.05 -q 10.0.0.80 | grep ' 0% packet loss'")?;
    inside(&mut machine, "wget -q -O - http://10.0.0.80/ | grep '<title>httpd</title>'")?;
    let get = "wget -q -O /dev/null http://10.0.0.80/";
    inside(&mut machine, &format!("for i in $(seq 1000); do {get} || break; done; [ $i = 1000 ]"))?;
    // In a shell of its own, whose prompt does not tell of jobs.
    let many = format!(
        "sh -c 'for i in $(seq 50); do ({get} && echo >> /tmp/done) & done; wait; [ $(wc -l < /tmp/done) = 50 ]'"
    );
    inside(&mut machine, &many)?;
    let stats = inside(&mut machine, "wget -q -O - http://10.0.0.80/stats")?;
    ensure!(stats.contains("requests 1052") && stats.contains("rx_bad 0"), "httpd says of itself:\n{stats}");
    leave(&mut machine)
}
