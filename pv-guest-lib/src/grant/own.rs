//! Pages of ours that another domain may use: entries of our grant table, owned together with their page.

use core::cell::RefCell;

use critical_section::Mutex;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{GTF_READONLY, NR_RESERVED_ENTRIES};
use hypercall_abi::ids::{DomId, Gfn, GrantRef};

use super::Access;
use crate::addr::Ipa;
use crate::pages::Page;
use crate::shared::Shared;
use crate::sys::grant_table;

/// Entries that this domain can use at once, whatever size the hypervisor allows.
const MAX_ENTRIES: usize = 4096;

struct Free {
    /// A bit per entry that is mapped and not in use.
    bits: [u64; MAX_ENTRIES / 64],
    /// Entries of the table that are mapped.
    mapped: usize,
}

static FREE: Mutex<RefCell<Free>> = Mutex::new(RefCell::new(Free { bits: [0; MAX_ENTRIES / 64], mapped: 0 }));

impl Free {
    fn take(&mut self) -> Option<GrantRef> {
        let (word, bits) = self.bits.iter_mut().enumerate().find(|(_, bits)| **bits != 0)?;
        let bit = bits.trailing_zeros();
        *bits &= *bits - 1;
        u32::try_from(word * 64).ok().map(|base| GrantRef(base + bit))
    }

    fn put(&mut self, gref: GrantRef) {
        if let Some(bits) = self.bits.get_mut(gref.0 as usize / 64) {
            *bits |= 1 << (gref.0 % 64);
        }
    }

    /// Maps another frame of the table; its entries become free.
    fn grow(&mut self) -> Result<(), XenError> {
        if self.mapped >= MAX_ENTRIES {
            return Err(XenError::NoSpc);
        }
        let mapped = grant_table::grow()?.min(MAX_ENTRIES);
        for index in self.mapped.max(NR_RESERVED_ENTRIES as usize)..mapped {
            self.put(GrantRef(u32::try_from(index).map_err(|_| XenError::NoSpc)?));
        }
        self.mapped = mapped;
        Ok(())
    }
}

/// Whether any page is granted.
pub(crate) fn any() -> bool {
    critical_section::with(|cs| {
        let free = FREE.borrow(cs).borrow();
        let unused: u32 = free.bits.iter().map(|bits| bits.count_ones()).sum();
        free.mapped.saturating_sub(NR_RESERVED_ENTRIES as usize) != unused as usize
    })
}

/// A permission for one domain to use one frame of ours.
#[derive(Debug)]
struct Entry {
    gref: GrantRef,
}

impl Entry {
    fn new(domid: DomId, frame: Gfn, access: Access) -> Result<Self, XenError> {
        let gref = critical_section::with(|cs| {
            let mut free = FREE.borrow(cs).borrow_mut();
            if let Some(gref) = free.take() {
                return Ok(gref);
            }
            free.grow()?;
            free.take().ok_or(XenError::NoSpc)
        })?;
        let read_only = match access {
            Access::ReadOnly => GTF_READONLY,
            Access::ReadWrite => 0,
        };
        let entry = Self { gref };
        match grant_table::permit(gref, domid, frame, read_only) {
            Ok(()) => Ok(entry),
            Err(error) => {
                entry.end();
                Err(error)
            }
        }
    }

    /// Ends the access; `false` when the other side still has the page mapped.
    fn end(&self) -> bool {
        let ended = grant_table::revoke(self.gref);
        if ended {
            critical_section::with(|cs| FREE.borrow(cs).borrow_mut().put(self.gref));
        }
        ended
    }
}

/// A page of ours that another domain may use.
#[derive(Debug)]
pub struct GrantedPage {
    entry: Entry,
    page: Option<Page>,
    view: Ipa,
}

impl GrantedPage {
    /// Takes a zeroed page and lets `domid` use it.
    ///
    /// # Errors
    /// `ENOMEM` without a free page, `ENOSPC` without a free entry, or as the hypervisor answers.
    pub fn new(domid: DomId, access: Access) -> Result<Self, XenError> {
        let page = Page::new().ok_or(XenError::NoMem)?;
        let entry = Entry::new(domid, page.gfn(), access)?;
        Ok(Self { entry, view: page.ipa(), page: Some(page) })
    }

    /// The reference to tell the other domain.
    #[must_use]
    pub const fn gref(&self) -> GrantRef {
        self.entry.gref
    }

    /// Where the page is.
    #[must_use]
    pub const fn ipa(&self) -> Ipa {
        self.view
    }

    /// A view of the page's bytes.
    ///
    /// # Panics
    /// Never: the page is there until the value is dropped.
    #[must_use]
    pub fn shared(&self) -> Shared<'_> {
        self.page.as_ref().map(Page::shared).expect("the page is kept until the drop")
    }
}

impl Drop for GrantedPage {
    fn drop(&mut self) {
        if !self.entry.end()
            && let Some(page) = self.page.take()
        {
            let at = page.leak();
            log::warn!("page {at} is lost: grant {} is still mapped by its peer", self.entry.gref);
        }
    }
}
