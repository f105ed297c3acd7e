//! Capabilities: the authority to control a domain or the machine, as entries of the holder's own table.

use hypercall_abi::control::Cap;
use hypercall_abi::errno::XenError;
use spin::mutex::SpinMutex;

use crate::domain::{Domain, MAX_DOMAINS};
use crate::hw::Hw;

/// What a capability names.
pub enum Target<H: Hw> {
    /// The machine.
    Platform,
    /// A domain.
    Domain(H::Shared<Domain<H>>),
}

/// The capabilities of one domain. An index is the claim; the entry is the authority.
pub struct CapTable<H: Hw> {
    /// Guards the entries. Nothing else is locked under it.
    entries: SpinMutex<Entries<H>>,
}

struct Entries<H: Hw> {
    slots: [Option<Target<H>>; MAX_DOMAINS],
    /// No slot before this one is free.
    first_free: usize,
}

impl<H: Hw> CapTable<H> {
    /// A table that holds the platform, for Dom0.
    pub fn with_platform() -> Self {
        let mut slots = [const { None }; MAX_DOMAINS];
        slots[Cap::PLATFORM.index() as usize] = Some(Target::Platform);
        CapTable { entries: SpinMutex::new(Entries { slots, first_free: 1 }) }
    }

    /// What `cap` names; `EPERM` if it is nothing.
    pub fn get(&self, cap: u64) -> Result<Target<H>, XenError> {
        match self.entries.lock().slots.get(index(cap)?) {
            Some(Some(Target::Platform)) => Ok(Target::Platform),
            Some(Some(Target::Domain(domain))) => Ok(Target::Domain(domain.clone())),
            Some(None) | None => Err(XenError::Perm),
        }
    }

    /// Adds a capability for `domain`.
    pub fn add(&self, domain: H::Shared<Domain<H>>) -> Result<Cap, XenError> {
        let mut entries = self.entries.lock();
        let from = entries.first_free;
        let free = entries.slots.iter_mut().enumerate().skip(from).find(|(_, slot)| slot.is_none());
        let (at, slot) = free.ok_or(XenError::NoSpc)?;
        *slot = Some(Target::Domain(domain));
        entries.first_free = at + 1;
        u32::try_from(at).map(Cap::new).map_err(|_| XenError::NoSpc)
    }

    /// Forgets a capability for a domain. The platform's stays.
    pub fn remove(&self, cap: u64) -> Result<(), XenError> {
        let at = index(cap)?;
        let mut entries = self.entries.lock();
        let slot = entries.slots.get_mut(at).filter(|slot| matches!(slot, Some(Target::Domain(_))));
        let removed = slot.ok_or(XenError::Perm)?.take();
        entries.first_free = entries.first_free.min(at);
        drop(entries);
        // The last reference to a domain may go here, which takes the frame table's lock.
        drop(removed);
        Ok(())
    }
}

fn index(cap: u64) -> Result<usize, XenError> {
    usize::try_from(cap).map_err(|_| XenError::Perm)
}

#[cfg(test)]
mod tests;
