//! Guests that talk to each other through Dom0's switch, each with its own kernel's network driver.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use super::case;
use super::life::resources;
use super::linux::{LONG, PROMPT, inside, leave, start};
use crate::machine::Machine;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    case("two_linux_guests_ping_each_other_and_send_32_mib_unharmed", talk),
    case("guests_of_different_vlans_do_not_hear_each_other", vlans),
    case("an_interface_comes_and_goes_during_a_transfer_and_leaves_nothing", come_and_go),
];

/// Starts a guest with the address 10.0.0.`number` on the switch and leaves its console.
fn guest(machine: &mut Machine, name: &str, number: u8, vif: &str) -> Result<()> {
    let mac = format!("mac=00:16:3e:00:00:{number:02x}");
    start(machine, &format!("name={name} disk=[] \"vif=['{mac},{vif}']\""))?;
    inside(machine, &format!("ip link set eth0 up && ip addr add 10.0.0.{number}/24 dev eth0"))?;
    leave(machine)
}

/// Goes to a guest's console, which first shows again what it has said: only what is new counts.
fn enter(machine: &mut Machine, name: &str) -> Result<()> {
    static VISITS: AtomicU32 = AtomicU32::new(1);
    let visit = VISITS.fetch_add(1, Ordering::Relaxed);
    machine.send(&format!("xl console {name}\r"))?;
    machine.send(&format!("\recho visit $((7000 + {visit}))\r"))?;
    machine.expect(&format!("visit {}", 7000 + visit), LONG)?;
    machine.expect(PROMPT, LONG).map(drop)
}

fn talk(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    guest(&mut machine, "left", 1, "")?;
    guest(&mut machine, "right", 2, "")?;
    enter(&mut machine, "right")?;
    inside(&mut machine, "ping -c 100 -i 0.02 -q 10.0.0.1 | grep ' 0% packet loss'")?;
    inside(&mut machine, "ping -c 5 -s 8000 -q 10.0.0.1 | grep ' 0% packet loss'")?;
    machine.send("(nc -l -p 5000 | md5sum > /tmp/sum) &\r")?;
    inside(&mut machine, "ip addr")?;
    leave(&mut machine)?;
    enter(&mut machine, "left")?;
    inside(&mut machine, "dd if=/dev/urandom of=/tmp/data bs=1M count=32 2>/dev/null")?;
    inside(&mut machine, "nc 10.0.0.2 5000 < /tmp/data")?;
    let sent = inside(&mut machine, "md5sum < /tmp/data")?;
    leave(&mut machine)?;
    enter(&mut machine, "right")?;
    let received = inside(&mut machine, "wait; cat /tmp/sum")?;
    leave(&mut machine)?;
    let sum = |text: &str| text.split_whitespace().find(|word| word.len() == 32).map(str::to_owned);
    ensure!(sum(&sent).is_some() && sum(&sent) == sum(&received), "sent {sent}, received {received}");
    let ports = machine.ok("bridge show xenbr0")?;
    ensure!(ports.contains("vif1.0") && ports.contains("vif2.0"), "the bridge has other ports:\n{ports}");
    Ok(())
}

fn vlans(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    guest(&mut machine, "left", 1, "vlan=10")?;
    guest(&mut machine, "right", 2, "vlan=20")?;
    guest(&mut machine, "friend", 3, "vlan=10")?;
    enter(&mut machine, "left")?;
    inside(&mut machine, "ping -c 3 -q 10.0.0.3 | grep ' 0% packet loss'")?;
    inside(&mut machine, "! ping -c 3 -W 1 -q 10.0.0.2 && grep -q '10.0.0.2 .*00:00:00:00:00:00' /proc/net/arp")?;
    leave(&mut machine)
}

fn come_and_go(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    guest(&mut machine, "left", 1, "")?;
    let before = resources(&mut machine)?;
    guest(&mut machine, "right", 2, "")?;
    enter(&mut machine, "right")?;
    machine.send("(while true; do ping -c 1000 -i 0.01 -s 1400 -q 10.0.0.1; done) >/dev/null 2>&1 &\r")?;
    inside(&mut machine, "true")?;
    leave(&mut machine)?;
    for _ in 0..3 {
        machine.ok("xl network-attach right mac=00:16:3e:00:00:55")?;
        machine.ok("sleep 0.5")?;
        machine.ok("xl network-detach right 00:16:3e:00:00:55")?;
    }
    machine.ok("xl network-detach right 00:16:3e:00:00:02")?;
    let left = machine.ok("xl network-list right")?;
    ensure!(!left.contains("00:16:3e"), "an interface is left:\n{left}");
    machine.ok("xl network-attach right mac=00:16:3e:00:00:12")?;
    enter(&mut machine, "right")?;
    // The kernel calls it what it likes, once it has found it, and the one before may not be gone yet.
    let find = "grep -l 00:16:3e:00:00:12 /sys/class/net/*/address | cut -d/ -f5";
    inside(&mut machine, &format!("until eth=$({find}) && [ $eth ]; do usleep 100000; done; echo it is $eth"))?;
    inside(&mut machine, "ip link set $eth up && ip addr add 10.0.0.2/24 dev $eth")?;
    inside(&mut machine, "ping -c 3 -q 10.0.0.1 | grep ' 0% packet loss'")?;
    leave(&mut machine)?;
    // In the middle of its traffic.
    machine.ok("xl destroy right")?;
    let after = resources(&mut machine)?;
    ensure!(before.0 == after.0, "free memory was {} and is {}", before.0, after.0);
    ensure!(before.1 == after.1, "XenStore was\n{}\nand is\n{}", before.1, after.1);
    Ok(())
}
