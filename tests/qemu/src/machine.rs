//! A machine with Dom0's shell at its serial line.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::config::Config;
use crate::console::{Console, Listener};
use crate::marks::{self, Mark};

/// How long a command may take when the caller says nothing.
const COMMAND: Duration = Duration::from_secs(60);

/// How long a boot to the prompt may take; QEMU emulates eight pCPUs on a busy host.
const BOOT: Duration = Duration::from_secs(60);

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Zero, or the shell's number for the failure.
    pub status: i32,
    /// What it printed, without the echo of the command and without terminal sequences.
    pub text: String,
}

/// A running machine whose console is at Dom0's prompt, or on its way there.
#[derive(Debug)]
pub struct Machine {
    console: Console,
    /// Everything before this byte of the console has been dealt with.
    seen: usize,
}

impl Machine {
    /// Boots to the first prompt.
    pub fn boot(config: &Config) -> Result<Self> {
        let mut machine = Self::start(config, None)?;
        machine.prompt(BOOT)?;
        Ok(machine)
    }

    /// Starts without waiting; `listener` gets a copy of the console.
    pub fn start(config: &Config, listener: Option<Listener>) -> Result<Self> {
        Ok(Self { console: Console::start(config, listener)?, seen: 0 })
    }

    /// Waits for the next prompt and returns the status of the command before it, if there was one.
    pub fn prompt(&mut self, within: Duration) -> Result<Option<i32>> {
        let from = self.seen;
        let look = |bytes: &[u8]| {
            let (mut at, mut status) = (from, None);
            while let Some(found) = marks::next(bytes, at) {
                at = found.end;
                match found.mark {
                    Mark::Finished(value) => status = Some(value),
                    Mark::Prompt => return Some((status, found.end)),
                    Mark::Other => {}
                }
            }
            None
        };
        let (status, end) = self
            .console
            .wait(Instant::now() + within, look)
            .map_err(|silence| self.console.error("no prompt of Dom0", silence))?;
        self.seen = end;
        Ok(status)
    }

    /// Runs a command of Dom0's shell.
    pub fn sh(&mut self, command: &str) -> Result<Output> {
        self.sh_within(command, COMMAND)
    }

    /// Runs a command that may take long.
    pub fn sh_within(&mut self, command: &str, within: Duration) -> Result<Output> {
        let from = self.seen;
        self.console.send(format!("{command}\r").as_bytes())?;
        let status = self.prompt(within).with_context(|| format!("`{command}`"))?;
        let status = status.with_context(|| format!("`{command}` ended without a status mark"))?;
        let said = self.console.since(from);
        // What follows the mark, the prompt, belongs to the next command.
        let said = marks::plain(said.get(..self.seen - from).unwrap_or(&said));
        Ok(Output { status, text: body(&said, command) })
    }

    /// Runs a command that must succeed, and returns what it printed.
    pub fn ok(&mut self, command: &str) -> Result<String> {
        let Output { status, text } = self.sh(command)?;
        ensure!(status == 0, "`{command}` failed with status {status}:\n{text}");
        Ok(text)
    }

    /// Runs a command that must fail with one line that holds each of `words`; returns the line.
    pub fn fails(&mut self, command: &str, words: &[&str]) -> Result<String> {
        let Output { status, text } = self.sh(command)?;
        ensure!(status != 0, "`{command}` should have failed but printed:\n{text}");
        // As on Xen, `xl create` says first which file it reads.
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("Parsing config from ")).collect();
        ensure!(lines.len() == 1, "`{command}` should fail with one line but printed:\n{text}");
        for word in words {
            ensure!(lines.concat().contains(word), "the error of `{command}` should name {word}: {text}");
        }
        Ok(text)
    }

    /// Types bytes as they are, for a domain's console that is attached.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.console.send(text.as_bytes())
    }

    /// Waits until the console says `text`, and returns everything since the last thing waited for.
    pub fn expect(&mut self, text: &str, within: Duration) -> Result<String> {
        let from = self.seen;
        let look = |bytes: &[u8]| {
            let rest = bytes.get(from..)?;
            marks::find(rest, text.as_bytes()).map(|at| from + at + text.len())
        };
        let end = self
            .console
            .wait(Instant::now() + within, look)
            .map_err(|silence| self.console.error(&format!("the console did not say {text:?}"), silence))?;
        let said = self.console.since(from);
        self.seen = end;
        Ok(marks::plain(said.get(..end - from).unwrap_or(&said)))
    }

    /// Runs a command at a shell inside a domain whose console is attached and whose prompt is `prompt`.
    ///
    /// The status is asked from that shell, so the answer of a command that prints nothing is known too.
    pub fn inside(&mut self, prompt: &str, command: &str, within: Duration) -> Result<Output> {
        self.send(&format!("{command}; echo status=$?\r"))?;
        // The echo of the typed line holds `status=$`, so only the answer holds a digit after the sign.
        let mut text = String::new();
        loop {
            text.push_str(&self.expect("status=", within).with_context(|| format!("`{command}` in the domain"))?);
            let rest = self.expect("\n", within)?;
            if let Ok(status) = rest.trim().parse() {
                self.expect(prompt, within)?;
                let text = text.trim_end_matches("status=");
                return Ok(Output { status, text: text.to_owned() });
            }
            text.clear();
        }
    }

    /// Waits for the machine to power off.
    pub fn end(&mut self, within: Duration) -> Result<()> {
        let status = self.console.end(within)?;
        if !status.success() {
            bail!("QEMU ended with {status}");
        }
        Ok(())
    }

    /// The last lines of the console, for a report.
    pub fn last_lines(&self) -> String {
        self.console.last_lines()
    }
}

/// The output of a command: what stands between its echo and the next prompt.
///
/// The prompt may stand there twice, because a message that comes while a line is typed has it drawn anew. Messages
/// of the hypervisor and of domains come when they come and belong to no command.
fn body(said: &str, command: &str) -> String {
    let mut lines = said.lines();
    lines.by_ref().find(|line| line.ends_with(command));
    let own: Vec<&str> = lines.filter(|line| !is_message(line)).collect();
    own.join("\n")
}

/// True for a line that begins with its origin: `(xenolith)` or `(d<domid>)`.
fn is_message(line: &str) -> bool {
    let origin = line.strip_prefix('(').and_then(|rest| rest.split_once(") "));
    origin.is_some_and(|(origin, _)| {
        let domid = origin.strip_prefix('d').unwrap_or_default();
        origin == "xenolith" || (!domid.is_empty() && domid.chars().all(|c| c.is_ascii_digit()))
    })
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
