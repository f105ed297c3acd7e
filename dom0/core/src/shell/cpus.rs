//! The subcommands of `xl` that say who runs where and how much.

use alloc::string::String;

use super::command::{DomainRef, Pool, Xl};
use super::numbers::number;
use super::options::{Arguments, Opt, flag, valued};
use super::table::Spec;
use super::usage::{self, UsageError, bad};
use crate::config::CpuSet;

/// The options of such a command.
pub(super) fn options(name: &str) -> &'static [Opt] {
    const SHARE: [Opt; 4] = [valued('d', "domain"), valued('w', "weight"), valued('c', "cap"), valued('p', "cpupool")];
    const LIST: [Opt; 1] = [flag('c', "cpus")];
    const SET: [Opt; 1] = [flag('i', "ignore-host")];
    match name {
        "sched-credit2" | "sched" => &SHARE,
        "cpupool-list" => &LIST,
        "vcpu-set" => &SET,
        _ => &[],
    }
}

/// Parses one of them.
pub(super) fn parse(spec: &'static Spec, args: &Arguments) -> Result<Xl, UsageError> {
    let word = |n: usize| args.positional.get(n).cloned().unwrap_or_default();
    Ok(match spec.name {
        "vcpu-pin" => Xl::VcpuPin {
            domain: DomainRef::parse(&word(0)),
            vcpu: match word(1).as_str() {
                "all" => None,
                text => Some(number32(spec, "vcpu", text)?),
            },
            hard: affinity(spec, &word(2))?,
            soft: if args.positional.len() > 3 { affinity(spec, &word(3))? } else { None },
        },
        "vcpu-set" => Xl::VcpuSet {
            domain: DomainRef::parse(&word(0)),
            count: match number32(spec, "number of vcpus", &word(1))? {
                0 => return Err(bad(spec, usage::XL, "invalid number of vcpus '0'.")),
                count => count,
            },
            ignore_host: args.has('i'),
        },
        "cpupool-list" => Xl::Pool(Pool::List { cpus: args.has('c'), pool: args.positional.first().cloned() }),
        "cpupool-create" => Xl::Pool(create(spec, args)?),
        "cpupool-destroy" => Xl::Pool(Pool::Destroy(word(0))),
        "cpupool-rename" => Xl::Pool(Pool::Rename(word(0), word(1))),
        "cpupool-cpu-add" => Xl::Pool(Pool::Add(word(0), cpus(spec, &word(1))?)),
        "cpupool-cpu-remove" => Xl::Pool(Pool::Remove(word(0), cpus(spec, &word(1))?)),
        "cpupool-migrate" => Xl::Pool(Pool::Migrate(DomainRef::parse(&word(0)), word(1))),
        _ => share(spec, args)?,
    })
}

fn share(spec: &'static Spec, args: &Arguments) -> Result<Xl, UsageError> {
    let value = |option, what| args.value(option).map(|text| number32(spec, what, text)).transpose();
    let (weight, cap) = (value('w', "weight")?, value('c', "cap")?);
    let domain = args.value('d').map(DomainRef::parse);
    if domain.is_none() && (weight.is_some() || cap.is_some()) {
        return Err(bad(spec, usage::XL, "Must specify a domain."));
    }
    Ok(Xl::Share { domain, pool: args.value('p').map(String::from), weight, cap })
}

/// What has a `=` sets a key; at most one other word is the file.
fn create(spec: &'static Spec, args: &Arguments) -> Result<Pool, UsageError> {
    let (overrides, mut files): (alloc::vec::Vec<_>, alloc::vec::Vec<_>) =
        args.positional.iter().cloned().partition(|argument| argument.contains('='));
    match (files.pop(), files.pop()) {
        (Some(extra), Some(_)) => Err(bad(
            spec,
            usage::XL,
            &alloc::format!("'xl cpupool-create': '{extra}' is neither a file nor key=value."),
        )),
        (file, _) => Ok(Pool::Create { file, overrides }),
    }
}

/// `-` keeps what there is.
fn affinity(spec: &'static Spec, text: &str) -> Result<Option<CpuSet>, UsageError> {
    if text == "-" { Ok(None) } else { cpus_or_all(spec, text).map(Some) }
}

fn cpus_or_all(spec: &'static Spec, text: &str) -> Result<CpuSet, UsageError> {
    CpuSet::parse(text).ok_or_else(|| bad(spec, usage::XL, &alloc::format!("invalid cpu list '{text}'.")))
}

/// pCPUs by their numbers.
fn cpus(spec: &'static Spec, text: &str) -> Result<CpuSet, UsageError> {
    let set = cpus_or_all(spec, text)?;
    if set == CpuSet::all() {
        Err(bad(spec, usage::XL, &alloc::format!("invalid cpu list '{text}'.")))
    } else {
        Ok(set)
    }
}

fn number32(spec: &'static Spec, what: &str, text: &str) -> Result<u32, UsageError> {
    let value = number(text).and_then(|value| u32::try_from(value).ok());
    value.ok_or_else(|| bad(spec, usage::XL, &alloc::format!("invalid {what} '{text}'.")))
}
