//! The harness itself, against a stand-in for a machine that answers as Dom0's shell does.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Machine, Output, body};
use crate::config::Config;

const SHORT: Duration = Duration::from_millis(300);

/// A machine that is a script: it prints a boot line and then answers the few commands it knows.
fn stand_in() -> Result<Machine> {
    let mut config = Config::new("xenolith".into());
    config.emulator = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("stand-in.sh");
    Machine::boot(&config)
}

#[test]
fn the_echo_and_the_last_newline_are_no_output() {
    assert_eq!(body("xenolith# ls\na\nb\n", "ls"), "a\nb");
    assert_eq!(body("xenolith# true\n", "true"), "");
}

#[test]
fn messages_that_come_while_a_command_is_typed_or_runs_are_not_its_output() {
    let said = "xenolith# (d0) INFO: a disk\nxenolith# xl list\nName\n(xenolith) a fault\n(dd) is a tool\n";
    assert_eq!(body(said, "xl list"), "Name\n(dd) is a tool");
}

#[test]
fn a_command_returns_its_status_and_its_text() -> Result<()> {
    let mut machine = stand_in()?;
    assert_eq!(machine.sh("two")?, Output { status: 0, text: "one\ntwo".to_owned() });
    assert_eq!(machine.sh("bad")?, Output { status: 3, text: "bad: a reason".to_owned() });
    machine.fails("bad", &["reason"])?;
    ensure!(machine.fails("bad", &["something else"]).is_err(), "the word is not in the line");
    ensure!(machine.ok("bad").is_err(), "its status is 3");
    Ok(())
}

#[test]
fn a_hang_is_an_error_that_shows_the_console() -> Result<()> {
    let mut machine = stand_in()?;
    let error = machine.sh_within("hang", SHORT).err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(error.contains("`hang`") && error.contains("in time") && error.contains("stand-in boots"), "{error}");
    Ok(())
}

#[test]
fn a_failure_of_the_hypervisor_ends_the_waiting_at_once_with_its_backtrace() -> Result<()> {
    let mut machine = stand_in()?;
    let start = std::time::Instant::now();
    let error = machine.sh("panic").err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(error.contains("the hypervisor failed") && error.contains("#0 0x40201000"), "{error}");
    ensure!(start.elapsed() < Duration::from_secs(10), "it waited for the time to be up");
    Ok(())
}

#[test]
fn a_machine_that_ends_is_told_from_one_that_hangs() -> Result<()> {
    let mut machine = stand_in()?;
    let error = machine.sh("poweroff").err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(error.contains("before the machine ended"), "{error}");
    machine.end(Duration::from_secs(5))
}

#[test]
fn a_shell_inside_a_domain_gives_its_status_although_it_echoes() -> Result<()> {
    let mut machine = stand_in()?;
    machine.send("guest\r")?;
    machine.expect("linux# ", Duration::from_secs(5))?;
    let done = machine.inside("linux# ", "false", Duration::from_secs(5))?;
    assert_eq!(done.status, 1);
    Ok(())
}
