//! Pages that a front end has given to be kept mapped (Xen public/io/netif.h, "Static Grants").
//!
//! The head of a frame that lies in such a page is read without a call to the hypervisor. What is behind the head goes
//! from guest to guest by its copy as ever.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use driver_api::{Access, Grants, MappedPage, PAGE_SIZE, SharedPage};
use hypercall_abi::ids::GrantRef;
use hypercall_abi::netif::{CtrlStatus, GREF_READ_ONLY, GrefMapping};
use zerocopy::{FromBytes, IntoBytes};

/// Pages that one queue may have mapped: a slot of its transmit ring each.
pub(crate) const MOST: usize = 256;
/// Bytes of an entry of a list.
const ENTRY: usize = size_of::<GrefMapping>();

/// The pages of one queue.
pub(crate) struct Mapped<P> {
    pages: BTreeMap<GrantRef, P>,
}

impl<P> Default for Mapped<P> {
    fn default() -> Self {
        Mapped { pages: BTreeMap::new() }
    }
}

impl<P: MappedPage> Mapped<P> {
    /// Copies bytes out of a page; false if it is not mapped.
    pub(crate) fn read(&self, gref: GrantRef, offset: u16, into: &mut [u8]) -> bool {
        let page = self.pages.get(&gref);
        page.inspect(|page| page.copy_out(offset.into(), into)).is_some()
    }

    /// Whether nothing is mapped, as with most front ends.
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// `ADD_GREF_MAPPING` of a list in the page `list`: all of them, or none.
    ///
    /// # Errors
    /// The code for the front end.
    pub(crate) fn add(
        &mut self,
        grants: &impl Grants<Page = P>,
        list: GrantRef,
        count: u32,
    ) -> Result<u32, CtrlStatus> {
        let (mut page, entries) = read_list(grants, list, count)?;
        grants.unmap(&mut page);
        let known = |entry: &GrefMapping| self.pages.contains_key(&entry.gref);
        let twice =
            (1..).zip(&entries).any(|(next, entry)| entries.iter().skip(next).any(|other| other.gref == entry.gref));
        if twice || entries.iter().any(known) || self.pages.len() + entries.len() > MOST {
            return Err(CtrlStatus::InvalidParameter);
        }
        let mut mapped = Vec::with_capacity(entries.len());
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let wanted =
                entries.iter().filter(|entry| (entry.flags & GREF_READ_ONLY != 0) == (access == Access::ReadOnly));
            let references: Vec<_> = wanted.map(|entry| entry.gref).collect();
            let mut results = Vec::with_capacity(references.len());
            if !references.is_empty() {
                grants.map(&references, access, &mut results);
            }
            mapped.extend(references.into_iter().zip(results));
        }
        if mapped.iter().any(|(_, result)| result.is_err()) {
            grants.unmap(&mut mapped.into_iter().filter_map(|(_, result)| result.ok()).collect());
            return Err(CtrlStatus::InvalidParameter);
        }
        self.pages.extend(mapped.into_iter().filter_map(|(gref, result)| Some((gref, result.ok()?))));
        Ok(0)
    }

    /// `DEL_GREF_MAPPING` of a list, in which each entry gets a code of its own. Returns how many were mapped.
    ///
    /// # Errors
    /// The code for the front end.
    pub(crate) fn remove(
        &mut self,
        grants: &impl Grants<Page = P>,
        list: GrantRef,
        count: u32,
    ) -> Result<u32, CtrlStatus> {
        let (mut list, entries) = read_list(grants, list, count)?;
        let mut gone = Vec::new();
        for (at, mut entry) in (0..).step_by(ENTRY).zip(entries) {
            let status = match self.pages.remove(&entry.gref) {
                Some(page) => {
                    gone.push(page);
                    CtrlStatus::Success
                }
                None => CtrlStatus::InvalidParameter,
            };
            entry.status = u16::try_from(status.raw()).unwrap_or(u16::MAX);
            list.iter().for_each(|page| page.copy_in(at, entry.as_bytes()));
        }
        let count = u32::try_from(gone.len()).unwrap_or(u32::MAX);
        grants.unmap(&mut gone);
        grants.unmap(&mut list);
        Ok(count)
    }

    /// All pages, to be unmapped.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = P> {
        core::mem::take(&mut self.pages).into_values()
    }
}

/// A page with a list, mapped, and a private copy of the list.
fn read_list<G: Grants>(
    grants: &G,
    list: GrantRef,
    count: u32,
) -> Result<(Vec<G::Page>, Vec<GrefMapping>), CtrlStatus> {
    let count = count as usize;
    if count > MOST || count * ENTRY > PAGE_SIZE {
        return Err(CtrlStatus::InvalidParameter);
    }
    let mut results = Vec::with_capacity(1);
    grants.map(&[list], Access::ReadWrite, &mut results);
    let pages: Vec<_> = results.into_iter().flatten().collect();
    let page = pages.first().ok_or(CtrlStatus::InvalidParameter)?;
    let mut bytes = alloc::vec![0; count * ENTRY];
    page.copy_out(0, &mut bytes);
    let entries =
        bytes.as_chunks::<ENTRY>().0.iter().map(|entry| GrefMapping::read_from_bytes(entry).unwrap_or_default());
    let entries = entries.collect();
    Ok((pages, entries))
}
