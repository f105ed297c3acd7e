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
    /// Where to look for a free slot first.
    hint: usize,
}

impl<H: Hw> CapTable<H> {
    /// A table that holds the platform, for Dom0.
    pub fn with_platform() -> Self {
        let mut slots = [const { None }; MAX_DOMAINS];
        slots[Cap::PLATFORM.index() as usize] = Some(Target::Platform);
        CapTable { entries: SpinMutex::new(Entries { slots, hint: 1 }) }
    }

    /// Checks that `cap` is the platform.
    pub fn platform(&self, cap: u64) -> Result<(), XenError> {
        match self.entries.lock().slots.get(index(cap)?) {
            Some(Some(Target::Platform)) => Ok(()),
            Some(Some(Target::Domain(_)) | None) | None => Err(XenError::Perm),
        }
    }

    /// The domain that `cap` names.
    pub fn domain(&self, cap: u64) -> Result<H::Shared<Domain<H>>, XenError> {
        match self.entries.lock().slots.get(index(cap)?) {
            Some(Some(Target::Domain(domain))) => Ok(domain.clone()),
            Some(Some(Target::Platform) | None) | None => Err(XenError::Perm),
        }
    }

    /// Adds a capability for `domain`.
    pub fn add(&self, domain: H::Shared<Domain<H>>) -> Result<Cap, XenError> {
        let mut entries = self.entries.lock();
        let hint = entries.hint % MAX_DOMAINS;
        let free = (hint..MAX_DOMAINS).chain(1..hint).find(|at| matches!(entries.slots.get(*at), Some(None)));
        let at = free.ok_or(XenError::NoSpc)?;
        entries.hint = at + 1;
        if let Some(slot) = entries.slots.get_mut(at) {
            *slot = Some(Target::Domain(domain));
        }
        u32::try_from(at).map(Cap::new).map_err(|_| XenError::NoSpc)
    }

    /// Forgets a capability for a domain. The platform's stays.
    pub fn remove(&self, cap: u64) -> Result<(), XenError> {
        let at = index(cap)?;
        let removed = {
            let mut entries = self.entries.lock();
            match entries.slots.get_mut(at) {
                Some(slot @ Some(Target::Domain(_))) => {
                    let removed = slot.take();
                    entries.hint = entries.hint.min(at);
                    removed
                }
                Some(Some(Target::Platform) | None) | None => return Err(XenError::Perm),
            }
        };
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
