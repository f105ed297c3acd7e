//! The guest's pages that requests name: mapped, from the cache of those that stay mapped where they are there.

use alloc::vec::Vec;
use core::cell::RefCell;

use driver_api::{Access, Grants, MapError, MappedPage, PageCopy, SECTOR_SIZE, Segment as BusSegment, SharedPage};
use hypercall_abi::blkif::{BlkStatus, MAX_INDIRECT_PAGES, SEGMENTS_PER_INDIRECT_PAGE, Segment};
use hypercall_abi::ids::GrantRef;
use zerocopy::transmute;

use crate::persistent::{PersistentCache, Pin};
use crate::request::{Direction, sectors_of};
use crate::work::{Place, Work};

/// Bytes of one entry in an indirect page.
const SEGMENT_BYTES: usize = size_of::<Segment>();

/// What one device has mapped.
pub struct Mappings<G: Grants> {
    grants: G,
    /// Present when the front end agreed to persistent grants.
    persistent: Option<RefCell<PersistentCache<G::Page>>>,
    /// Pages that wait for the next batch to be unmapped.
    garbage: RefCell<Vec<G::Page>>,
}

impl<G: Grants> Mappings<G> {
    /// Nothing mapped yet. Up to `persistent` grants stay mapped (`None`: the front end does not want that).
    pub fn new(grants: G, persistent: Option<usize>) -> Self {
        let persistent = persistent.map(|bound| RefCell::new(PersistentCache::new(bound)));
        Self { grants, persistent, garbage: RefCell::new(Vec::new()) }
    }

    /// Carries out copies between the guest's pages and the host's, which take no mapping; false if one failed.
    pub fn copy(&self, copies: &[PageCopy], into_granted: bool) -> bool {
        self.grants.copy(copies, into_granted)
    }

    /// How many grants stay mapped now, if they may.
    pub fn kept(&self) -> Option<usize> {
        self.persistent.as_ref().map(|cache| cache.borrow().len())
    }

    /// Maps the pages of the segments and builds the scatter list.
    pub fn prepare(&self, direction: Direction, work: &mut Work<G::Page>) -> Result<(), BlkStatus> {
        let access = match direction {
            Direction::Read => Access::ReadWrite,
            Direction::Write => Access::ReadOnly,
        };
        let mut references = core::mem::take(&mut work.references);
        references.clear();
        references.extend(work.segments.iter().map(|segment| segment.gref));
        let mapped = self.map(&references, access, work);
        work.references = references;
        mapped?;
        self.build_scatter(work)
    }

    /// Copies the segment table of an indirect request, once, out of the pages that hold it.
    pub fn read_indirect(
        &self,
        pages: &[GrantRef; MAX_INDIRECT_PAGES],
        used: usize,
        work: &mut Work<G::Page>,
    ) -> Result<(), BlkStatus> {
        let count = used.div_ceil(SEGMENTS_PER_INDIRECT_PAGE);
        let pages = pages.get(..count).ok_or(BlkStatus::Error)?;
        self.map(pages, Access::ReadOnly, work)?;
        let mut left = used;
        for index in 0..count {
            let here = left.min(SEGMENTS_PER_INDIRECT_PAGE);
            left -= here;
            let mut segments = core::mem::take(&mut work.segments);
            let read = self.with_page(work, index, |page| {
                segments.extend((0..here).map(|n| -> Segment { transmute!(page.load_u64(n * SEGMENT_BYTES)) }));
            });
            work.segments = segments;
            read.ok_or(BlkStatus::Error)?;
        }
        Ok(())
    }

    /// Gives back what a batch of finished requests had mapped.
    pub fn release<'a>(&self, batch: impl Iterator<Item = &'a mut Work<G::Page>>)
    where
        G::Page: 'a,
    {
        let mut garbage = self.garbage.borrow_mut();
        for work in batch {
            garbage.append(&mut work.pages);
            if let Some(cache) = &self.persistent {
                let mut cache = cache.borrow_mut();
                work.pins.drain(..).for_each(|pin| cache.unpin(pin));
            }
        }
        if !garbage.is_empty() {
            self.grants.unmap(&mut garbage);
        }
    }

    /// Unmaps everything: the ring's pages and the cache. Nothing is in flight any more.
    pub fn close(&self, ring: Vec<G::Page>) {
        let mut pages = ring;
        pages.append(&mut self.garbage.borrow_mut());
        if let Some(cache) = &self.persistent {
            cache.borrow_mut().drain(&mut pages);
        }
        if !pages.is_empty() {
            self.grants.unmap(&mut pages);
        }
    }

    /// Maps `references`, from the cache where it has them, and leaves in `work.places` where each is. On an
    /// error the ones that were mapped stay with `work` until it retires.
    fn map(&self, references: &[GrantRef], access: Access, work: &mut Work<G::Page>) -> Result<(), BlkStatus> {
        let Work { missing, wanted, places, results, pages, pins, .. } = work;
        let mut cache = self.persistent.as_ref().map(RefCell::borrow_mut);
        missing.clear();
        wanted.clear();
        places.clear();
        for (index, &reference) in references.iter().enumerate() {
            match cache.as_mut().and_then(|cache| cache.pin(reference)) {
                Some(pin) => {
                    pins.push(pin);
                    places.push(Place::Pinned(pin));
                }
                None => {
                    missing.push(reference);
                    wanted.push(index);
                    places.push(Place::Unmapped);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        // What is to stay mapped must serve requests in both directions.
        let access = if cache.is_some() { Access::ReadWrite } else { access };
        results.clear();
        self.grants.map(missing, access, results);
        let mut garbage = self.garbage.borrow_mut();
        let mut outcome = Ok(());
        for ((result, &reference), &index) in results.drain(..).zip(missing.iter()).zip(wanted.iter()) {
            let place = match result {
                Err(MapError::BadGrant | MapError::NoSpace) => {
                    outcome = Err(BlkStatus::Error);
                    continue;
                }
                Ok(page) => match keep(cache.as_deref_mut(), reference, page, &mut garbage) {
                    Ok(pin) => {
                        pins.push(pin);
                        Place::Pinned(pin)
                    }
                    Err(page) => {
                        pages.push(page);
                        Place::Own(pages.len() - 1)
                    }
                },
            };
            if let Some(slot) = places.get_mut(index) {
                *slot = place;
            }
        }
        outcome
    }

    /// Looks at the page that `work.places[index]` names.
    fn with_page<T>(&self, work: &Work<G::Page>, index: usize, look: impl FnOnce(&G::Page) -> T) -> Option<T> {
        match *work.places.get(index)? {
            Place::Own(at) => work.pages.get(at).map(look),
            Place::Pinned(pin) => self.persistent.as_ref()?.borrow().page(pin).map(look),
            Place::Unmapped => None,
        }
    }

    /// Turns segments and mappings into bus addresses, joining neighbours so that the disk has fewer to fetch.
    fn build_scatter(&self, work: &mut Work<G::Page>) -> Result<(), BlkStatus> {
        let mut scatter = core::mem::take(&mut work.scatter);
        scatter.clear();
        for (index, segment) in work.segments.iter().enumerate() {
            let (first, sectors) = sectors_of(segment)?;
            let bus = self
                .with_page(work, index, MappedPage::bus_addr)
                .ok_or(BlkStatus::Error)?
                .offset(u64::from(first) * u64::from(SECTOR_SIZE));
            let len = u32::from(sectors) * SECTOR_SIZE;
            match scatter.last_mut() {
                Some(last) if last.bus.offset(u64::from(last.len)) == bus => last.len += len,
                Some(_) | None => scatter.push(BusSegment { bus, len }),
            }
        }
        work.scatter = scatter;
        Ok(())
    }
}

/// Puts a page into the cache, if there is one and it has room.
fn keep<P>(
    cache: Option<&mut PersistentCache<P>>,
    reference: GrantRef,
    page: P,
    evicted: &mut Vec<P>,
) -> Result<Pin, P> {
    match cache {
        Some(cache) => cache.insert(reference, page, evicted),
        None => Err(page),
    }
}
