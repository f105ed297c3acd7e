//! Guests that talk to each other and to the world through Dom0's switch, each with its own kernel's network driver.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail, ensure};

use super::linux::{LONG, PROMPT, inside, leave, start};
use crate::config::Nic;
use crate::machine::Machine;
use crate::suite::Lab;

mod host;
pub(super) mod outside;
pub(super) mod switch;

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
