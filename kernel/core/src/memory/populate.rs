//! RAM for a domain that is being built: zeroed, charged, and in the largest blocks that alignment allows.

use hypercall_abi::errno::XenError;

use crate::addr::{Ipa, PAGE_SIZE};
use crate::domain::Domain;
use crate::frame::{FrameKind, MAX_ORDER};
use crate::hw::Hw;
use crate::p2m::{IPA_PAGES, MapKind};

/// Gives `pages` pages from `ipa`. Returns how many were given before the end or the error; the caller keeps the
/// number small enough for one stretch of work.
pub fn populate<H: Hw>(domain: &Domain<H>, ipa: Ipa, pages: u64) -> (u64, Result<(), XenError>) {
    let fits = ipa.number().checked_add(pages).is_some_and(|end| end <= IPA_PAGES);
    if !ipa.is_aligned(PAGE_SIZE) || !fits {
        return (0, Err(XenError::Inval));
    }
    let mut done = 0;
    while done < pages {
        match block(domain, ipa.add(done * PAGE_SIZE), pages - done) {
            Ok(given) => done += given,
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// Gives the largest block that is aligned, wanted, allowed and free.
fn block<H: Hw>(domain: &Domain<H>, ipa: Ipa, wanted: u64) -> Result<u64, XenError> {
    let room = domain.quota.max().saturating_sub(domain.quota.owned());
    let wanted = wanted.min(room);
    if wanted == 0 {
        return Err(XenError::NoMem);
    }
    let aligned = ipa.number().trailing_zeros().min(u32::from(MAX_ORDER));
    let largest = u8::try_from(wanted.ilog2().min(aligned)).unwrap_or(0);
    let (order, at) = (0..=largest)
        .rev()
        .find_map(|order| Some((order, H::frames().alloc(domain.id, FrameKind::Ram, order).ok()?)))
        .ok_or(XenError::NoMem)?;
    let pages = 1u64 << order;
    let charged = domain.quota.charge(pages).map_err(|_| XenError::NoMem);
    let mapped = charged.and_then(|()| {
        // The guest starts with its caches off.
        H::zero_to_poc(at, pages * PAGE_SIZE);
        domain.p2m.map(ipa, at, pages, MapKind::RamRw).map_err(|error| {
            domain.quota.refund(pages);
            XenError::from(error)
        })
    });
    if let Err(error) = mapped {
        for n in 0..pages {
            H::frames().put(at.add(n * PAGE_SIZE));
        }
        return Err(error);
    }
    Ok(pages)
}
