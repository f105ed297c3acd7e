//! Messages about domains: each domain has a share of them, since those of one that makes Dom0 complain without end would use
//! up the lines that the hypervisor lets Dom0 print, and nobody would hear of the others.

use alloc::collections::BTreeMap;

use hypercall_abi::ids::DomId;

/// Messages about a domain that may come at once, and after them one in each [`REFILL_US`].
const BURST: u64 = 5;
/// Microseconds after which there may be one more.
const REFILL_US: u64 = 1_000_000;

/// What each domain has used of its share.
#[derive(Debug, Default)]
pub struct Notices {
    domains: BTreeMap<DomId, Used>,
}

#[derive(Debug, Default)]
struct Used {
    /// When all messages that were shown are paid for, one in each refill period; in microseconds.
    paid_us: u64,
    left_out: u64,
}

impl Notices {
    /// Nothing used.
    pub const fn new() -> Self {
        Notices { domains: BTreeMap::new() }
    }

    /// Whether a message about `domid` may be shown at `now_us`: how many before it were left out, or `None`.
    pub fn admit(&mut self, domid: DomId, now_us: u64) -> Option<u64> {
        let used = self.domains.entry(domid).or_default();
        let paid_us = used.paid_us.max(now_us).saturating_add(REFILL_US);
        if paid_us > now_us.saturating_add(BURST * REFILL_US) {
            used.left_out += 1;
            return None;
        }
        used.paid_us = paid_us;
        Some(core::mem::take(&mut used.left_out))
    }

    /// Forgets a domain that has gone; how many messages about it were left out and not told of yet.
    pub fn forget(&mut self, domid: DomId) -> u64 {
        self.domains.remove(&domid).map_or(0, |used| used.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_that_is_complained_about_without_end_leaves_others_their_share() {
        let mut notices = Notices::new();
        let shown = (0..10_000).filter(|n| notices.admit(DomId(3), n * 1000).is_some()).count();
        assert_eq!(shown, 5 + 9, "five at once and one a second for ten seconds");
        assert_eq!(notices.admit(DomId(4), 10_000_000), Some(0));
    }

    #[test]
    fn what_was_left_out_is_told_once_by_the_next_message_or_at_the_end() {
        let mut notices = Notices::new();
        let first: Vec<_> = (0..8).map(|_| notices.admit(DomId(3), 0)).collect();
        assert_eq!(first, [Some(0), Some(0), Some(0), Some(0), Some(0), None, None, None]);
        assert_eq!(notices.admit(DomId(3), 1_000_000), Some(3));
        assert_eq!(notices.admit(DomId(3), 1_000_000), None);
        assert_eq!(notices.forget(DomId(3)), 1);
        assert_eq!((notices.forget(DomId(3)), notices.admit(DomId(3), 1_000_000)), (0, Some(0)));
    }
}
