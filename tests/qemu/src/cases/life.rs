//! Domains come and go, and leave nothing behind.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::case;
use crate::machine::Machine;
use crate::parse::{self, Listed};
use crate::suite::{Case, Lab};

pub(super) const CASES: &[Case] = &[
    case("a_domain_is_created_listed_and_destroyed", create_and_destroy),
    case("a_paused_domain_stays_paused_until_unpaused", pause),
    case("a_domain_is_renamed_and_found_by_both_name_and_id", rename),
    case("create_with_c_attaches_the_console_and_ctrl_bracket_leaves_it", console),
    case("a_crash_is_followed_by_on_crash", crash),
    case("hello_is_created_within_20_ms_of_virtual_time", quick_create),
];

/// The line of `xl list` for a domain, if there is one.
pub(super) fn listed(machine: &mut Machine, name: &str) -> Result<Option<Listed>> {
    let domains = parse::list(&machine.ok("xl list")?)?;
    Ok(domains.into_iter().find(|domain| domain.name == name))
}

/// Waits until a domain is listed no more.
pub(super) fn wait_gone(machine: &mut Machine, name: &str) -> Result<()> {
    for _ in 0..60 {
        if listed(machine, name)?.is_none() {
            return Ok(());
        }
        machine.ok("sleep 0.5")?;
    }
    bail!("{name} is still listed; the end of the console:\n{}", machine.last_lines())
}

fn create_and_destroy(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.ok("xl create /store/hello.cfg")?;
    let hello = listed(&mut machine, "hello")?.context("hello is not listed")?;
    ensure!(hello.mem == 16 && hello.vcpus == 1, "{hello:?}");
    let id = machine.ok("xl domid hello")?;
    ensure!(id.trim() == hello.id.to_string(), "domid says {id}, the list {}", hello.id);
    machine.ok("xl destroy hello")?;
    ensure!(listed(&mut machine, "hello")?.is_none(), "hello is listed after its destruction");
    Ok(())
}

fn pause(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.ok("xl create -p /store/hello.cfg")?;
    let state = |machine: &mut Machine| Ok::<_, anyhow::Error>(listed(machine, "hello")?.context("not listed")?.state);
    ensure!(state(&mut machine)?.contains('p'), "hello was created paused");
    machine.ok("xl unpause hello")?;
    ensure!(!state(&mut machine)?.contains('p'), "hello was unpaused");
    machine.ok("xl pause hello")?;
    ensure!(state(&mut machine)?.contains('p'), "hello was paused");
    machine.ok("xl destroy hello")?;
    Ok(())
}

fn rename(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.ok("xl create /store/hello.cfg")?;
    let id = machine.ok("xl domid hello")?;
    machine.ok("xl rename hello salve")?;
    ensure!(machine.ok(&format!("xl domname {id}"))?.trim() == "salve", "the name is unchanged");
    machine.fails("xl domid hello", &["hello"])?;
    machine.ok(&format!("xl destroy {id}"))?;
    Ok(())
}

fn console(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.send("xl create -c /store/hello.cfg\r")?;
    machine.expect("hello", Duration::from_secs(30))?;
    machine.expect("\n", Duration::from_secs(30))?;
    // More than there is room for: it reads nothing, and keeps nobody at its console by that.
    machine.send(&"x".repeat(3000))?;
    machine.send("\x1d")?;
    let status = machine.prompt(Duration::from_secs(30))?;
    ensure!(status == Some(0), "leaving the console ended with {status:?}");
    ensure!(listed(&mut machine, "hello")?.is_some(), "leaving the console ended the domain");
    Ok(())
}

fn crash(lab: &Lab) -> Result<()> {
    let mut machine = lab.boot()?;
    machine.ok("xl create /store/hello.cfg extra=crash on_crash=destroy")?;
    wait_gone(&mut machine, "hello")?;
    machine.ok("xl create /store/hello.cfg extra=crash on_crash=preserve")?;
    machine.ok("sleep 1")?;
    let kept = listed(&mut machine, "hello")?.context("a preserved domain is not listed")?;
    ensure!(kept.state.contains('c'), "a crashed domain has the state {}", kept.state);
    machine.ok("xl destroy hello")?;
    Ok(())
}

/// Free memory in KiB, and every node of XenStore.
pub(super) fn resources(machine: &mut Machine) -> Result<(String, String)> {
    let info = machine.ok("xl info")?;
    Ok((parse::info(&info, "free_memory")?, machine.ok("xenstore-ls /")?))
}

fn quick_create(lab: &Lab) -> Result<()> {
    let mut config = lab.config();
    config.smp = 1;
    config.icount = true;
    let mut machine = Machine::boot(&config)?;
    let took = timed(&mut machine, "xl create /store/hello.cfg")?;
    ensure!(took <= 20_000, "xl create took {took} us of virtual time");
    Ok(())
}

/// Runs a command that must succeed; the microseconds that it took.
pub(super) fn timed(machine: &mut Machine, command: &str) -> Result<u64> {
    let text = machine.ok(&format!("time {command}"))?;
    let seconds = |line: &str| line.trim().strip_prefix("real")?.trim().strip_suffix('s')?.trim().parse::<f64>().ok();
    let took = text.lines().find_map(seconds).with_context(|| format!("`time` printed no `real` line:\n{text}"))?;
    Ok(Duration::from_secs_f64(took).as_micros().try_into()?)
}
