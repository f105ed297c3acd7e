//! Grants that stay mapped between requests, for front ends with `feature-persistent`.
//!
//! The cache is bounded. When it is full the clock algorithm picks a victim: a hand passes over the entries
//! and takes the first that was not used since it last came by. That is LRU in effect, at O(1) for a hit.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use hypercall_abi::ids::GrantRef;

/// One mapped grant.
struct Entry<P> {
    reference: GrantRef,
    page: P,
    /// Requests in flight that use the page; it may not be unmapped while there are any.
    pins: u32,
    /// Used since the hand last passed.
    recent: bool,
}

/// An entry that a request uses; to be given back with [`PersistentCache::unpin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(usize);

/// The mapped grants of one device.
pub struct PersistentCache<P> {
    entries: Vec<Entry<P>>,
    index: BTreeMap<GrantRef, usize>,
    bound: usize,
    hand: usize,
}

impl<P> PersistentCache<P> {
    /// An empty cache for at most `bound` grants.
    pub fn new(bound: usize) -> Self {
        Self { entries: Vec::new(), index: BTreeMap::new(), bound, hand: 0 }
    }

    /// How many grants are mapped.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Looks up a grant and pins it.
    pub fn pin(&mut self, reference: GrantRef) -> Option<Pin> {
        let &index = self.index.get(&reference)?;
        let entry = self.entries.get_mut(index)?;
        entry.pins += 1;
        entry.recent = true;
        Some(Pin(index))
    }

    /// The page of a pinned entry. (Pinned entries do not move, so the answer is always `Some`.)
    pub fn page(&self, pin: Pin) -> Option<&P> {
        self.entries.get(pin.0).map(|entry| &entry.page)
    }

    /// Ends a use.
    pub fn unpin(&mut self, pin: Pin) {
        if let Some(entry) = self.entries.get_mut(pin.0) {
            entry.pins = entry.pins.saturating_sub(1);
        }
    }

    /// Adds a newly mapped page, pinned; when full, in place of an idle one, which goes to `evicted`.
    ///
    /// # Errors
    /// The page itself, if the grant is cached already or every entry is in use: it stays with its request.
    pub fn insert(&mut self, reference: GrantRef, page: P, evicted: &mut Vec<P>) -> Result<Pin, P> {
        if self.index.contains_key(&reference) || self.bound == 0 {
            return Err(page);
        }
        let fresh = Entry { reference, page, pins: 1, recent: true };
        if self.entries.len() < self.bound {
            self.entries.push(fresh);
            let at = self.entries.len() - 1;
            self.index.insert(reference, at);
            return Ok(Pin(at));
        }
        let victim = self.victim();
        match victim.and_then(|at| self.entries.get_mut(at).map(|entry| (at, entry))) {
            Some((at, entry)) => {
                let old = core::mem::replace(entry, fresh);
                self.index.remove(&old.reference);
                self.index.insert(reference, at);
                evicted.push(old.page);
                Ok(Pin(at))
            }
            None => Err(fresh.page),
        }
    }

    /// An entry that nobody uses. Two rounds suffice: the first clears every `recent`.
    fn victim(&mut self) -> Option<usize> {
        for _ in 0..self.entries.len() * 2 {
            let at = self.hand % self.entries.len();
            self.hand = at + 1;
            let Some(entry) = self.entries.get_mut(at) else {
                continue;
            };
            let recent = core::mem::replace(&mut entry.recent, false);
            if entry.pins == 0 && !recent {
                return Some(at);
            }
        }
        None
    }

    /// Hands out every page; the caller knows that none is pinned.
    pub fn drain(&mut self, into: &mut Vec<P>) {
        self.index.clear();
        into.extend(self.entries.drain(..).map(|entry| entry.page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bound: u32) -> PersistentCache<u32> {
        let mut cache = PersistentCache::new(bound as usize);
        for n in 0..bound {
            let pin = cache.insert(GrantRef(n), n, &mut Vec::new()).unwrap();
            cache.unpin(pin);
        }
        cache
    }

    #[test]
    fn a_cached_grant_is_found_again() {
        let mut cache = filled(4);
        let pin = cache.pin(GrantRef(2)).unwrap();
        assert_eq!(cache.page(pin), Some(&2));
        assert_eq!(cache.pin(GrantRef(9)), None);
    }

    #[test]
    fn a_full_cache_evicts_what_was_not_used_lately() {
        let mut cache = filled(3);
        let mut evicted = Vec::new();
        // The first eviction ages everybody; after it only what is touched is recent.
        let pin = cache.insert(GrantRef(10), 10, &mut evicted).unwrap();
        cache.unpin(pin);
        let survivors: Vec<u32> = (0..3).filter(|n| !evicted.contains(n)).collect();
        let touched = cache.pin(GrantRef(survivors[0])).unwrap();
        cache.unpin(touched);
        evicted.clear();
        cache.insert(GrantRef(11), 11, &mut evicted).unwrap();
        assert_eq!(evicted, [survivors[1]]);
    }

    #[test]
    fn a_pinned_grant_is_never_evicted() {
        let mut cache = filled(2);
        let pins = [cache.pin(GrantRef(0)).unwrap(), cache.pin(GrantRef(1)).unwrap()];
        assert_eq!(cache.insert(GrantRef(5), 5, &mut Vec::new()), Err(5));
        cache.unpin(pins[1]);
        let mut evicted = Vec::new();
        cache.insert(GrantRef(5), 5, &mut evicted).unwrap();
        assert_eq!(evicted, [1]);
        assert_eq!(cache.page(pins[0]), Some(&0));
    }

    #[test]
    fn draining_hands_out_every_page_once() {
        let mut cache = filled(5);
        let mut pages = Vec::new();
        cache.drain(&mut pages);
        assert_eq!(pages, [0, 1, 2, 3, 4]);
        assert_eq!(cache.len(), 0);
        assert_eq!(cache.pin(GrantRef(0)), None);
    }
}
