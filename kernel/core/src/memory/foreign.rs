//! Copies between a caller's buffer and another domain's RAM, for whoever builds domains.

use hypercall_abi::errno::XenError;

use crate::addr::{GuestVa, Ipa, Pa};
use crate::domain::Domain;
use crate::guest;
use crate::hw::{Access, Hw};

/// Copies `count` bytes from the caller's memory to the domain's, and on to the point of coherency: it may start
/// with its caches off. Returns the bytes done.
pub fn write_foreign<H: Hw>(
    caller: &Domain<H>,
    from: GuestVa,
    domain: &Domain<H>,
    ipa: Ipa,
    count: u64,
) -> (u64, Result<(), XenError>) {
    in_parts(from, ipa, count, |from, ipa, part| {
        let target = domain.p2m.pin(ipa, true)?;
        let source = guest::pin(caller, from, Access::Read)?;
        let to = target.pa().add(ipa.offset());
        copy_frames::<H>(to, source.pa().add(from.offset()), part);
        H::clean_to_poc(to, part);
        Ok(())
    })
}

/// Copies `count` bytes from the domain's memory to the caller's. Returns the bytes done.
pub fn read_foreign<H: Hw>(
    caller: &Domain<H>,
    into: GuestVa,
    domain: &Domain<H>,
    ipa: Ipa,
    count: u64,
) -> (u64, Result<(), XenError>) {
    in_parts(into, ipa, count, |into, ipa, part| {
        let source = domain.p2m.pin(ipa, false)?;
        let target = guest::pin(caller, into, Access::Write)?;
        copy_frames::<H>(target.pa().add(into.offset()), source.pa().add(ipa.offset()), part);
        Ok(())
    })
}

/// Splits a range so that no part crosses a page on either side.
fn in_parts(
    va: GuestVa,
    ipa: Ipa,
    count: u64,
    mut part: impl FnMut(GuestVa, Ipa, u64) -> Result<(), XenError>,
) -> (u64, Result<(), XenError>) {
    if va.checked_add(count).is_none() || ipa.checked_add(count).is_none() {
        return (0, Err(XenError::Fault));
    }
    let mut done = 0;
    while done < count {
        let (va, ipa) = (va.add(done), ipa.add(done));
        let bytes = va.left_in_page().min(ipa.left_in_page()).min(count - done);
        if let Err(error) = part(va, ipa, bytes) {
            return (done, Err(error));
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
