//! The shell on the serial line: reads lines, runs commands, tells how each ended.

mod blocks;
mod bridges;
mod console;
mod cpus;
mod devices;
mod domains;
mod files;
mod life;
mod machine;
mod networks;
mod store;
mod top;
mod trace;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;

use dom0_core::domain::DOM0_NAME;
use dom0_core::shell::{Command, Source, Xl, commands, completion, help, parse, xl_help};
use embassy_futures::select::{Either, select};
use embassy_time::{Duration, Instant, Timer};
use pv_guest_lib::control::{self, PowerAction};

use crate::store::Client;
use crate::terminal::{Input, Terminal};
use crate::toolstack::{Error, Toolstack};
use crate::trace::Tracing;

/// A command that failed: what to say.
pub struct Failure(String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure(error.to_string())
    }
}

impl From<dom0_core::domain::DomainError> for Failure {
    fn from(error: dom0_core::domain::DomainError) -> Self {
        Failure(error.to_string())
    }
}

impl From<hypercall_abi::errno::XenError> for Failure {
    fn from(error: hypercall_abi::errno::XenError) -> Self {
        Failure(format!("the hypervisor answers {error}"))
    }
}

impl From<core::fmt::Error> for Failure {
    fn from(_: core::fmt::Error) -> Self {
        Failure(String::from("the output could not be written"))
    }
}

/// How a command ended.
type Outcome = Result<(), Failure>;

/// The shell.
pub struct Shell {
    toolstack: Rc<Toolstack>,
    terminal: Rc<Terminal>,
    /// The connection of the `xenstore-*` commands.
    store: Client,
    tracing: Rc<Tracing>,
    /// Where `xl dmesg` starts in the log.
    dmesg_start: Cell<u64>,
}

impl Shell {
    /// A shell for whoever sits at `terminal`.
    pub fn new(toolstack: Rc<Toolstack>, terminal: Rc<Terminal>, store: Client) -> Self {
        let tracing = Tracing::new(Rc::clone(&toolstack));
        Shell { toolstack, terminal, store, tracing, dmesg_start: Cell::new(0) }
    }

    /// Runs commands. Never completes.
    pub async fn run(self) {
        let mut status = 0;
        loop {
            self.terminal.prompt(status).await;
            let line = loop {
                match self.terminal.input().await {
                    Input::Line(line) => break line,
                    Input::Complete(before) => self.complete(&before).await,
                }
            };
            status = self.execute(&line).await;
        }
    }

    /// Runs the commands of a line one after the other, and returns the status of the last.
    async fn execute(&self, line: &str) -> i32 {
        let mut status = 0;
        for command in commands(line) {
            status = self.command(command).await;
        }
        status
    }

    async fn command(&self, text: &str) -> i32 {
        let command = match parse(text) {
            Ok(command) => command,
            Err(error) => {
                self.terminal.print(&format!("{error}\n")).await;
                return error.status();
            }
        };
        let Command::Timed(command) = command else {
            return self.finish(command).await;
        };
        let start = Instant::now();
        let status = self.finish(*command).await;
        let took = start.elapsed().as_micros();
        self.terminal.print(&format!("real {}.{:06}s\n", took / 1_000_000, took % 1_000_000)).await;
        status
    }

    /// Carries a command out, says why it failed if it did, and returns its status.
    async fn finish(&self, command: Command) -> i32 {
        match self.carry_out(command).await {
            Ok(()) => 0,
            Err(Failure(reason)) => {
                // Without a reason, the status is all that the command says.
                if !reason.is_empty() {
                    self.terminal.print(&format!("{reason}\n")).await;
                }
                1
            }
        }
    }

    async fn carry_out(&self, command: Command) -> Outcome {
        match command {
            // The parser puts a timed command in no other, so this is none.
            Command::Nothing | Command::Timed(_) => Ok(()),
            Command::Xl(xl) => self.xl(xl).await,
            Command::Store(command) => self.store_command(command).await,
            Command::Ls { paths, long } => self.ls(&paths, long).await,
            Command::Cat(paths) => self.cat(&paths).await,
            Command::Sleep(milliseconds) => self.sleep(milliseconds).await,
            Command::Bridge(bridge) => self.bridge(bridge).await,
            Command::Iperf(bridge) => Ok(self.toolstack.switch.serve_iperf(&bridge)?),
            Command::Poweroff => self.power(PowerAction::Off).await,
            Command::Reboot => self.power(PowerAction::Restart).await,
            Command::Help(topic) => match help(topic.as_deref()) {
                Some(text) => self.say(&text).await,
                None => Err(Failure(format!("help: there is no command {}", topic.unwrap_or_default()))),
            },
        }
    }

    async fn xl(&self, command: Xl) -> Outcome {
        match command {
            Xl::Create { file, overrides, console, paused } => self.create(&file, &overrides, console, paused).await,
            Xl::List { long, verbose, domains } => self.list(long, verbose, &domains).await,
            Xl::Destroy(domain) => self.destroy(&domain).await,
            Xl::Shutdown { target, wait } => self.ask(&target, "poweroff", wait).await,
            Xl::Reboot { target, wait } => self.ask(&target, "reboot", wait).await,
            Xl::Pause(domain) => self.pause(&domain),
            Xl::Unpause(domain) => self.unpause(&domain),
            Xl::Console { domain, kind } => self.console(&domain, kind).await,
            Xl::Info => self.info().await,
            Xl::Dmesg { clear } => self.dmesg(clear).await,
            Xl::Domid(name) => self.domid(&name).await,
            Xl::Domname(domid) => self.domname(domid).await,
            Xl::Rename { domain, name } => self.rename(&domain, &name),
            Xl::MemSet { domain, kib } => self.mem_set(&domain, kib),
            Xl::VcpuList(domains) => self.vcpu_list(&domains).await,
            Xl::VcpuPin { domain, vcpu, hard, soft } => {
                let (domid, _) = self.one(&domain)?;
                Ok(self.toolstack.change_pools(|pools| pools.pin(domid, vcpu, hard, soft))?)
            }
            Xl::VcpuSet { domain, count, ignore_host } => self.vcpu_set(&domain, count, ignore_host),
            Xl::Share { domain, pool, weight, cap } => self.share(domain.as_ref(), pool.as_deref(), weight, cap).await,
            Xl::Pool(command) => self.pool(command).await,
            Xl::BlockAttach { domain, disk } => self.block_attach(&domain, &disk).await,
            Xl::BlockDetach { domain, vdev, force } => self.block_detach(&domain, &vdev, force).await,
            Xl::BlockResize { domain, vdev, kib } => self.block_resize(&domain, &vdev, kib).await,
            Xl::BlockList(domains) => self.block_list(&domains).await,
            Xl::NetworkAttach { domain, vif } => self.network_attach(&domain, &vif).await,
            Xl::NetworkDetach { domain, vif, force } => self.network_detach(&domain, &vif, force).await,
            Xl::NetworkList(domains) => self.network_list(&domains).await,
            Xl::Uptime { short, domains } => self.uptime(short, &domains).await,
            Xl::Top { batch, networks, delay_ms, iterations } => self.top(batch, networks, delay_ms, iterations).await,
            Xl::Trace(command) => self.trace(&command).await,
            Xl::Help(topic) => self.say(&xl_help(topic.as_deref())).await,
        }
    }

    /// Prints text and ends its last line.
    async fn say(&self, text: &str) -> Outcome {
        self.terminal.print(text).await;
        if !text.ends_with('\n') && !text.is_empty() {
            self.terminal.print("\n").await;
        }
        Ok(())
    }

    async fn sleep(&self, milliseconds: u64) -> Outcome {
        match select(Timer::after(Duration::from_millis(milliseconds)), self.terminal.interrupted()).await {
            Either::First(()) => Ok(()),
            Either::Second(()) => Err(Failure(String::from("sleep: interrupted"))),
        }
    }

    async fn power(&self, action: PowerAction) -> Outcome {
        self.say(match action {
            PowerAction::Off => "The machine goes off.",
            PowerAction::Restart => "The machine restarts.",
        })
        .await?;
        Err(control::power(action).into())
    }

    /// Looks up what the word at the cursor may become.
    async fn complete(&self, before: &str) {
        let wanted = completion(before);
        let candidates = match wanted.source {
            Source::Nothing | Source::Command | Source::XlCommand | Source::Words(_) => wanted.candidates,
            Source::Domain => {
                let register = self.toolstack.register.borrow();
                let all = core::iter::once(DOM0_NAME).chain(register.iter().map(|domain| domain.name.as_str()));
                all.filter(|name| name.starts_with(&wanted.word)).map(String::from).collect()
            }
            Source::Pool => {
                let pools = self.toolstack.pools.borrow();
                pools.iter().map(|pool| pool.name.clone()).filter(|name| name.starts_with(&wanted.word)).collect()
            }
            Source::File => self.complete_file(&wanted.word).await,
            Source::StorePath => self.complete_path(&wanted.word),
        };
        self.terminal.complete(&wanted.word, &candidates).await;
    }

    async fn complete_file(&self, word: &str) -> Vec<String> {
        let word = if word.is_empty() { "/" } else { word };
        let (folder, start) = word.split_at(word.rfind('/').map_or(0, |at| at + 1));
        if folder == "/" {
            return Vec::from([String::from("/store/")]);
        }
        let entries = self.toolstack.disks.list(folder.trim_end_matches('/')).await.unwrap_or_default();
        let fitting = entries.into_iter().filter(|entry| entry.name.starts_with(start));
        fitting.map(|entry| format!("{folder}{}{}", entry.name, if entry.is_dir { "/" } else { "" })).collect()
    }

    fn complete_path(&self, word: &str) -> Vec<String> {
        let (folder, start) = word.split_at(word.rfind('/').map_or(0, |at| at + 1));
        let parent = if folder == "/" { "/" } else { folder.trim_end_matches('/') };
        let children = self.store.children(if parent.is_empty() { "/" } else { parent });
        let fitting = children.into_iter().filter(|name| name.starts_with(start));
        fitting.map(|name| format!("{folder}{name}")).collect()
    }
}
