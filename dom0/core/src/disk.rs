//! Disk specifications of `disk=` and `xl block-attach` (xl-disk-configuration(5)).

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

use crate::vdev::Vdev;

/// A disk of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// What holds the data.
    pub target: Target,
    /// What the guest sees.
    pub vdev: Vdev,
    /// Whether the guest may write.
    pub access: Access,
    /// What the guest takes it for.
    pub kind: Kind,
    /// Whether discards pass through; unset means yes for a writable disk.
    pub discard: Option<bool>,
    /// The guest may eject it.
    pub removable: bool,
}

/// What holds a disk's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file, by its path.
    File(String),
    /// A whole disk of Dom0 (`/dev/vda`), by its name (`vda`).
    Whole(String),
    /// A partition (`/dev/vda1`): the disk's name and the partition's number, from 1.
    Partition {
        /// The disk's name, such as `vda`.
        disk: String,
        /// The partition's number in its GPT.
        number: u32,
    },
    /// Memory of Dom0 (`ram:64M`): so many MiB, empty at first and gone with the device.
    Ram(u32),
}

/// The largest disk of memory, in MiB.
const MAX_RAM_MIB: u32 = 1 << 20;

/// Whether the guest may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `rw` or `w`.
    ReadWrite,
    /// `ro` or `r`.
    ReadOnly,
}

/// What the guest takes the device for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A disk.
    Disk,
    /// A CD-ROM; always read-only.
    Cdrom,
}

/// Why a specification is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskError {
    /// No target.
    NoTarget,
    /// No virtual device.
    NoVdev,
    /// The virtual device's name means nothing.
    BadVdev(String),
    /// A format other than `raw`.
    Format(String),
    /// An access mode that is none.
    Access(String),
    /// A parameter given twice.
    Repeated(&'static str),
    /// More positional parameters than there are places.
    TooMany(String),
    /// A parameter that is unknown or has a value that is not honoured.
    Parameter(String),
    /// A device under `/dev` whose name is not that of a disk or partition.
    BadDevice(String),
    /// A size of a disk of memory that is none.
    BadSize(String),
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTarget => write!(f, "no target"),
            Self::NoVdev => write!(f, "no vdev"),
            Self::BadVdev(name) => write!(f, "vdev '{name}' is not a virtual device such as xvda"),
            Self::Format(name) => write!(f, "format '{name}' is not supported (only raw)"),
            Self::Access(mode) => write!(f, "unknown value for access '{mode}' (ro or rw)"),
            Self::Repeated(what) => write!(f, "{what} respecified"),
            Self::TooMany(what) => write!(f, "too many positional parameters, at '{what}'"),
            Self::Parameter(what) => write!(f, "parameter '{what}' is not supported"),
            Self::BadDevice(path) => {
                write!(f, "'{path}' is not a disk or partition such as /dev/vda1")
            }
            Self::BadSize(target) => write!(f, "'{target}' has no size such as ram:64M"),
        }
    }
}

impl core::error::Error for DiskError {}

impl Disk {
    /// Parses `target, format, vdev, access`, named parameters in any place, `target=` last.
    ///
    /// # Errors
    /// The first parameter that does not suit.
    pub fn parse(spec: &str) -> Result<Self, DiskError> {
        let mut parts = Parts::default();
        let mut rest = spec.trim();
        while !rest.is_empty() {
            // `target=` takes the rest of the string, commas and all.
            if let Some(target) = rest.strip_prefix("target=") {
                once(&mut parts.target, "target", target)?;
                break;
            }
            let (parameter, next) = rest.split_once(',').unwrap_or((rest, ""));
            parts.parameter(parameter.trim())?;
            rest = next.trim_start();
        }
        parts.finish()
    }

    /// Whether the guest is offered discard.
    pub fn discard_enabled(&self) -> bool {
        self.discard.unwrap_or(self.access == Access::ReadWrite)
    }
}

/// A specification half read.
#[derive(Default)]
struct Parts<'a> {
    target: Option<&'a str>,
    format: Option<&'a str>,
    vdev: Option<&'a str>,
    access: Option<&'a str>,
    cdrom: bool,
    discard: Option<bool>,
    removable: bool,
}

fn once<'a>(place: &mut Option<&'a str>, what: &'static str, value: &'a str) -> Result<(), DiskError> {
    match place {
        Some(old) if !old.is_empty() => Err(DiskError::Repeated(what)),
        Some(_) | None => {
            *place = Some(value);
            Ok(())
        }
    }
}

impl<'a> Parts<'a> {
    fn parameter(&mut self, parameter: &'a str) -> Result<(), DiskError> {
        if let Some((name, value)) = parameter.split_once('=') {
            return self.named(parameter, name.trim(), value.trim());
        }
        match parameter {
            "cdrom" => self.cdrom = true,
            "discard" => self.discard = Some(true),
            "no-discard" => self.discard = Some(false),
            "removable" => self.removable = true,
            // Both describe what this back end always does: I/O goes to the device, and the guest trusts Dom0.
            "direct-io-safe" | "trusted" => {}
            "untrusted" => return Err(DiskError::Parameter(parameter.to_owned())),
            positional => return self.positional(positional),
        }
        Ok(())
    }

    fn named(&mut self, parameter: &str, name: &str, value: &'a str) -> Result<(), DiskError> {
        match (name, value) {
            ("format", _) => once(&mut self.format, "format", value),
            ("vdev", _) => once(&mut self.vdev, "vdev", value),
            ("access", _) => once(&mut self.access, "access", value),
            ("devtype", "cdrom") => {
                self.cdrom = true;
                Ok(())
            }
            ("devtype", "disk") | ("backendtype", "phy") | ("backend", "0" | "Domain-0") | ("specification", "xen") => {
                Ok(())
            }
            _ => Err(DiskError::Parameter(parameter.to_owned())),
        }
    }

    fn positional(&mut self, value: &'a str) -> Result<(), DiskError> {
        let places = [&mut self.target, &mut self.format, &mut self.vdev, &mut self.access];
        for place in places {
            if place.is_none() {
                *place = Some(value);
                return Ok(());
            }
        }
        Err(DiskError::TooMany(value.to_owned()))
    }

    fn finish(self) -> Result<Disk, DiskError> {
        match self.format {
            None | Some("" | "raw") => {}
            Some(other) => return Err(DiskError::Format(other.to_owned())),
        }
        let access = match self.access {
            None | Some("" | "rw" | "w") => Access::ReadWrite,
            Some("ro" | "r") => Access::ReadOnly,
            Some(other) => return Err(DiskError::Access(other.to_owned())),
        };
        let vdev = self.vdev.filter(|name| !name.is_empty()).ok_or(DiskError::NoVdev)?;
        let vdev = Vdev::parse(vdev).ok_or_else(|| DiskError::BadVdev(vdev.to_owned()))?;
        let target = self.target.filter(|target| !target.is_empty()).ok_or(DiskError::NoTarget)?;
        Ok(Disk {
            target: Target::parse(target)?,
            vdev,
            access: if self.cdrom { Access::ReadOnly } else { access },
            kind: if self.cdrom { Kind::Cdrom } else { Kind::Disk },
            discard: self.discard,
            removable: self.removable || self.cdrom,
        })
    }
}

impl Target {
    /// Parses a path: below `/dev` a disk or partition, anywhere else a file. The old prefixes `phy:` and `file:`
    /// say nothing more than the path does. `ram:` and a size, `64M` or `1G`, is memory.
    ///
    /// # Errors
    /// A path below `/dev` that names no disk, or a size that is none.
    pub fn parse(path: &str) -> Result<Self, DiskError> {
        if let Some(size) = path.strip_prefix("ram:") {
            return ram(size).map(Self::Ram).ok_or_else(|| DiskError::BadSize(path.to_owned()));
        }
        let path = path.strip_prefix("phy:").or_else(|| path.strip_prefix("file:")).unwrap_or(path);
        let Some(device) = path.strip_prefix("/dev/") else {
            return Ok(Self::File(path.to_owned()));
        };
        let bad = || DiskError::BadDevice(path.to_owned());
        let name = device.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = device.get(name.len()..).unwrap_or("");
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(bad());
        }
        match digits {
            "" => Ok(Self::Whole(name.to_owned())),
            digits if digits.starts_with('0') => Err(bad()),
            digits => Ok(Self::Partition { disk: name.to_owned(), number: digits.parse().map_err(|_| bad())? }),
        }
    }

    /// Rewrites a file's path; devices stay as they are.
    pub(crate) fn resolve(&mut self, rewrite: impl Fn(&str) -> String) {
        match self {
            Self::File(path) => *path = rewrite(path),
            Self::Whole(_) | Self::Partition { .. } | Self::Ram(_) => {}
        }
    }
}

/// The MiB of a size.
fn ram(size: &str) -> Option<u32> {
    let (digits, unit) = match (size.strip_suffix('M'), size.strip_suffix('G')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1024),
        (None, None) => return None,
    };
    let mib = digits.parse::<u32>().ok()?.checked_mul(unit)?;
    (1..=MAX_RAM_MIB).contains(&mib).then_some(mib)
}

impl fmt::Display for Target {
    /// The path, as XenStore's `params` holds it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(path),
            Self::Whole(disk) => write!(f, "/dev/{disk}"),
            Self::Partition { disk, number } => write!(f, "/dev/{disk}{number}"),
            Self::Ram(mib) => write!(f, "ram:{mib}M"),
        }
    }
}

#[cfg(test)]
mod tests;
