//! Guests and the host's network: as stations of it, and hidden behind Dom0's address.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Result, anyhow, bail, ensure};

use super::super::linux::{inside, leave, start};
use super::super::{alone, case};
use super::host::{answer_names, collect, free_port, pattern, serve, serve_at, serve_http};
use super::{connected, enter, listening, wait_for_address};
use crate::machine::Machine;
use crate::suite::{Case, Lab};

pub(in super::super) const CASES: &[Case] = &[
    case("dom0_and_a_bridged_guest_are_on_the_physical_network_and_others_hide_or_are_shut_in", bridged),
    alone("linux_behind_nat_exchanges_a_file_with_the_host_and_is_reached_through_a_forwarded_port", behind_nat),
    case("linux_and_httpd_get_addresses_by_dhcp_and_names_and_files_through_nat_beside_a_flood", dhcp_and_names),
];

fn bridged(lab: &Lab) -> Result<()> {
    let mut machine = connected(lab, Vec::new())?;
    wait_for_address(&mut machine)?;
    start(&mut machine, "name=left disk=[] \"vif=['bridge=uplink']\"")?;
    inside(&mut machine, "ip link set eth0 up && udhcpc -i eth0 -n -q -s /bin/true 2>&1 | grep 'lease of 10.0.2.16'")?;
    inside(&mut machine, "ip addr add 10.0.2.16/24 dev eth0 && ping -c 3 -q 10.0.2.15 | grep ' 0% packet loss'")?;
    let (port, served) = serve("from the host's loopback\n")?;
    inside(&mut machine, &format!("nc 10.0.2.2 {port} < /dev/null | grep 'host.s loopback'"))?;
    served.join().map_err(|_| anyhow!("the server failed"))??;
    // The network's router tells the guest its address of IPv6.
    inside(&mut machine, "until ip -6 addr show eth0 | grep -v tentative | grep fec0:; do usleep 200000; done")?;
    inside(&mut machine, "ping6 -A -c 100 -q fec0::2 | grep ' 0% packet loss'")?;
    let (port, served) = serve_at("[::1]:0", pattern())?;
    inside(&mut machine, &format!("nc fec0::2 {port} < /dev/null | md5sum | tee /tmp/from6"))?;
    served.join().map_err(|_| anyhow!("the server failed"))??;
    let (port, served) = serve(pattern())?;
    inside(
        &mut machine,
        &format!("nc 10.0.2.2 {port} < /dev/null > /tmp/data; md5sum < /tmp/data | cmp - /tmp/from6"),
    )?;
    served.join().map_err(|_| anyhow!("the server failed"))??;
    inside(&mut machine, "wc -c < /tmp/data | grep 4194304")?;
    machine.send("(nc -l -p 5000 > /dev/null) &\r")?;
    listening(&mut machine, 5000)?;
    leave(&mut machine)?;
    hidden_and_shut_in(&mut machine)?;
    machine.fails("bridge add second bridge", &["eth0", "uplink"])?;
    machine.fails("bridge del uplink", &["uplink", "in use"])?;
    machine.ok("xl destroy left")?;
    machine.fails("bridge del uplink", &["uplink", "in use"])?;
    machine.ok("bridge del xenbr0")?;
    machine.ok("bridge del uplink")?;
    machine.ok("bridge add second bridge ip=10.0.2.77/24 gateway=10.0.2.2")?;
    let info = machine.ok("bridge info second")?;
    ensure!(info.contains("10.0.2.77/24") && info.contains("eth0"), "{info}");
    Ok(())
}

/// A guest behind nat shows Dom0's address to a neighbour of Dom0's, and one on a host-only bridge reaches nobody outside.
fn hidden_and_shut_in(machine: &mut Machine) -> Result<()> {
    machine.ok("bridge add lan host-only ip=10.5.0.1/24")?;
    start(machine, "name=right disk=[] \"vif=['bridge=lan','bridge=xenbr0']\"")?;
    inside(machine, "ip link set eth0 up && ip addr add 10.5.0.2/24 dev eth0")?;
    inside(machine, "ping -c 3 -q 10.5.0.1 | grep ' 0% packet loss'")?;
    inside(machine, "ip route add default via 10.5.0.1")?;
    for outside in ["10.0.2.2", "10.0.2.15", "10.0.2.16"] {
        inside(machine, &format!("! ping -c 1 -W 1 -q {outside}"))?;
    }
    inside(machine, "ip route del default && ip link set eth1 up && udhcpc -i eth1 -n -q 2>/dev/null")?;
    machine.send("(sleep 1000 | nc 10.0.2.16 5000) &\r")?;
    inside(machine, "ping -c 3 -q 10.0.2.16 | grep ' 0% packet loss'")?;
    leave(machine)?;
    enter(machine, "left")?;
    let seen = inside(machine, "netstat -tn")?;
    let is_open = seen.lines().any(|line| line.contains("10.0.2.15:") && line.contains("ESTABLISHED"));
    ensure!(is_open && !seen.contains("10.1.0."), "the neighbour sees:\n{seen}");
    leave(machine)?;
    machine.ok("xl destroy right")?;
    machine.ok("bridge del lan").map(drop)
}

fn behind_nat(lab: &Lab) -> Result<()> {
    let (knock, other) = (free_port()?, free_port()?);
    let mut machine = connected(lab, vec![(knock, 8080), (other, 8081)])?;
    wait_for_address(&mut machine)?;
    start(&mut machine, "name=left disk=[] \"vif=['']\"")?;
    inside(&mut machine, "ip link set eth0 up && ip addr add 10.1.0.2/24 dev eth0")?;
    machine.send("(echo hello from the guest | nc -l -p 80) &\r")?;
    listening(&mut machine, 80)?;
    inside(&mut machine, "ip route add default via 10.1.0.1")?;
    leave(&mut machine)?;
    machine.ok("bridge forward xenbr0 tcp/8080 10.1.0.2:80")?;
    machine.fails("bridge forward xenbr0 tcp/8080 10.1.0.3:80", &["leads to a guest already"])?;
    machine.fails("bridge forward xenbr0 tcp/8081 10.2.0.3:80", &["not one of the bridge's network"])?;
    // The guest has sent nothing yet. QEMU's network sends a packet that was lost again after six seconds.
    let (mut said, began) = (String::new(), Instant::now());
    TcpStream::connect(("127.0.0.1", knock))?.read_to_string(&mut said)?;
    ensure!(said == "hello from the guest\n", "the guest said {said:?}");
    ensure!(began.elapsed().as_secs() < 3, "the first connection was answered after {:?}", began.elapsed());
    let state = machine.ok("bridge nat xenbr0")?;
    ensure!(state.contains("tcp      8080    10.1.0.2:80"), "no forward in:\n{state}");
    enter(&mut machine, "left")?;
    inside(&mut machine, "ping -c 3 -q 10.1.0.1 | grep ' 0% packet loss'")?;
    let data = pattern();
    let (from, served) = serve(data.clone())?;
    inside(&mut machine, &format!("nc 10.0.2.2 {from} < /dev/null > /tmp/data && wc -c < /tmp/data | grep 4194304"))?;
    served.join().map_err(|_| anyhow!("the server failed"))??;
    let (to, collected) = collect()?;
    inside(&mut machine, &format!("nc 10.0.2.2 {to} < /tmp/data"))?;
    let back = collected.join().map_err(|_| anyhow!("the collector failed"))??;
    ensure!(back == data, "{} bytes came back, and not those that were sent", back.len());
    inside(&mut machine, "ping -c 100 -i 0.05 -q 10.0.2.2 | grep ' 0% packet loss'")?;
    // In parts; from where Dom0 ends its way; and longer than what the network carries, as the guest learns.
    inside(&mut machine, "ping -c 5 -s 4000 -q 10.0.2.2 | grep ' 0% packet loss'")?;
    inside(&mut machine, "traceroute -n -m 1 -q 1 10.0.2.2 | grep 10.1.0.1")?;
    inside(&mut machine, "ip link set eth0 mtu 9000; ping -c 2 -W 1 -s 3000 -q 10.0.2.2 >/dev/null")?;
    inside(&mut machine, "ping -c 5 -s 3000 -q 10.0.2.2 | grep ' 0% packet loss'")?;
    machine.send("(nc -l -p 80 < /tmp/data) &\r")?;
    listening(&mut machine, 80)?;
    leave(&mut machine)?;
    let mut forwarded = Vec::new();
    TcpStream::connect(("127.0.0.1", knock))?.read_to_end(&mut forwarded)?;
    ensure!(forwarded == data, "{} bytes came through the forward, and not those that were sent", forwarded.len());
    beside(&mut machine, other)?;
    machine.ok("bridge unforward xenbr0 tcp/8080")?;
    machine.ok("xl destroy left")?;
    machine.ok("bridge del xenbr0")?;
    machine.ok("bridge del uplink").map(drop)
}

/// A second network behind the same address has ports of its own there. The host's port `knock` leads to 8081.
fn beside(machine: &mut Machine, knock: u16) -> Result<()> {
    machine.fails("bridge add second nat ip=10.1.0.129/25", &["10.1.0.129/25", "xenbr0"])?;
    machine.fails("bridge add second nat ip=10.2.0.1/24 uplink=xenbr0", &["xenbr0", "not in mode bridge"])?;
    machine.ok("bridge add second nat ip=10.2.0.1/24 uplink=uplink")?;
    machine.ok("xl create /store/httpd.cfg \"vif=['bridge=second']\"")?;
    machine.fails("bridge forward second tcp/8080 10.2.0.2:80", &["leads to a guest already"])?;
    machine.ok("bridge forward second tcp/8081 10.2.0.2:80")?;
    machine.fails("bridge forward xenbr0 tcp/8081 10.1.0.2:80", &["leads to a guest already"])?;
    for _ in 0..50 {
        if machine.ok("bridge nat second")?.contains("10.2.0.2        00:16:3e:") {
            break;
        }
        machine.ok("sleep 0.1")?;
    }
    let (mut stream, mut page) = (TcpStream::connect(("127.0.0.1", knock))?, String::new());
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read_to_string(&mut page)?;
    ensure!(page.contains("<title>httpd</title>"), "the second network's guest said {page:?}");
    machine.fails("bridge del uplink", &["uplink", "in use"])?;
    machine.ok("xl destroy httpd")?;
    machine.ok("bridge del second").map(drop)
}

/// Starts a guest that opens connections without end, to a station outside that there is not, and waits until it has more than the table holds.
fn flood(machine: &mut Machine) -> Result<&'static str> {
    machine.ok("xl create /store/ping.cfg extra='ip=10.7.0.77/24 gateway=10.7.0.1 to=10.0.2.99 flood=1'")?;
    for _ in 0..200 {
        if machine.ok("bridge nat xenbr0")?.starts_with("connections 4096 of 4096") {
            return Ok("ping");
        }
        machine.ok("sleep 0.1")?;
    }
    bail!("the guest does not flood: {}", machine.ok("bridge nat xenbr0")?)
}

fn dhcp_and_names(lab: &Lab) -> Result<()> {
    let names = answer_names([10, 0, 2, 2])?;
    let mut machine = connected(lab, Vec::new())?;
    wait_for_address(&mut machine)?;
    machine.ok("bridge del xenbr0")?;
    machine.ok(&format!("bridge add xenbr0 nat ip=10.7.0.1/24 dns=10.0.2.2:{names}"))?;
    let elsewhere = answer_names([10, 0, 2, 3])?;
    machine.ok(&format!("bridge add second nat ip=10.8.0.1/24 dns=10.0.2.2:{elsewhere}"))?;
    start(&mut machine, "name=left disk=[] \"vif=['mac=00:16:3e:00:00:0a','bridge=second']\"")?;
    inside(&mut machine, "ip link set eth0 up && udhcpc -i eth0 -n -q 2>&1 | grep 'lease of 10.7.0.2'")?;
    inside(&mut machine, "ip addr show eth0 | grep 'inet 10.7.0.2/24' && ip route | grep 'default via 10.7.0.1'")?;
    inside(&mut machine, "grep 'nameserver 10.7.0.1' /etc/resolv.conf")?;
    inside(&mut machine, "nslookup files.example 10.7.0.1 | grep 'Address.*10.0.2.2'")?;
    // The other network has addresses and a name server of its own.
    inside(&mut machine, "ip link set eth1 up && udhcpc -i eth1 -n -q -s /bin/true 2>&1 | grep 'lease of 10.8.0.2'")?;
    inside(
        &mut machine,
        "ip addr add 10.8.0.2/24 dev eth1 && nslookup files.example 10.8.0.1 | grep 'Address.*10.0.2.3'",
    )?;
    leave(&mut machine)?;
    let page = "wget -q -O - http://10.7.0.3/ | grep '<title>httpd</title>'";
    machine.ok("xl create /store/httpd.cfg")?;
    let flooding = flood(&mut machine)?;
    enter(&mut machine, "left")?;
    inside(&mut machine, &format!("until {page}; do sleep 1; done"))?;
    inside(&mut machine, "nslookup files.example 10.7.0.1 | grep 'Address.*10.0.2.2'")?;
    let (port, served) = serve_http("a file of the host's\n".repeat(5_000))?;
    inside(
        &mut machine,
        &format!("wget -q -O /tmp/file http://10.0.2.2:{port}/file && wc -l < /tmp/file | grep 5000"),
    )?;
    served.join().map_err(|_| anyhow!("the server failed"))??;
    leave(&mut machine)?;
    let state = machine.ok("bridge nat xenbr0")?;
    ensure!(state.contains("10.7.0.2        00:16:3e:00:00:0a"), "no lease in:\n{state}");
    ensure!(state.contains("10.7.0.3        00:16:3e:"), "no lease of httpd's in:\n{state}");
    ensure!(state.starts_with("connections 4096 of 4096"), "the flood has not filled the table:\n{state}");
    machine.ok(&format!("xl destroy {flooding}"))?;
    let state = machine.ok("bridge nat xenbr0")?;
    ensure!(state.contains("10.7.0.2:"), "no connection in:\n{state}");
    machine.ok("xl destroy left")?;
    let state = machine.ok("bridge nat xenbr0")?;
    ensure!(state.starts_with("connections 0 of"), "a guest that is gone has connections:\n{state}");
    Ok(())
}
