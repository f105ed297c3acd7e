//! The register: entries by handle, id and name.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::{Entry, VacantEntry};
use alloc::string::String;
use core::fmt;

use hypercall_abi::ids::DomId;
use hypercall_abi::sched::ShutdownReason;

use super::life::{Life, Next};
use crate::config::{DomainConfig, check_name};
use crate::shell::DomainRef;
use crate::uuid::Uuid;

/// Dom0's name, as `xl list` shows it.
pub const DOM0_NAME: &str = "Domain-0";

/// An entry of the register, from `xl create` to the last trace of the domain. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handle(u64);

/// A domain that the toolstack made.
#[derive(Debug, Clone)]
pub struct Domain {
    /// The entry's handle.
    pub handle: Handle,
    /// Its id, once the microkernel gave it one.
    pub domid: Option<DomId>,
    /// Its name now; a restart uses that of `config`.
    pub name: String,
    /// Its UUID.
    pub uuid: Uuid,
    /// What it was made from.
    pub config: DomainConfig,
    /// Where it is in its life.
    pub life: Life,
    /// When it was created, in nanoseconds of the machine's uptime.
    pub created_ns: u64,
}

/// Why the register refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainError {
    /// The name is in use.
    NameTaken(String),
    /// The UUID is in use.
    UuidTaken(Uuid),
    /// The text cannot be a domain's name.
    BadName {
        /// The text.
        name: String,
        /// What a name must be.
        expected: &'static str,
    },
    /// No such domain.
    NotFound(String),
    /// What was asked cannot be done to Dom0.
    IsDom0,
    /// The domain is not in a state for it.
    WrongState {
        /// The domain's name.
        name: String,
        /// The state it is in.
        life: Life,
    },
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken(name) => write!(f, "key 'name': a domain with name \"{name}\" already exists"),
            Self::UuidTaken(uuid) => {
                write!(f, "key 'uuid': a domain with UUID {uuid} already exists")
            }
            Self::BadName { name, expected } => write!(f, "'{name}' is not {expected}"),
            // The number is libxl's ERROR_INVAL, which xl prints.
            Self::NotFound(name) => write!(f, "{name} is an invalid domain identifier (rc=-6)"),
            Self::IsDom0 => write!(f, "Cannot do that to privileged domain 0"),
            Self::WrongState { name, life } => {
                let state = match life {
                    Life::Building => "being built",
                    Life::Live => "running",
                    Life::Stopped(_) => "shut down",
                    Life::Preserved(_) => "preserved after its end",
                    Life::Dying => "being destroyed",
                };
                write!(f, "domain {name} is {state}")
            }
        }
    }
}

impl core::error::Error for DomainError {}

/// All domains but Dom0. Found by handle, id, name or UUID without a look at the others, so that one more costs the
/// same when there are hundreds.
#[derive(Debug, Default)]
pub struct Register {
    /// In the order of creation.
    domains: BTreeMap<Handle, Domain>,
    ids: BTreeMap<DomId, Handle>,
    names: BTreeMap<String, Handle>,
    uuids: BTreeMap<[u8; 16], Handle>,
    next: u64,
}

impl Register {
    /// Takes a name and UUID for a domain to be built.
    ///
    /// # Errors
    /// Either is in use.
    pub fn begin(&mut self, config: DomainConfig, uuid: Uuid, now_ns: u64) -> Result<Handle, DomainError> {
        let name = config.name.clone();
        let by_name = vacant(&mut self.names, &name)?;
        let Entry::Vacant(by_uuid) = self.uuids.entry(*uuid.as_bytes()) else {
            return Err(DomainError::UuidTaken(uuid));
        };
        let handle = Handle(self.next);
        self.next += 1;
        by_name.insert(handle);
        by_uuid.insert(handle);
        let life = Life::Building;
        self.domains.insert(handle, Domain { handle, domid: None, name, uuid, config, life, created_ns: now_ns });
        Ok(handle)
    }

    /// The microkernel has given the domain its id.
    pub fn assign(&mut self, handle: Handle, domid: DomId) {
        if let Some(domain) = self.domains.get_mut(&handle) {
            domain.domid = Some(domid);
            self.ids.insert(domid, handle);
        }
    }

    /// The domain is complete.
    pub fn built(&mut self, handle: Handle) {
        if let Some(domain) = self.get_mut(handle).filter(|domain| domain.life == Life::Building) {
            domain.life = Life::Live;
        }
    }

    /// Forgets the domain: it could not be built, or it is gone.
    pub fn forget(&mut self, handle: Handle) -> Option<Domain> {
        let domain = self.domains.remove(&handle)?;
        unname(&mut self.names, &domain);
        self.uuids.remove(domain.uuid.as_bytes());
        if let Some(domid) = domain.domid {
            self.ids.remove(&domid);
        }
        Some(domain)
    }

    /// The domain has stopped; gives its handle and what to do. `None` for a domain that is not live, whose end was
    /// asked for or seen already.
    pub fn stopped(&mut self, domid: DomId, reason: ShutdownReason) -> Option<(Handle, Next)> {
        let domain = self.domains.get_mut(self.ids.get(&domid)?)?;
        if domain.life != Life::Live {
            return None;
        }
        let next = Next::after(reason, &domain.config);
        domain.life = match next {
            Next::Keep => Life::Live,
            Next::Preserve | Next::RenameRestart => Life::Preserved(reason),
            Next::Destroy | Next::Restart | Next::Dump { .. } => Life::Stopped(reason),
        };
        if next == Next::RenameRestart {
            unname(&mut self.names, domain);
            domain.name = alloc::format!("{}-{domid}", domain.name);
            self.names.entry(domain.name.clone()).or_insert(domain.handle);
        }
        Some((domain.handle, next))
    }

    /// Marks the domain as being taken down. Only one caller gets to do it.
    ///
    /// # Errors
    /// It is being built or taken down already.
    pub fn dying(&mut self, handle: Handle) -> Result<&Domain, DomainError> {
        let domain = self.get_mut(handle).ok_or_else(|| DomainError::NotFound(String::new()))?;
        match domain.life {
            Life::Live | Life::Stopped(_) | Life::Preserved(_) => {
                domain.life = Life::Dying;
                Ok(domain)
            }
            life @ (Life::Building | Life::Dying) => Err(DomainError::WrongState { name: domain.name.clone(), life }),
        }
    }

    /// Replaces a preserved domain's UUID, so that its successor can have the configured one.
    pub fn give_uuid(&mut self, handle: Handle, uuid: Uuid) {
        if let Some(domain) = self.domains.get_mut(&handle) {
            self.uuids.remove(domain.uuid.as_bytes());
            self.uuids.insert(*uuid.as_bytes(), handle);
            domain.uuid = uuid;
        }
    }

    /// Renames a domain.
    ///
    /// # Errors
    /// The name is taken or none, or the domain is Dom0 or not there.
    pub fn rename(&mut self, which: &DomainRef, name: &str) -> Result<&Domain, DomainError> {
        let handle = self.find(which)?.handle;
        check_name(name).map_err(|expected| DomainError::BadName { name: name.to_owned(), expected })?;
        vacant(&mut self.names, name)?;
        let domain = self.domains.get_mut(&handle).ok_or_else(|| DomainError::NotFound(name.to_owned()))?;
        unname(&mut self.names, domain);
        self.names.insert(name.to_owned(), handle);
        domain.name = name.to_owned();
        // A restart builds from the configuration, and what was renamed comes back under its new name, as with xl.
        domain.config.name = name.to_owned();
        Ok(domain)
    }

    /// The guest that the user means.
    ///
    /// # Errors
    /// There is none, or it is Dom0.
    pub fn find(&self, which: &DomainRef) -> Result<&Domain, DomainError> {
        if self.domid(which)? == DomId::DOM0 {
            return Err(DomainError::IsDom0);
        }
        self.of(which).ok_or_else(|| DomainError::NotFound(alloc::format!("{which}")))
    }

    fn of(&self, which: &DomainRef) -> Option<&Domain> {
        let handle = match which {
            DomainRef::Id(domid) => self.ids.get(domid),
            DomainRef::Name(name) => self.names.get(name),
        };
        self.get(*handle?)
    }

    /// The id of the domain that the user means, Dom0 included.
    ///
    /// # Errors
    /// There is none, or it has no id yet.
    pub fn domid(&self, which: &DomainRef) -> Result<DomId, DomainError> {
        let id = match which {
            DomainRef::Id(DomId::DOM0) => Some(DomId::DOM0),
            DomainRef::Name(name) if name == DOM0_NAME => Some(DomId::DOM0),
            _ => self.of(which).and_then(|domain| domain.domid),
        };
        id.ok_or_else(|| DomainError::NotFound(alloc::format!("{which}")))
    }

    /// The name of a domain, Dom0 included.
    pub fn name(&self, domid: DomId) -> Option<&str> {
        match domid {
            DomId::DOM0 => Some(DOM0_NAME),
            _ => self.by_domid(domid).map(|domain| domain.name.as_str()),
        }
    }

    /// The entry with that id.
    pub fn by_domid(&self, domid: DomId) -> Option<&Domain> {
        self.get(*self.ids.get(&domid)?)
    }

    /// The entry with that handle.
    pub fn get(&self, handle: Handle) -> Option<&Domain> {
        self.domains.get(&handle)
    }

    /// All entries that have an id, in the order of creation.
    pub fn iter(&self) -> impl Iterator<Item = &Domain> {
        self.domains.values().filter(|domain| domain.domid.is_some())
    }

    fn get_mut(&mut self, handle: Handle) -> Option<&mut Domain> {
        self.domains.get_mut(&handle)
    }
}

/// The place of a name that nobody has.
fn vacant<'a>(
    names: &'a mut BTreeMap<String, Handle>,
    name: &str,
) -> Result<VacantEntry<'a, String, Handle>, DomainError> {
    match names.entry(name.to_owned()) {
        Entry::Vacant(place) if name != DOM0_NAME => Ok(place),
        Entry::Vacant(_) | Entry::Occupied(_) => Err(DomainError::NameTaken(name.to_owned())),
    }
}

/// Takes a domain's name out of use, unless it is another domain's: one that was renamed after its end may share it.
fn unname(names: &mut BTreeMap<String, Handle>, domain: &Domain) {
    if names.get(&domain.name) == Some(&domain.handle) {
        names.remove(&domain.name);
    }
}
