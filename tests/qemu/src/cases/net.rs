//! Guests that talk to each other through Dom0's switch, each with its own kernel's network driver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Result, anyhow, bail, ensure};

use super::case;
use super::life::resources;
use super::linux::{LONG, PROMPT, inside, leave, start};
use crate::config::Nic;
use crate::machine::Machine;
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    case("two_linux_guests_and_dom0_exchange_pings_and_files_over_both_ips_with_both_mtus", talk),
    case("guests_of_different_vlans_do_not_hear_each_other_and_a_trunk_reaches_both", vlans),
    case("dom0_and_a_bridged_guest_are_on_the_physical_network_and_others_hide_or_are_shut_in", bridged),
    case("linux_behind_nat_exchanges_a_file_with_the_host_and_is_reached_through_a_forwarded_port", behind_nat),
    case("linux_and_httpd_get_addresses_by_dhcp_and_names_and_files_through_nat_beside_a_flood", dhcp_and_names),
    case("a_guest_with_a_rate_sends_no_faster_and_one_with_a_filter_from_no_other_address", limits),
    case("an_interface_its_module_and_its_guest_come_and_go_during_a_transfer_and_leave_nothing", come_and_go),
];

/// Starts a guest with the address 10.0.0.`number` on the switch and leaves its console.
pub(super) fn guest(machine: &mut Machine, name: &str, number: u8, vif: &str) -> Result<()> {
    let mac = format!("mac=00:16:3e:00:00:{number:02x}");
    start(machine, &format!("name={name} disk=[] \"vif=['{mac},{vif}']\""))?;
    inside(machine, &format!("ip link set eth0 up && ip addr add 10.0.0.{number}/24 dev eth0"))?;
    leave(machine)
}

/// Goes to a guest's console, which first shows again what it has said: only what is new counts.
pub(super) fn enter(machine: &mut Machine, name: &str) -> Result<()> {
    static VISITS: AtomicU32 = AtomicU32::new(1);
    let visit = VISITS.fetch_add(1, Ordering::Relaxed);
    machine.send(&format!("xl console {name}\r"))?;
    machine.send(&format!("\recho visit $((7000 + {visit}))\r"))?;
    machine.expect(&format!("visit {}", 7000 + visit), LONG)?;
    machine.expect(PROMPT, LONG).map(drop)
}

/// Waits in a guest until something that was started there listens at a port.
fn listening(machine: &mut Machine, port: u16) -> Result<()> {
    inside(machine, &format!("until netstat -ltn | grep -q ':{port} '; do usleep 50000; done")).map(drop)
}

/// The MD5 sum in a text.
fn sum(text: &str) -> Option<&str> {
    text.split_whitespace().find(|word| word.len() == 32)
}

/// Sends a guest's /tmp/data to another one, both of which have `address` families of their own, and compares what comes.
fn send_file(machine: &mut Machine, from: &str, to: &str, address: &str, port: u16) -> Result<()> {
    enter(machine, to)?;
    machine.send(&format!("(nc -l -p {port} | md5sum > /tmp/sum{port}) &\r"))?;
    listening(machine, port)?;
    leave(machine)?;
    enter(machine, from)?;
    inside(machine, &format!("nc {address} {port} < /tmp/data"))?;
    let sent = inside(machine, "md5sum < /tmp/data")?;
    leave(machine)?;
    enter(machine, to)?;
    let received = inside(machine, &format!("wait; cat /tmp/sum{port}"))?;
    leave(machine)?;
    ensure!(sum(&sent).is_some() && sum(&sent) == sum(&received), "sent {sent}, received {received}");
    Ok(())
}

fn talk(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.ok("bridge add xenbr0 host-only ip=10.0.0.254/24 echo=1")?;
    for (name, number) in [("left", 1), ("right", 2)] {
        guest(&mut machine, name, number, "")?;
        enter(&mut machine, name)?;
        inside(&mut machine, &format!("ip -6 addr add fd00::{number}/64 dev eth0"))?;
        leave(&mut machine)?;
    }
    let info = machine.ok("bridge info xenbr0")?;
    let dom0 = info.split_whitespace().find_map(|word| word.strip_suffix("/64")).unwrap_or_default().to_owned();
    enter(&mut machine, "right")?;
    inside(&mut machine, "ping -c 100 -i 0.05 -q 10.0.0.1 | grep ' 0% packet loss'")?;
    inside(&mut machine, "ping -c 5 -s 8000 -q 10.0.0.1 | grep ' 0% packet loss'")?;
    inside(&mut machine, "dd if=/dev/urandom of=/tmp/data bs=1M count=4 2>/dev/null")?;
    leave(&mut machine)?;
    enter(&mut machine, "left")?;
    inside(&mut machine, "dd if=/dev/urandom of=/tmp/data bs=1M count=32 2>/dev/null")?;
    inside(&mut machine, "ping6 -c 5 -q fd00::2 | grep ' 0% packet loss'")?;
    leave(&mut machine)?;
    send_file(&mut machine, "left", "right", "10.0.0.2", 5000)?;
    send_file(&mut machine, "right", "left", "fd00::1", 5001)?;
    enter(&mut machine, "right")?;
    inside(&mut machine, "ip link set eth0 mtu 9000")?;
    leave(&mut machine)?;
    enter(&mut machine, "left")?;
    inside(&mut machine, "ip link set eth0 mtu 9000")?;
    // What Dom0 sends back is compared, piece by piece since `nc` does not read while it writes.
    let piece = "dd if=/tmp/data bs=64k count=1 skip=$n 2>/dev/null | nc 10.0.0.254 7";
    inside(&mut machine, &format!("for n in $(seq 0 15); do {piece}; done | md5sum > /tmp/echo"))?;
    inside(&mut machine, "head -c 1048576 /tmp/data | md5sum | cmp - /tmp/echo")?;
    inside(&mut machine, "ping -c 50 -i 0.05 -s 8972 -q 10.0.0.254 | grep ' 0% packet loss'")?;
    inside(&mut machine, &format!("ping6 -c 5 -s 8000 -q {dom0}%eth0 | grep ' 0% packet loss'"))?;
    leave(&mut machine)?;
    send_file(&mut machine, "left", "right", "fd00::2", 5002)?;
    send_file(&mut machine, "right", "left", "10.0.0.1", 5003)?;
    enter(&mut machine, "left")?;
    inside(&mut machine, "ping -c 50 -i 0.05 -s 8972 -q 10.0.0.2 | grep ' 0% packet loss'")?;
    inside(&mut machine, "ip link set eth0 mtu 1500 && ping -c 5 -q 10.0.0.2 | grep ' 0% packet loss'")?;
    leave(&mut machine)?;
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

/// A machine with a way out to the host.
fn connected(lab: &Lab, forwards: Vec<(u16, u16)>) -> Result<Machine> {
    let mut config = lab.config();
    config.nic = Some(Nic { forwards });
    Machine::boot(&config)
}

/// Waits until Dom0 has been given an address on the bridge that leads out.
fn wait_for_address(machine: &mut Machine) -> Result<()> {
    for _ in 0..100 {
        if machine.ok("bridge info uplink")?.contains("10.0.2.15/24") {
            return Ok(());
        }
        machine.ok("sleep 0.1")?;
    }
    bail!("no address after ten seconds: {}", machine.ok("bridge info")?)
}

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

/// 4 MiB without a period.
fn pattern() -> Vec<u8> {
    (0..4u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// Serves one connection on the host's loopback with `text`.
fn serve(text: impl Into<Vec<u8>>) -> Result<(u16, JoinHandle<Result<()>>)> {
    serve_at("127.0.0.1:0", text)
}

/// The same on a loopback of either version.
fn serve_at(loopback: &str, text: impl Into<Vec<u8>>) -> Result<(u16, JoinHandle<Result<()>>)> {
    let (listener, bytes) = (TcpListener::bind(loopback)?, text.into());
    let port = listener.local_addr()?.port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(&bytes)?;
        Ok(())
    });
    Ok((port, served))
}

/// Serves one HTTP request on the host's loopback with `body`.
fn serve_http(body: String) -> Result<(u16, JoinHandle<Result<()>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        // What is not read before the end would end the connection early.
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        Ok(())
    });
    Ok((port, served))
}

/// Takes what one connection to the host's loopback brings.
fn collect() -> Result<(u16, JoinHandle<Result<Vec<u8>>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let collected = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        listener.accept()?.0.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    Ok((port, collected))
}

/// Answers questions for names on the host's loopback: each has the address `address`, in version 4 alone.
fn answer_names(address: [u8; 4]) -> Result<u16> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let port = socket.local_addr()?.port();
    // It ends with the tests.
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut message) {
            let Some(question) = message.get(12..len) else { continue };
            // The question is a name and four bytes of type and class (RFC 1035, section 4.1).
            let Some(end) = question.iter().position(|byte| *byte == 0).map(|end| end + 5) else { continue };
            let Some(question) = question.get(..end) else { continue };
            let is_v4 = question.get(end - 4..end - 2) == Some(&[0, 1]);
            let header = [message[0], message[1], 0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0];
            let mut answer = [&header[..], question].concat();
            if is_v4 {
                answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(port)
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
    start(&mut machine, "name=left disk=[] \"vif=['mac=00:16:3e:00:00:0a']\"")?;
    inside(&mut machine, "ip link set eth0 up && udhcpc -i eth0 -n -q 2>&1 | grep 'lease of 10.7.0.2'")?;
    inside(&mut machine, "ip addr show eth0 | grep 'inet 10.7.0.2/24' && ip route | grep 'default via 10.7.0.1'")?;
    inside(&mut machine, "grep 'nameserver 10.7.0.1' /etc/resolv.conf")?;
    inside(&mut machine, "nslookup files.example 10.7.0.1 | grep 'Address.*10.0.2.2'")?;
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

/// A port of the loopback that is free now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn behind_nat(lab: &Lab) -> Result<()> {
    let knock = free_port()?;
    let mut machine = connected(lab, vec![(knock, 8080)])?;
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
    machine.ok("bridge unforward xenbr0 tcp/8080")?;
    machine.ok("xl destroy left")?;
    machine.ok("bridge del xenbr0")?;
    machine.ok("bridge del uplink").map(drop)
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
