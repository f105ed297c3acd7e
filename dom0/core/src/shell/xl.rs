//! The subcommands of `xl`.

use alloc::string::String;
use alloc::vec::Vec;

use hypercall_abi::ids::DomId;

use super::command::{ConsoleKind, DomainRef, Target, Trace, Xl};
use super::cpus;
use super::numbers::{memory_kib, milliseconds, number};
use super::options::{Arguments, Opt, flag, valued};
use super::table::{self, Spec};
use super::usage::{self, UsageError, arguments, bad};

/// Seconds between two pictures of `xl top`, as xentop has it.
const TOP_DELAY_MS: u64 = 3000;

/// Parses what follows `xl`.
pub(super) fn parse(words: &[String]) -> Result<Xl, UsageError> {
    let Some((name, rest)) = words.split_first() else {
        return Err(UsageError::Usage(super::help::xl_help(None)));
    };
    let spec = table::find(&table::XL, name).ok_or(UsageError::NotImplemented)?;
    let scan = |options: &[Opt]| arguments(spec, usage::XL, rest, options);
    match spec.name {
        "create" => create(spec, scan(&[flag('c', ""), flag('p', ""), flag('e', ""), flag('q', "quiet")])?),
        "list" => {
            let args = scan(&[flag('l', "long"), flag('v', "verbose")])?;
            Ok(Xl::List { long: args.has('l'), verbose: args.has('v'), domains: domains(&args) })
        }
        "shutdown" => {
            let args = scan(&[flag('a', "all"), flag('w', "wait"), flag('F', "")])?;
            Ok(Xl::Shutdown { wait: args.has('w'), target: target(spec, &args)? })
        }
        "reboot" => {
            let args = scan(&[flag('a', "all"), flag('w', "wait"), flag('F', "")])?;
            Ok(Xl::Reboot { wait: args.has('w'), target: target(spec, &args)? })
        }
        "console" => console(spec, &scan(&[valued('t', ""), valued('n', "")])?),
        "dmesg" => Ok(Xl::Dmesg { clear: scan(&[flag('c', "clear")])?.has('c') }),
        "uptime" => {
            let args = scan(&[flag('s', "short")])?;
            Ok(Xl::Uptime { short: args.has('s'), domains: domains(&args) })
        }
        "top" => top(
            spec,
            &scan(&[flag('b', "batch"), flag('n', "networks"), valued('d', "delay"), valued('i', "iterations")])?,
        ),
        "block-detach" => {
            let args = scan(&[flag('f', "force")])?;
            let vdev = args.positional.get(1).cloned().unwrap_or_default();
            Ok(Xl::BlockDetach { domain: domain(&args), vdev, force: args.has('f') })
        }
        "network-detach" => {
            let args = scan(&[flag('f', "force")])?;
            let vif = args.positional.get(1).cloned().unwrap_or_default();
            Ok(Xl::NetworkDetach { domain: domain(&args), vif, force: args.has('f') })
        }
        "destroy" => Ok(Xl::Destroy(domain(&scan(&[])?))),
        "pause" => Ok(Xl::Pause(domain(&scan(&[])?))),
        "unpause" => Ok(Xl::Unpause(domain(&scan(&[])?))),
        "vcpu-list" => Ok(Xl::VcpuList(domains(&scan(&[])?))),
        "block-list" => Ok(Xl::BlockList(domains(&scan(&[])?))),
        "network-list" => Ok(Xl::NetworkList(domains(&scan(&[])?))),
        "trace" => trace(spec, &scan(&[])?),
        "info" => scan(&[]).map(|_| Xl::Info),
        name if name.starts_with("cpupool-")
            || name.starts_with("sched")
            || ["vcpu-pin", "vcpu-set"].contains(&name) =>
        {
            cpus::parse(spec, &scan(cpus::options(name))?)
        }
        _ => names(spec, &scan(&[])?),
    }
}

/// The subcommands that take names without options.
fn names(spec: &'static Spec, args: &Arguments) -> Result<Xl, UsageError> {
    let first = args.positional.first().cloned().unwrap_or_default();
    let further = args.positional.get(1..).unwrap_or_default();
    match spec.name {
        "domid" => Ok(Xl::Domid(first)),
        "domname" => match number(&first).and_then(|id| u16::try_from(id).ok()) {
            Some(id) => Ok(Xl::Domname(DomId(id))),
            None => Err(bad(spec, usage::XL, &alloc::format!("Invalid domain id '{first}'."))),
        },
        "rename" => {
            Ok(Xl::Rename { domain: DomainRef::parse(&first), name: further.first().cloned().unwrap_or_default() })
        }
        "mem-set" => {
            let size = further.first().map_or("", String::as_str);
            Ok(Xl::MemSet { domain: DomainRef::parse(&first), kib: kib_of(spec, size)? })
        }
        "block-resize" => {
            let [vdev, size] = [0, 1].map(|n| further.get(n).map_or("", String::as_str));
            let (domain, kib) = (DomainRef::parse(&first), kib_of(spec, size)?);
            Ok(Xl::BlockResize { domain, vdev: String::from(vdev), kib })
        }
        "network-attach" => Ok(Xl::NetworkAttach { domain: DomainRef::parse(&first), vif: further.join(",") }),
        "block-attach" => Ok(Xl::BlockAttach { domain: DomainRef::parse(&first), disk: further.join(",") }),
        _ => Ok(Xl::Help(args.positional.first().cloned())),
    }
}

/// A size, in KiB.
fn kib_of(spec: &'static Spec, size: &str) -> Result<u64, UsageError> {
    memory_kib(size)
        .ok_or_else(|| bad(spec, usage::XL, &alloc::format!("'{size}' is not a size, as in 64, 64m, 65536k or 1g.")))
}

/// The first argument without `=` is the file; every other one sets a key.
fn create(spec: &'static Spec, args: Arguments) -> Result<Xl, UsageError> {
    let (console, paused) = (args.has('c'), args.has('p'));
    let (overrides, mut files): (Vec<String>, Vec<String>) =
        args.positional.into_iter().partition(|argument| argument.contains('='));
    match (files.pop(), files.pop()) {
        (Some(file), None) => Ok(Xl::Create { file, overrides, console, paused }),
        (None, _) => Err(bad(spec, usage::XL, "'xl create' requires a configuration file.")),
        (Some(extra), Some(_)) => {
            Err(bad(spec, usage::XL, &alloc::format!("'xl create': '{extra}' is neither an option nor key=value.")))
        }
    }
}

fn console(spec: &'static Spec, args: &Arguments) -> Result<Xl, UsageError> {
    let kind = match args.value('t') {
        None | Some("pv") => ConsoleKind::Pv,
        Some("vuart" | "serial") => ConsoleKind::Vuart,
        Some(other) => {
            return Err(bad(spec, usage::XL, &alloc::format!("console type '{other}' is neither pv nor vuart.")));
        }
    };
    if !matches!(args.value('n'), None | Some("0")) {
        return Err(bad(spec, usage::XL, "there is only console number 0."));
    }
    Ok(Xl::Console { domain: domain(args), kind })
}

fn top(spec: &'static Spec, args: &Arguments) -> Result<Xl, UsageError> {
    let delay_ms = match args.value('d') {
        None => TOP_DELAY_MS,
        Some(text) => milliseconds(text)
            .filter(|&delay| delay > 0)
            .ok_or_else(|| bad(spec, usage::XL, &alloc::format!("invalid delay '{text}'.")))?,
    };
    let iterations = match args.value('i') {
        None => None,
        Some(text) => {
            Some(number(text).ok_or_else(|| bad(spec, usage::XL, &alloc::format!("invalid count '{text}'.")))?)
        }
    };
    Ok(Xl::Top { batch: args.has('b'), networks: args.has('n'), delay_ms, iterations })
}

/// `-a` or one domain, and not both.
fn target(spec: &'static Spec, args: &Arguments) -> Result<Target, UsageError> {
    match (args.has('a'), args.positional.first()) {
        (true, None) => Ok(Target::All),
        (false, Some(name)) => Ok(Target::One(DomainRef::parse(name))),
        (true, Some(_)) => Err(bad(spec, usage::XL, "You may not specify both a domain and '-a'.")),
        (false, None) => Err(bad(spec, usage::XL, "You must specify '-a' or a domain id.")),
    }
}

fn trace(spec: &'static Spec, args: &Arguments) -> Result<Xl, UsageError> {
    let words: Vec<&str> = args.positional.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["start", file] => Ok(Xl::Trace(Trace::Start((*file).into()))),
        ["stop"] => Ok(Xl::Trace(Trace::Stop)),
        ["status"] => Ok(Xl::Trace(Trace::Status)),
        _ => Err(bad(spec, usage::XL, "'xl trace' is followed by 'start' and a file, 'stop', or 'status'.")),
    }
}

fn domain(args: &Arguments) -> DomainRef {
    DomainRef::parse(args.positional.first().map_or("", String::as_str))
}

fn domains(args: &Arguments) -> Vec<DomainRef> {
    args.positional.iter().map(|name| DomainRef::parse(name)).collect()
}
