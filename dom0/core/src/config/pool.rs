//! The configuration of a CPU pool (`xl cpupool-create`; xlcpupool.cfg(5)).

use alloc::borrow::ToOwned;
use alloc::string::String;

use super::cpus::CpuSet;
use super::error::{ConfigError, Problem};
use super::syntax::RawConfig;
use crate::pool::Scheduler;

/// A pool to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name.
    pub name: String,
    /// Its scheduler.
    pub scheduler: Scheduler,
    /// Its pCPUs; the first free one when absent.
    pub cpus: Option<CpuSet>,
}

impl PoolConfig {
    /// Reads the configuration `text` of the file `source`, with `key=value` arguments of the command line on top.
    ///
    /// # Errors
    /// The first thing that is wrong, with its file, line and key.
    pub fn parse(source: &str, text: &str, overrides: &[&str]) -> Result<Self, ConfigError> {
        let mut raw = RawConfig::parse(source, text)?;
        for argument in overrides {
            raw.override_with(argument)?;
        }
        if let Some(unknown) =
            raw.settings.iter().find(|setting| !["name", "sched", "cpus"].contains(&setting.key.as_str()))
        {
            return Err(unknown.error(Problem::UnknownKey(unknown.key.clone())));
        }
        let name = raw.name("name")?.ok_or_else(|| raw.missing("name"))?.to_owned();
        Ok(Self { name, scheduler: scheduler(&raw)?, cpus: cpus(&raw)? })
    }
}

fn scheduler(raw: &RawConfig) -> Result<Scheduler, ConfigError> {
    match (raw.text("sched")?, raw.setting("sched")) {
        (Some("null"), _) => Ok(Scheduler::Null),
        (Some(other), Some(setting)) if other != "credit2" => {
            Err(setting.bad_value("sched", other, "'credit2' or 'null'"))
        }
        _ => Ok(Scheduler::Credit2),
    }
}

/// A set as text, or a list of sets.
fn cpus(raw: &RawConfig) -> Result<Option<CpuSet>, ConfigError> {
    let Some(setting) = raw.setting("cpus") else { return Ok(None) };
    let parse = |text: &str| {
        let set = CpuSet::parse(text).filter(|set| *set != CpuSet::all());
        set.ok_or_else(|| setting.bad_value("cpus", text, "a set of CPUs such as \"1-3\""))
    };
    if let Ok(Some(text)) = raw.text("cpus") {
        return parse(text).map(Some);
    }
    let items = raw.list("cpus")?.map(|(_, items)| items).unwrap_or_default();
    let mask = items.into_iter().try_fold(0, |mask, text| Ok(mask | parse(text)?.mask()))?;
    if mask == 0 { parse("").map(Some) } else { Ok(Some(CpuSet::from_mask(mask))) }
}
