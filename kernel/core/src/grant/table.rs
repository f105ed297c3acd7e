//! A grant table: its pages, what an entry in them counts, and the uses that are counted.
//!
//! The granter writes entries into pages that it shares with us, and we keep our halves of them in pages beside those.
//! A use is counted in our half, and shown to the granter in `GTF_reading` and `GTF_writing`. An entry that counts a use
//! names a frame, and each use holds a reference on it. Counts and references change together under the table's lock, so
//! a second user never meets a frame that the first one has just let go.

use core::marker::PhantomData;

use heapless::Vec;
use hypercall_abi::errno::XenError;
use hypercall_abi::grant::{
    ENTRIES_V1_PER_PAGE, ENTRY_V1_SIZE, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_TYPE_MASK, GTF_WRITING,
    GrantEntryV1, GrantStatus,
};
use hypercall_abi::ids::{DomId, Gfn, GrantRef};
use hypercall_abi::memory::XENMAPIDX_GRANT_TABLE_STATUS;
use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

use crate::addr::{Ipa, Pa};
use crate::domain::Domain;
use crate::frame::{FrameKind, FrameRef};
use crate::hw::Hw;
use crate::hypercall::Call;

/// Pages of a table at most (Xen's default for `max_grant_frames`).
const MAX_PAGES: usize = 64;
/// Where a page is that is not mapped (`INVALID_GFN`).
const NOWHERE: Gfn = Gfn(u64::MAX);
/// Attempts to change a word that its granter changes at the same time. An honest granter writes it once or twice.
const ATTEMPTS: u32 = 64;

/// One page of the table.
struct Page {
    /// What the granter writes. It can change at any moment.
    shared: FrameRef,
    /// Our halves of the same entries, of the same size.
    ours: FrameRef,
    /// Where the granter has it mapped.
    gfn: Gfn,
}

/// A domain's grant table. The pages go with it.
pub struct GrantTable {
    pages: Vec<Page, MAX_PAGES>,
    max: usize,
}

impl GrantTable {
    /// An empty table that may grow to `max_pages` pages.
    pub fn new(max_pages: u32) -> Self {
        let max = usize::try_from(max_pages).unwrap_or(MAX_PAGES).min(MAX_PAGES);
        GrantTable { pages: Vec::new(), max }
    }

    /// Pages now, and at most.
    #[allow(clippy::cast_possible_truncation, reason = "at most 64")]
    pub(super) fn size(&self) -> (u32, u32) {
        (self.pages.len() as u32, self.max as u32)
    }

    /// Where its pages are mapped.
    pub(super) fn places(&self) -> Vec<Gfn, MAX_PAGES> {
        self.pages.iter().map(|page| page.gfn).collect()
    }

    /// The entry of a reference that is inside the table.
    #[inline]
    pub(super) fn entry<H: Hw>(&self, gref: GrantRef) -> Option<Entry<H>> {
        let gref = usize::try_from(gref.0).ok()?;
        let page = self.pages.get(gref / ENTRIES_V1_PER_PAGE)?;
        let at = (gref % ENTRIES_V1_PER_PAGE * ENTRY_V1_SIZE) as u64;
        Some(Entry { shared: page.shared.pa().add(at), ours: page.ours.pa().add(at), hw: PhantomData })
    }

    /// The first entry that `wanted` accepts. Not for hot paths: a table has up to 32,768.
    pub(super) fn find<H: Hw>(&self, mut wanted: impl FnMut(&Entry<H>) -> bool) -> Option<Entry<H>> {
        (0..).map_while(|gref| self.entry(GrantRef(gref))).find(|entry| wanted(entry))
    }

    /// Makes the table of `owner` at least `pages` pages long, at the owner's cost.
    pub(super) fn grow<H: Hw>(&mut self, owner: DomId, pages: usize) -> Result<(), XenError> {
        if pages > self.max {
            return Err(XenError::Inval);
        }
        while self.pages.len() < pages {
            let (shared, ours) = (H::frame(owner, FrameKind::Shared)?, H::frame(owner, FrameKind::Object)?);
            // There is room for `max` pages.
            let _ = self.pages.push(Page { shared, ours, gfn: NOWHERE });
        }
        Ok(())
    }
}

/// Page `index` of the domain's table, which grows to have it, to be mapped at `gfn` (`XENMAPSPACE_grant_table`).
pub fn frame_to_map<H: Hw>(domain: &Domain<H>, index: u64, gfn: Gfn) -> Result<Pa, XenError> {
    if index & XENMAPIDX_GRANT_TABLE_STATUS != 0 {
        return Err(XenError::Inval);
    }
    let index = usize::try_from(index).map_err(|_| XenError::Inval)?;
    let mut table = domain.grants.lock();
    table.grow::<H>(domain.id, index.saturating_add(1))?;
    let page = table.pages.get_mut(index).ok_or(XenError::Inval)?;
    page.gfn = gfn;
    Ok(page.shared.pa())
}

/// Writes an entry in the name of a domain that has not started yet: `peer` may use the page `gfn`.
pub fn seed<H: Hw>(domain: &Domain<H>, gref: GrantRef, gfn: Gfn, peer: DomId) -> Result<(), XenError> {
    let frame = u32::try_from(gfn.0).map_err(|_| XenError::Range)?;
    let page = usize::try_from(gref.0).map_err(|_| XenError::Inval)? / ENTRIES_V1_PER_PAGE;
    let mut table = domain.grants.lock();
    table.grow::<H>(domain.id, page + 1)?;
    let entry = table.entry::<H>(gref).ok_or(XenError::Inval)?;
    H::store64(entry.shared, transmute!(GrantEntryV1 { flags: GTF_PERMIT_ACCESS, domid: peer, frame }));
    Ok(())
}

/// Both halves of an entry: the granter's `grant_entry_v1`, which can change at any moment, and our [`Counts`].
pub(super) struct Entry<H> {
    shared: Pa,
    ours: Pa,
    hw: PhantomData<H>,
}

/// Who uses a reference, how often for reading and for writing (up to 255 times each, as with Xen), and which frame.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Counts {
    uses: [u8; 2],
    user: DomId,
    /// The frame's number.
    frame: u32,
}

impl Counts {
    /// With one use more.
    fn with(mut self, user: DomId, write: bool, frame: Pa) -> Self {
        self.uses[usize::from(write)] += 1;
        // The hypervisor's address space has 40 bits, so the number of a frame fits.
        Counts { user, frame: u32::try_from(frame.number()).unwrap_or(u32::MAX), ..self }
    }

    fn frame(self) -> Pa {
        Pa::from_number(u64::from(self.frame))
    }
}

impl<H: Hw> Entry<H> {
    fn counts(&self) -> Counts {
        transmute!(H::load64(self.ours))
    }

    fn set_counts(&self, counts: Counts) {
        H::store64(self.ours, transmute!(counts));
    }

    /// Whether `user` uses `frame` through the entry, for reading or (if `write`) writing.
    pub(super) fn is_used(&self, user: DomId, write: bool, frame: Pa) -> bool {
        let counts = self.counts();
        counts.user == user && counts.uses[usize::from(write)] > 0 && counts.frame() == frame
    }

    /// Exchanges the granter's halves of two entries that nobody uses; false if somebody does.
    pub(super) fn swap(&self, other: &Self) -> bool {
        let free = self.counts().uses == [0; 2] && other.counts().uses == [0; 2];
        if free {
            let (mine, others) = (H::load64(self.shared), H::load64(other.shared));
            H::store64(self.shared, others);
            H::store64(other.shared, mine);
        }
        free
    }

    /// Checks that the entry permits the use, and sets the flags that show it, in one step against the granter; returns
    /// the frame that it grants.
    #[inline(always)]
    fn show(&self, user: DomId, write: bool) -> Result<Gfn, GrantStatus> {
        let mut found = H::load64(self.shared);
        for _ in 0..ATTEMPTS {
            let GrantEntryV1 { flags, domid, frame } = transmute!(found);
            let permits = flags & GTF_TYPE_MASK == GTF_PERMIT_ACCESS && !(write && flags & GTF_READONLY != 0);
            if !permits || domid != user {
                return Err(GrantStatus::GeneralError);
            }
            let flags = if write { GTF_READING | GTF_WRITING } else { GTF_READING };
            match H::cas64(self.shared, found, found | u64::from(flags)) {
                Ok(_) => return Ok(Gfn(frame.into())),
                Err(now) => found = now,
            }
        }
        // A granter that never leaves its entry alone grants nothing.
        Err(GrantStatus::GeneralError)
    }

    /// Checks that `user` may use the page once more than is counted, and shows that it does; returns what the entry grants if
    /// nobody has used it yet.
    #[inline(always)]
    fn show_one_more(&self, counts: Counts, user: DomId, write: bool) -> Result<Option<Gfn>, GrantStatus> {
        let first = counts.uses == [0; 2];
        if !first && counts.user != user {
            return Err(GrantStatus::GeneralError);
        }
        if counts.uses[usize::from(write)] == u8::MAX {
            return Err(GrantStatus::NoSpace);
        }
        let shown = if first || write && counts.uses[1] == 0 { Some(self.show(user, write)?) } else { None };
        Ok(shown.filter(|_| first))
    }

    /// The page of a use that was shown just now; `None`, and the flags are as before, if the granter has none there.
    #[inline(always)]
    fn page(&self, counts: Counts, granted: Option<Gfn>, granter: &Domain<H>) -> Option<FrameRef> {
        let page = match granted {
            Some(gfn) => granter.p2m.pin(Ipa::from_number(gfn.0)).ok(),
            // An entry in use stays with its frame, whatever the granter writes.
            None => H::frames().get(counts.frame(), granter.p2m.owner),
        };
        if page.is_none() {
            self.hide(counts);
        }
        page
    }

    /// Takes back the flags that no use stands for, behind all that was done with the page (release). Entries are aligned
    /// pairs of words, of which the second is written back as it was.
    fn hide(&self, counts: Counts) {
        let flags = match counts.uses {
            [0, 0] => GTF_READING | GTF_WRITING,
            [_, 0] => GTF_WRITING,
            [_, _] => return,
        };
        H::clear_bits64(self.shared, u64::from(flags));
    }
}

/// The domain that grants, while it lives.
#[inline(always)]
pub(super) fn granter<H: Hw>(call: &Call<'_, H>, id: DomId) -> Result<H::Shared<Domain<H>>, GrantStatus> {
    call.kernel.domains.get(id).filter(|granter| !granter.is_dying()).ok_or(GrantStatus::BadDomain)
}

/// Counts a use by `user`, for a [`Use`] or a mapping to end, and returns the frame.
#[inline(always)]
pub(super) fn begin<H: Hw>(granter: &Domain<H>, user: DomId, gref: GrantRef, write: bool) -> Result<Pa, GrantStatus> {
    let table = granter.grants.lock();
    let entry = table.entry::<H>(gref).ok_or(GrantStatus::BadGntRef)?;
    let counts = entry.counts();
    let granted = entry.show_one_more(counts, user, write)?;
    let Some(page) = entry.page(counts, granted, granter) else { return Err(GrantStatus::BadPage) };
    let frame = page.keep();
    entry.set_counts(counts.with(user, write, frame));
    Ok(frame)
}

/// Does `work` with what a domain grants, while that cannot end the access: under its table's lock. So it is short, and takes no
/// other lock of a table.
#[inline(always)]
pub(super) fn with_granted<H: Hw>(
    call: &Call<'_, H>,
    granter: &Domain<H>,
    gref: GrantRef,
    write: bool,
    work: impl FnOnce(Pa) -> Result<(), GrantStatus>,
) -> Result<(), GrantStatus> {
    let table = granter.grants.lock();
    let entry = table.entry::<H>(gref).ok_or(GrantStatus::BadGntRef)?;
    let counts = entry.counts();
    let granted = entry.show_one_more(counts, call.domain.id, write)?;
    let Some(page) = entry.page(counts, granted, granter) else { return Err(GrantStatus::BadPage) };
    let done = work(page.pa());
    drop(page);
    entry.hide(counts);
    done
}

/// A page in use, with a reference on its frame. Ends when it is dropped.
pub(super) struct Use<H: Hw> {
    /// Who granted the page and counts the use; `None` for a page of the user's own, or of a granter that is gone.
    pub(super) granter: Option<H::Shared<Domain<H>>>,
    /// By which reference. Uses of one frame through several references are alike: one may end in another's place.
    pub(super) gref: GrantRef,
    pub(super) user: DomId,
    pub(super) write: bool,
    pub(super) frame: Pa,
}

impl<H: Hw> Drop for Use<H> {
    fn drop(&mut self) {
        let Some(granter) = &self.granter else { return H::frames().put(self.frame) };
        let table = granter.grants.lock();
        H::frames().put(self.frame);
        let counts_it = |entry: &Entry<H>| entry.is_used(self.user, self.write, self.frame);
        let named = table.entry(self.gref).filter(counts_it);
        let Some(entry) = named.or_else(|| table.find(counts_it)) else { return };
        let mut counts = entry.counts();
        counts.uses[usize::from(self.write)] -= 1;
        entry.set_counts(counts);
        if counts.uses[usize::from(self.write)] == 0 {
            entry.hide(counts);
        }
    }
}
