//! A vector of which a copy shares everything with the original, until either is changed.
//!
//! Two levels, whatever the length: to reach an element costs the same in a full store as in an empty one. The first
//! change after a copy copies the list of pages and one page, each further one a page at most.

use alloc::sync::Arc;
use alloc::vec::Vec;

/// Elements of a page.
const PAGE: usize = 32;

/// See the module's description.
#[derive(Clone, Debug)]
pub(crate) struct Pages<T> {
    pages: Arc<Vec<Arc<Vec<T>>>>,
    len: usize,
}

impl<T: Clone> Pages<T> {
    pub(crate) fn new() -> Self {
        Self { pages: Arc::default(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / PAGE)?.get(index % PAGE)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let page = Arc::make_mut(&mut self.pages).get_mut(index / PAGE)?;
        Arc::make_mut(page).get_mut(index % PAGE)
    }

    pub(crate) fn push(&mut self, value: T) {
        let pages = Arc::make_mut(&mut self.pages);
        if self.len.is_multiple_of(PAGE) {
            pages.push(Arc::new(Vec::with_capacity(PAGE)));
        }
        if let Some(last) = pages.last_mut() {
            Arc::make_mut(last).push(value);
            self.len += 1;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_had_when_the_original_changes() {
        let mut pages = Pages::new();
        (0..3 * PAGE + 1).for_each(|n| pages.push(n));
        let copy = pages.clone();
        for n in 0..pages.len() {
            *pages.get_mut(n).unwrap() += 1000;
        }
        pages.push(7);
        assert!(copy.iter().copied().eq(0..3 * PAGE + 1));
        assert!(pages.iter().copied().eq((1000..1000 + 3 * PAGE + 1).chain([7])));
        assert_eq!((copy.get(copy.len()), pages.get(copy.len())), (None, Some(&7)));
        assert_eq!(pages.get_mut(pages.len() + PAGE), None);
    }
}
