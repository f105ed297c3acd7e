//! Copies between a caller's buffer and another domain's RAM, for whoever builds domains.

use hypercall_abi::errno::XenError;

use crate::addr::{GuestVa, Ipa, Pa};
use crate::domain::Domain;
use crate::guest;
use crate::hw::{Access, Hw};

/// Which way bytes go, seen from the domain whose memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Into the domain, and on to the point of coherency: it may start with its caches off.
    In,
    /// Out of the domain.
    Out,
}

/// Copies `count` bytes between the caller's memory at `va` and the domain's at `ipa`. Returns the bytes done.
pub fn copy_foreign<H: Hw>(
    caller: &Domain<H>,
    va: GuestVa,
    domain: &Domain<H>,
    ipa: Ipa,
    count: u64,
    direction: Direction,
) -> (u64, Result<(), XenError>) {
    if va.checked_add(count).is_none() || ipa.checked_add(count).is_none() {
        return (0, Err(XenError::Fault));
    }
    let access = if direction == Direction::In { Access::Read } else { Access::Write };
    let mut done = 0;
    while done < count {
        let (va, ipa) = (va.add(done), ipa.add(done));
        // No part crosses a page on either side.
        let bytes = va.left_in_page().min(ipa.left_in_page()).min(count - done);
        let inside = domain.p2m.pin(ipa, direction == Direction::In).map_err(XenError::from);
        let (inside, outside) = match inside.and_then(|inside| Ok((inside, guest::pin(caller, va, access)?))) {
            Ok(pages) => pages,
            Err(error) => return (done, Err(error)),
        };
        let (here, there) = (outside.pa().add(va.offset()), inside.pa().add(ipa.offset()));
        match direction {
            Direction::In => {
                copy_frames::<H>(there, here, bytes);
                H::clean_to_poc(there, bytes);
            }
            Direction::Out => copy_frames::<H>(here, there, bytes),
        }
        done += bytes;
    }
    (done, Ok(()))
}

/// Copies between two pinned frames; neither range crosses its page. Ranges that overlap, which only a domain
/// that copies to itself can ask for, are copied piece by piece.
pub fn copy_frames<H: Hw>(to: Pa, from: Pa, bytes: u64) {
    let apart = to.raw().abs_diff(from.raw());
    if apart >= bytes {
        H::copy(to, from, bytes);
        return;
    }
    let mut piece = [0; 64];
    let mut done = 0;
    while done < bytes {
        let part = (bytes - done).min(piece.len() as u64);
        if let Some(piece) = usize::try_from(part).ok().and_then(|part| piece.get_mut(..part)) {
            H::read_bytes(from.add(done), piece);
            H::write_bytes(to.add(done), piece);
        }
        done += part;
    }
}
