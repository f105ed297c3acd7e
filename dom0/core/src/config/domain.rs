//! The keys of `xl.cfg` with their types and ranges, read into a [`DomainConfig`].

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use hypercall_abi::control::{DEFAULT_WEIGHT, MAX_SPIS, MAX_WEIGHT};

use super::cpus::{Affinity, CpuSet};
use super::error::{ConfigError, Problem};
use super::limits::{
    DEFAULT_EVENT_CHANNELS, DEFAULT_GRANT_FRAMES, DEFAULT_MEMORY_MIB, MAX_EVENT_CHANNELS, MAX_GRANT_FRAMES,
    MAX_MEMORY_MIB, MAX_NAME_LEN, MAX_VCPUS,
};
use super::read::resolve;
use super::syntax::RawConfig;
use crate::disk::Disk;
use crate::uuid::Uuid;
use crate::vif::Vif;

/// The keys that are honoured; any other is an error, so that a misspelt key is not a silent default.
const KEYS: [&str; 27] = [
    "name",
    "uuid",
    "kernel",
    "ramdisk",
    "extra",
    "cmdline",
    "root",
    "memory",
    "maxmem",
    "vcpus",
    "maxvcpus",
    "cpus",
    "cpus_soft",
    "cpu_weight",
    "cap",
    "pool",
    "disk",
    "vif",
    "on_poweroff",
    "on_reboot",
    "on_crash",
    "vuart",
    "device_tree",
    "max_grant_frames",
    "max_event_channels",
    "nr_spis",
    "type",
];

/// What to do with a domain that has stopped (xl.cfg(5), "Event Actions").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Take it down and free everything.
    Destroy,
    /// Take it down and create it again from its configuration.
    Restart,
    /// Keep it under another name for examination, and create it again.
    RenameRestart,
    /// Keep it for examination.
    Preserve,
    /// Write its memory to a file, then destroy it.
    CoredumpDestroy,
    /// Write its memory to a file, then restart it.
    CoredumpRestart,
}

impl Action {
    const ALL: [Self; 6] = [
        Self::Destroy,
        Self::Restart,
        Self::RenameRestart,
        Self::Preserve,
        Self::CoredumpDestroy,
        Self::CoredumpRestart,
    ];

    /// The action's name in `xl.cfg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::Restart => "restart",
            Self::RenameRestart => "rename-restart",
            Self::Preserve => "preserve",
            Self::CoredumpDestroy => "coredump-destroy",
            Self::CoredumpRestart => "coredump-restart",
        }
    }

    /// The action of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The virtual UART of a domain (`vuart`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Vuart {
    /// None: the guest has its PV console only.
    #[default]
    None,
    /// An SBSA UART, a PL011 subset (`sbsa_uart`).
    Sbsa,
}

/// A whole `xl.cfg`, judged: every value is in range and every path starts at the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainConfig {
    /// The domain's name, unique among running domains.
    pub name: String,
    /// Its UUID; made from random bytes when absent.
    pub uuid: Option<Uuid>,
    /// The kernel's path.
    pub kernel: String,
    /// The initrd's path.
    pub ramdisk: Option<String>,
    /// The kernel command line, from `cmdline` or `root` and `extra`.
    pub cmdline: String,
    /// Memory at start, MiB.
    pub memory_mib: u64,
    /// Memory that the domain may grow to, MiB; not less than `memory_mib`.
    pub maxmem_mib: u64,
    /// vCPUs online at start.
    pub vcpus: u32,
    /// vCPUs there are; not fewer than `vcpus`.
    pub max_vcpus: u32,
    /// Where the vCPUs may run.
    pub cpus: Affinity,
    /// Where the vCPUs run rather than elsewhere.
    pub cpus_soft: Affinity,
    /// The weight of each vCPU.
    pub cpu_weight: u32,
    /// The most that the vCPUs may run together, in per cent of a pCPU; 0 is no limit.
    pub cap: u32,
    /// The CPU pool; the default one when absent.
    pub pool: Option<String>,
    /// The disks, in the order given.
    pub disks: Vec<Disk>,
    /// The network interfaces, in the order given.
    pub vifs: Vec<Vif>,
    /// What follows a power-off.
    pub on_poweroff: Action,
    /// What follows a reboot.
    pub on_reboot: Action,
    /// What follows a crash.
    pub on_crash: Action,
    /// The virtual UART.
    pub vuart: Vuart,
    /// Path of a partial device tree to merge into the guest's.
    pub device_tree: Option<String>,
    /// Most frames of its grant table.
    pub max_grant_frames: u32,
    /// Most event channels it may have.
    pub max_event_channels: u32,
    /// Shared interrupts of its GIC, at least; there are 32 in any case.
    pub nr_spis: u32,
}

impl DomainConfig {
    /// Reads the configuration `text` of the file `source`, with `key=value` arguments of the command line on top.
    ///
    /// # Errors
    /// The first thing that is wrong, with its file, line and key.
    pub fn parse(source: &str, text: &str, overrides: &[&str]) -> Result<Self, ConfigError> {
        let mut raw = RawConfig::parse(source, text)?;
        for argument in overrides {
            raw.override_with(argument)?;
        }
        Self::from_raw(&raw)
    }

    /// Judges the keys of a well-formed configuration.
    ///
    /// # Errors
    /// The first key that is unknown, missing, mistyped or out of range.
    pub fn from_raw(raw: &RawConfig) -> Result<Self, ConfigError> {
        if let Some(unknown) = raw.settings.iter().find(|setting| !KEYS.contains(&setting.key.as_str())) {
            return Err(unknown.error(Problem::UnknownKey(unknown.key.clone())));
        }
        check_type(raw)?;
        let memory_mib = raw.number("memory", 1, MAX_MEMORY_MIB)?;
        let maxmem_mib = raw.number("maxmem", memory_mib.unwrap_or(1), MAX_MEMORY_MIB)?;
        let memory_mib = memory_mib.or(maxmem_mib).unwrap_or(DEFAULT_MEMORY_MIB);
        let vcpus = raw.number32("vcpus", 1, MAX_VCPUS)?;
        let max_vcpus = raw.number32("maxvcpus", vcpus.unwrap_or(1), MAX_VCPUS)?;
        let vcpus = vcpus.or(max_vcpus).unwrap_or(1);
        let path = |key| raw.name(key).map(|path| path.map(|path| resolve(&raw.source, path)));
        Ok(Self {
            name: domain_name(raw)?,
            uuid: uuid(raw)?,
            kernel: path("kernel")?.ok_or_else(|| raw.missing("kernel"))?,
            ramdisk: path("ramdisk")?,
            cmdline: cmdline(raw)?,
            memory_mib,
            maxmem_mib: maxmem_mib.unwrap_or(memory_mib),
            vcpus,
            max_vcpus: max_vcpus.unwrap_or(vcpus),
            cpus: cpus(raw, "cpus", vcpus)?,
            cpus_soft: cpus(raw, "cpus_soft", vcpus)?,
            cpu_weight: raw.number32("cpu_weight", 1, MAX_WEIGHT)?.unwrap_or(DEFAULT_WEIGHT),
            cap: raw.number32("cap", 0, 100 * max_vcpus.unwrap_or(vcpus))?.unwrap_or(0),
            pool: raw.name("pool")?.map(str::to_owned),
            disks: disks(raw)?,
            vifs: vifs(raw)?,
            on_poweroff: action(raw, "on_poweroff", Action::Destroy)?,
            on_reboot: action(raw, "on_reboot", Action::Restart)?,
            on_crash: action(raw, "on_crash", Action::Destroy)?,
            vuart: vuart(raw)?,
            device_tree: path("device_tree")?,
            max_grant_frames: raw.number32("max_grant_frames", 1, MAX_GRANT_FRAMES)?.unwrap_or(DEFAULT_GRANT_FRAMES),
            max_event_channels: raw
                .number32("max_event_channels", 1, MAX_EVENT_CHANNELS)?
                .unwrap_or(DEFAULT_EVENT_CHANNELS),
            nr_spis: raw.number32("nr_spis", 0, MAX_SPIS)?.unwrap_or(0),
        })
    }
}

/// `type`: the one kind of guest there is on Arm. Files that are shared with Xen often carry it.
fn check_type(raw: &RawConfig) -> Result<(), ConfigError> {
    match (raw.text("type")?, raw.setting("type")) {
        (Some(kind), Some(setting)) if kind != "pvh" => Err(setting.bad_value("type", kind, "'pvh'")),
        _ => Ok(()),
    }
}

fn domain_name(raw: &RawConfig) -> Result<String, ConfigError> {
    let name = raw.name("name")?.ok_or_else(|| raw.missing("name"))?;
    check_name(name).map_err(|expected| match raw.setting("name") {
        Some(setting) => setting.bad_value("name", name, expected),
        None => raw.missing("name"),
    })?;
    Ok(name.to_owned())
}

/// Whether `name` can name a domain. A name of digits alone would be taken for a domid by every command.
///
/// # Errors
/// What a name must be.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME_LEN {
        return Err("a name of 1 to 64 bytes");
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a name (digits alone are a domid)");
    }
    if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        return Err("a name (printable ASCII without blanks and '/')");
    }
    Ok(())
}

fn uuid(raw: &RawConfig) -> Result<Option<Uuid>, ConfigError> {
    match (raw.text("uuid")?, raw.setting("uuid")) {
        (Some(text), Some(setting)) => text.parse().map(Some).map_err(|_| setting.bad_value("uuid", text, "a UUID")),
        _ => Ok(None),
    }
}

/// `cmdline` wins over `root` and `extra`, which are Xen's older way to say the same.
fn cmdline(raw: &RawConfig) -> Result<String, ConfigError> {
    let (cmdline, root, extra) = (raw.text("cmdline")?, raw.text("root")?, raw.text("extra")?);
    Ok(match (cmdline, root, extra) {
        (Some(cmdline), _, _) => cmdline.to_owned(),
        (None, Some(root), Some(extra)) => alloc::format!("root={root} {extra}"),
        (None, Some(root), None) => alloc::format!("root={root}"),
        (None, None, extra) => extra.unwrap_or_default().to_owned(),
    })
}

fn cpus(raw: &RawConfig, key: &'static str, vcpus: u32) -> Result<Affinity, ConfigError> {
    const EXPECTED: &str = "a set of CPUs such as \"all\" or \"0-2,^1\"";
    let Some(setting) = raw.setting(key) else {
        return Ok(Affinity::Same(CpuSet::all()));
    };
    let parse = |text: &str| CpuSet::parse(text).ok_or_else(|| setting.bad_value(key, text, EXPECTED));
    if let Ok(Some(text)) = raw.text(key) {
        return parse(text).map(Affinity::Same);
    }
    let (_, items) = raw.list(key)?.unwrap_or((setting, Vec::new()));
    if items.len() as u64 > u64::from(vcpus) {
        return Err(setting.error(Problem::BadValue {
            key,
            value: alloc::format!("{}", setting.value),
            expected: "a list with one set for each vCPU",
        }));
    }
    items.into_iter().map(parse).collect::<Result<_, _>>().map(Affinity::PerVcpu)
}

fn disks(raw: &RawConfig) -> Result<Vec<Disk>, ConfigError> {
    let Some((setting, specs)) = raw.list("disk")? else {
        return Ok(Vec::new());
    };
    let mut disks: Vec<Disk> = Vec::with_capacity(specs.len());
    for spec in specs {
        let mut disk =
            Disk::parse(spec).map_err(|error| setting.error(Problem::Disk { spec: spec.to_owned(), error }))?;
        disk.target.resolve(|path| resolve(&raw.source, path));
        if disks.iter().any(|other| other.vdev.number() == disk.vdev.number()) {
            return Err(setting.error(Problem::DuplicateVdev(alloc::format!("{}", disk.vdev))));
        }
        disks.push(disk);
    }
    Ok(disks)
}

fn vifs(raw: &RawConfig) -> Result<Vec<Vif>, ConfigError> {
    let Some((setting, specs)) = raw.list("vif")? else {
        return Ok(Vec::new());
    };
    let parse =
        |spec: &str| Vif::parse(spec).map_err(|error| setting.error(Problem::Vif { spec: spec.to_owned(), error }));
    specs.into_iter().map(parse).collect()
}

fn action(raw: &RawConfig, key: &'static str, default: Action) -> Result<Action, ConfigError> {
    const EXPECTED: &str = "one of destroy, restart, rename-restart, preserve, coredump-destroy, coredump-restart";
    match (raw.text(key)?, raw.setting(key)) {
        (Some(name), Some(setting)) => Action::parse(name).ok_or_else(|| setting.bad_value(key, name, EXPECTED)),
        _ => Ok(default),
    }
}

fn vuart(raw: &RawConfig) -> Result<Vuart, ConfigError> {
    match (raw.text("vuart")?, raw.setting("vuart")) {
        (Some("sbsa_uart"), _) => Ok(Vuart::Sbsa),
        (Some(other), Some(setting)) if other != "unknown" => Err(setting.bad_value("vuart", other, "'sbsa_uart'")),
        _ => Ok(Vuart::None),
    }
}
