//! Guests of one bridge, among themselves and with Dom0.

use anyhow::{Result, ensure};

use super::super::case;
use super::super::life::resources;
use super::super::linux::{inside, leave, start};
use super::{enter, guest, listening, send_file};
use crate::machine::Machine;
use crate::suite::{Case, Lab};

pub(in super::super) const CASES: &[Case] = &[
    case("two_linux_guests_and_dom0_exchange_pings_and_files_over_both_ips_with_both_mtus", talk),
    case("guests_of_different_vlans_do_not_hear_each_other_and_a_trunk_reaches_both", vlans),
    case("a_guest_with_a_rate_sends_no_faster_and_one_with_a_filter_from_no_other_address", limits),
    case("an_interface_its_module_and_its_guest_come_and_go_during_a_transfer_and_leave_nothing", come_and_go),
];

fn talk(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    config.cable = Some(9000);
    let mut machine = Machine::boot(&config)?;
    machine.ok("bridge del xenbr0")?;
    machine.ok("bridge del uplink")?;
    machine.ok("bridge add xenbr0 host-only ip=10.0.0.254/24 echo=1")?;
    for (name, number) in [("left", 1), ("right", 2)] {
        guest(&mut machine, name, number, "")?;
        enter(&mut machine, name)?;
        inside(&mut machine, &format!("ip -6 addr add fd00::{number}/64 dev eth0"))?;
        leave(&mut machine)?;
    }
    let info = machine.ok("bridge info xenbr0")?;
    let dom0 = info.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap_or_default().to_owned();
    let dom0 = format!("{dom0}%eth0");
    enter(&mut machine, "right")?;
    // In parts.
    inside(&mut machine, "ping -c 5 -s 8000 -q 10.0.0.1 | grep ' 0% packet loss'")?;
    inside(&mut machine, "dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null")?;
    leave(&mut machine)?;
    enter(&mut machine, "left")?;
    inside(&mut machine, "dd if=/dev/urandom of=/tmp/data bs=1M count=32 2>/dev/null")?;
    pings(&mut machine, &dom0, 1500)?;
    leave(&mut machine)?;
    send_file(&mut machine, "left", "right", "10.0.0.2", 5000)?;
    send_file(&mut machine, "right", "left", "fd00::1", 5001)?;
    enter(&mut machine, "right")?;
    inside(&mut machine, "ip link set eth0 mtu 9000")?;
    leave(&mut machine)?;
    enter(&mut machine, "left")?;
    inside(&mut machine, "ip link set eth0 mtu 9000")?;
    pings(&mut machine, &dom0, 9000)?;
    leave(&mut machine)?;
    send_file(&mut machine, "left", "right", "fd00::2", 5002)?;
    send_file(&mut machine, "right", "left", "10.0.0.1", 5003)?;
    enter(&mut machine, "left")?;
    inside(&mut machine, "ip link set eth0 mtu 1500 && ping -c 5 -q 10.0.0.2 | grep ' 0% packet loss'")?;
    leave(&mut machine)?;
    let ports = machine.ok("bridge show xenbr0")?;
    ensure!(ports.contains("vif1.0") && ports.contains("vif2.0"), "the bridge has other ports:\n{ports}");
    wire(&mut machine)
}

/// The same two are stations of a physical network that carries packets of 9000 bytes: each on a bridge with one of the machine's
/// devices. What one sends leaves the machine and comes back by the other device.
fn wire(machine: &mut Machine) -> Result<()> {
    for (name, number) in [("left", 1), ("right", 2)] {
        machine.ok(&format!("bridge add out{number} bridge nic=eth{} ip=10.9.0.10{number}/24", number - 1))?;
        machine.ok(&format!("xl network-attach {name} bridge=out{number}"))?;
        enter(machine, name)?;
        inside(machine, "until ip link set eth1 up 2>/dev/null; do usleep 50000; done")?;
        inside(machine, &format!("ip addr add 10.9.0.{number}/24 dev eth1 && ip link set eth1 mtu 9000"))?;
        leave(machine)?;
    }
    enter(machine, "left")?;
    inside(machine, "dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null")?;
    for address in ["10.9.0.2", "10.9.0.102"] {
        inside(machine, &format!("ping -A -c 100 -s 8972 -q {address} | grep ' 0% packet loss'"))?;
    }
    leave(machine)?;
    send_file(machine, "left", "right", "10.9.0.2", 5004)
}

/// From `left`: echoes from `right` and from Dom0, which has the address `dom0` of IPv6, over both IPs, in packets that fill `mtu`.
/// What Dom0 sends back over TCP is compared.
fn pings(machine: &mut Machine, dom0: &str, mtu: u32) -> Result<()> {
    for (ping, headers, address) in
        [("ping", 28, "10.0.0.2"), ("ping6", 48, "fd00::2"), ("ping", 28, "10.0.0.254"), ("ping6", 48, dom0)]
    {
        let size = mtu - headers;
        inside(machine, &format!("{ping} -A -c 100 -s {size} -q {address} | grep ' 0% packet loss'"))?;
    }
    for address in ["10.0.0.254", dom0] {
        // Piece by piece since `nc` does not read while it writes.
        let piece = format!("dd if=/tmp/data bs=64k count=1 skip=$n 2>/dev/null | nc {address} 7");
        inside(machine, &format!("for n in $(seq 0 15); do {piece}; done | md5sum > /tmp/echo"))?;
        inside(machine, "head -c 1048576 /tmp/data | md5sum | cmp - /tmp/echo")?;
    }
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
    leave(&mut machine)?;
    start(&mut machine, "name=trunk disk=[] \"vif=['vlan=10/20/30']\"")?;
    inside(&mut machine, "while read m; do insmod /modules/$m.ko; done < /modules/vlan; ip link set eth0 up")?;
    // VLAN 40 is not this port's.
    for (vlan, number) in [(10, 110), (20, 120), (40, 140)] {
        inside(&mut machine, &format!("ip link add link eth0 name v{vlan} type vlan id {vlan}"))?;
        inside(&mut machine, &format!("ip link set v{vlan} up && ip addr add 10.0.0.{number}/32 dev v{vlan}"))?;
    }
    for (number, vlan) in [(1, 10), (3, 10), (2, 20)] {
        inside(&mut machine, &format!("ip route add 10.0.0.{number}/32 dev v{vlan}"))?;
        inside(&mut machine, &format!("ping -c 3 -q 10.0.0.{number} | grep ' 0% packet loss'"))?;
    }
    // Long TCP loses and gets tags on its way.
    inside(&mut machine, "dd if=/dev/urandom of=/tmp/data bs=1M count=2 2>/dev/null")?;
    machine.send("(nc -l -p 5000 > /tmp/back) &\r")?;
    inside(&mut machine, "true")?;
    leave(&mut machine)?;
    enter(&mut machine, "left")?;
    machine.send("(nc -l -p 6000 > /tmp/data; nc 10.0.0.110 5000 < /tmp/data) &\r")?;
    inside(&mut machine, "true")?;
    leave(&mut machine)?;
    enter(&mut machine, "trunk")?;
    inside(&mut machine, "nc 10.0.0.1 6000 < /tmp/data && wait && cmp /tmp/data /tmp/back")?;
    inside(&mut machine, "ip route del 10.0.0.1/32 dev v10 && ip route add 10.0.0.1/32 dev v40")?;
    inside(&mut machine, "! ping -c 2 -W 1 -q 10.0.0.1")?;
    leave(&mut machine)?;
    let ports = machine.ok("bridge show xenbr0")?;
    let refused = ports.lines().find(|line| line.contains("vif4.0")).and_then(|line| line.split_whitespace().nth(3));
    ensure!(refused.is_some_and(|count| count != "0"), "nothing was refused at the trunk:\n{ports}");
    Ok(())
}

fn limits(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    guest(&mut machine, "right", 2, "")?;
    guest(&mut machine, "left", 1, "rate=8Mb/s,antispoof=1")?;
    enter(&mut machine, "right")?;
    machine.send("(nc -l -p 5000 > /dev/null) &\r")?;
    listening(&mut machine, 5000)?;
    leave(&mut machine)?;
    enter(&mut machine, "left")?;
    // 4 MiB at 1 MB/s are 4.2 s of the guest's own time, less what sockets and one interval hold.
    inside(
        &mut machine,
        "read start rest < /proc/uptime; dd if=/dev/zero bs=1M count=4 2>/dev/null | nc 10.0.0.2 5000",
    )?;
    inside(
        &mut machine,
        "read end rest < /proc/uptime; took=$((${end%.*} - ${start%.*})); echo $took s; [ $took -ge 3 ]",
    )?;
    inside(&mut machine, "ip link set eth0 down && ip link set eth0 address 00:16:3e:00:00:77 && ip link set eth0 up")?;
    inside(&mut machine, "! ping -c 3 -W 1 -q 10.0.0.2")?;
    inside(&mut machine, "ip link set eth0 down && ip link set eth0 address 00:16:3e:00:00:01 && ip link set eth0 up")?;
    inside(&mut machine, "ping -c 3 -q 10.0.0.2 | grep ' 0% packet loss'")?;
    leave(&mut machine)
}

/// Begins to send from the guest whose console this is to 10.0.0.1, without end.
fn stream(machine: &mut Machine) -> Result<()> {
    machine.send("(nc 10.0.0.1 5000 < /dev/zero; ping -c 10000 -i 0.01 -s 1400 -q 10.0.0.1) > /dev/null 2>&1 &\r")?;
    inside(machine, "usleep 500000").map(drop)
}

/// The link of `right` goes down and up: nothing passes in between, and the transfer goes on.
fn cut(machine: &mut Machine) -> Result<()> {
    machine.fails("bridge link vif9.0 down", &["no bridge has an interface vif9.0"])?;
    let line = |machine: &mut Machine| -> Result<Vec<String>> {
        let ports = machine.ok("bridge show xenbr0")?;
        let own = ports.lines().find(|line| line.contains("vif2.0")).unwrap_or_default();
        Ok(own.split_whitespace().map(str::to_owned).collect())
    };
    machine.ok("bridge link vif2.0 down")?;
    let before = line(machine)?;
    machine.ok("sleep 1")?;
    let after = line(machine)?;
    ensure!(before[1..3] == after[1..3] && after.last().is_some_and(|word| word == "down"), "{before:?}, {after:?}");
    machine.ok("bridge link vif2.0 up")?;
    enter(machine, "right")?;
    inside(machine, "ping -c 3 -q 10.0.0.1 | grep ' 0% packet loss'")?;
    leave(machine)?;
    let later = line(machine)?;
    ensure!(later[1] != after[1], "nothing has passed: {after:?}, {later:?}");
    Ok(())
}

fn come_and_go(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.ok("bridge add xenbr0 host-only ip=10.0.0.254/24")?;
    guest(&mut machine, "left", 1, "")?;
    enter(&mut machine, "left")?;
    machine.send("(while true; do nc -l -p 5000 > /dev/null; done) &\r")?;
    listening(&mut machine, 5000)?;
    leave(&mut machine)?;
    let before = resources(&mut machine)?;
    guest(&mut machine, "right", 2, "")?;
    enter(&mut machine, "right")?;
    inside(&mut machine, "grep 1 /sys/class/net/eth0/carrier")?;
    stream(&mut machine)?;
    // The module goes in the middle of a transfer, and comes again. As long as it drives a device it stays.
    inside(&mut machine, "echo vif-0 > /sys/bus/xen/drivers/vif/unbind && rmmod xen_netfront")?;
    inside(&mut machine, "! ls /sys/class/net/eth0 2>/dev/null && insmod /modules/xen_netfront.ko")?;
    inside(&mut machine, "until grep 1 /sys/class/net/eth0/carrier; do ip link set eth0 up; usleep 100000; done")?;
    inside(&mut machine, "ip addr add 10.0.0.2/24 dev eth0 && ping -c 3 -q 10.0.0.1 | grep ' 0% packet loss'")?;
    stream(&mut machine)?;
    leave(&mut machine)?;
    cut(&mut machine)?;
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
    stream(&mut machine)?;
    leave(&mut machine)?;
    machine.ok("xl destroy right")?;
    enter(&mut machine, "left")?;
    inside(&mut machine, "ping -c 3 -q 10.0.0.254 | grep ' 0% packet loss'")?;
    leave(&mut machine)?;
    let after = resources(&mut machine)?;
    ensure!(before.0 == after.0, "free memory was {} and is {}", before.0, after.0);
    ensure!(before.1 == after.1, "XenStore was\n{}\nand is\n{}", before.1, after.1);
    Ok(())
}
