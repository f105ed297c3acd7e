//! The data pages of one disk: granted once, and lent to one request after the other as chains.

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;

use super::BlkError;
use crate::grant::{Access, GrantedPage};

/// Pages that a disk has at most: as many as a full ring of direct requests uses, which is more than one request of
/// 1 MiB needs. A page is taken from the domain's memory when it is first needed.
const MAX_PAGES: usize = 352;

/// A page of the disk, by its place in the table.
type Index = u16;

struct Linked {
    page: GrantedPage,
    /// The next one of the chain that this is in.
    next: Option<Index>,
}

/// All pages of a disk.
pub(super) struct Pages {
    backend: DomId,
    pages: heapless::Vec<Linked, MAX_PAGES>,
    free: Chain,
}

/// Pages that belong together, in order. Whoever has a chain owns its pages until it gives them back.
#[derive(Default)]
pub(super) struct Chain {
    first: Option<Index>,
    length: usize,
}

impl Chain {
    pub(super) const EMPTY: Self = Self { first: None, length: 0 };

    pub(super) const fn len(&self) -> usize {
        self.length
    }
}

impl Pages {
    pub(super) const fn new(backend: DomId) -> Self {
        Self { backend, pages: heapless::Vec::new(), free: Chain::EMPTY }
    }

    /// Lends up to `count` pages, fewer when there are no more; an empty chain means that others must give theirs back
    /// first.
    ///
    /// # Errors
    /// As the hypervisor or the page pool answers, when the disk has no page at all.
    pub(super) fn lend(&mut self, count: usize) -> Result<Chain, BlkError> {
        while self.free.length < count && !self.pages.is_full() {
            match self.grow() {
                Ok(()) => {}
                Err(error) if self.pages.is_empty() => return Err(error.into()),
                Err(_) => break,
            }
        }
        let mut lent = Chain::EMPTY;
        while lent.length < count
            && let Some(page) = self.pop()
        {
            self.push(&mut lent, page);
        }
        Ok(lent)
    }

    /// Whether [`Pages::lend`] has something to lend.
    pub(super) fn has_some(&self) -> bool {
        self.free.length > 0 || self.pages.is_empty()
    }

    pub(super) fn give_back(&mut self, mut chain: Chain) {
        while let Some(first) = chain.first {
            chain.first = self.pages.get(usize::from(first)).and_then(|linked| linked.next);
            let mut free = core::mem::take(&mut self.free);
            self.push(&mut free, first);
            self.free = free;
        }
    }

    /// The pages of a chain.
    pub(super) fn of(&self, chain: &Chain) -> impl Iterator<Item = &GrantedPage> {
        let linked = |index: Index| self.pages.get(usize::from(index));
        let all = core::iter::successors(chain.first.and_then(linked), move |at| at.next.and_then(linked));
        all.map(|linked| &linked.page)
    }

    fn grow(&mut self) -> Result<(), XenError> {
        let index = Index::try_from(self.pages.len()).map_err(|_| XenError::NoMem)?;
        let page = GrantedPage::new(self.backend, Access::ReadWrite)?;
        self.pages.push(Linked { page, next: self.free.first }).map_err(|_| XenError::NoMem)?;
        self.free = Chain { first: Some(index), length: self.free.length + 1 };
        Ok(())
    }

    fn pop(&mut self) -> Option<Index> {
        let first = self.free.first?;
        let next = self.pages.get(usize::from(first))?.next;
        self.free = Chain { first: next, length: self.free.length - 1 };
        Some(first)
    }

    /// Puts a page in front of a chain.
    fn push(&mut self, chain: &mut Chain, page: Index) {
        if let Some(linked) = self.pages.get_mut(usize::from(page)) {
            linked.next = chain.first;
            *chain = Chain { first: Some(page), length: chain.length + 1 };
        }
    }
}
