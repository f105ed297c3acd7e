//!
//! Every page is translated by the hardware with the guest's own rights, its frame pinned under the caller's
//! ownership, and only then copied; so a pointer can name nothing but memory that the guest could have used
//! itself, and the frame cannot change hands under the copy. Whatever is wrong with a pointer is `-EFAULT`.
//! A value is read once into a private copy and judged there.

use core::marker::PhantomData;
use core::ops::Range;

use hypercall_abi::errno::XenError;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::addr::{GuestVa, PAGE_SIZE, Pa};
use crate::domain::Domain;
use crate::frame::FrameRef;
use crate::hw::{Access, Hw};

/// Whether all was copied.
type Copied = Result<(), XenError>;

/// Reads a value; no alignment is asked for.
pub fn read<H: Hw, T: FromBytes + IntoBytes>(domain: &Domain<H>, va: GuestVa) -> Result<T, XenError> {
    let mut value = T::new_zeroed();
    if size_of::<T>() as u64 <= va.left_in_page() {
        let page = pin(domain, va, Access::Read)?;
        H::read_bytes(page.pa().add(va.offset()), value.as_mut_bytes());
    } else {
        copy_in(domain, va, value.as_mut_bytes())?;
    }
    Ok(value)
}

/// Copies from the guest. On an error, what came before the bad page may have been copied.
pub fn copy_in<H: Hw>(domain: &Domain<H>, va: GuestVa, into: &mut [u8]) -> Copied {
    each_part(domain, va, va.offset(), into.len(), Access::Read, |at, part| {
        into.get_mut(part).map(|part| H::read_bytes(at, part)).ok_or(XenError::Fault)
    })
}

/// Copies to the guest. On an error, what came before the bad page may have been copied.
pub fn copy_out<H: Hw>(domain: &Domain<H>, va: GuestVa, from: &[u8]) -> Copied {
    each_part(domain, va, va.offset(), from.len(), Access::Write, |at, part| {
        from.get(part).map(|part| H::write_bytes(at, part)).ok_or(XenError::Fault)
    })
}

/// Does `copy` for each part of a range that crosses no page, neither there nor from byte `beside` of another one on,
/// while the page is pinned.
pub fn each_part<H: Hw>(
    domain: &Domain<H>,
    va: GuestVa,
    beside: u64,
    bytes: usize,
    access: Access,
    mut copy: impl FnMut(Pa, Range<usize>) -> Copied,
) -> Copied {
    // A range that wraps around the end of the address space is none.
    va.checked_add(bytes as u64).ok_or(XenError::Fault)?;
    let mut done = 0;
    while done < bytes {
        let at = va.add(done as u64);
        let left = at.left_in_page().min(PAGE_SIZE - (beside + done as u64) % PAGE_SIZE);
        let end = usize::try_from(left).map_or(bytes, |left| bytes.min(done + left));
        let page = pin(domain, at, access)?;
        copy(page.pa().add(at.offset()), done..end)?;
        done = end;
    }
    Ok(())
}

/// A reference on the page at `va`, as the guest may access it.
#[inline]
pub fn pin<H: Hw>(domain: &Domain<H>, va: GuestVa, access: Access) -> Result<FrameRef, XenError> {
    let pa = H::translate(va, access).ok_or(XenError::Fault)?;
    H::frames().get(pa, domain.id).ok_or(XenError::Fault)
}

/// An array of the guest that a call walks: the page at hand stays pinned, so that a batch pays for translation
/// once per page. The guest may change its own map meanwhile; the call keeps to the page it found.
pub struct Array<H: Hw> {
    page: Option<Page>,
    access: Access,
    hw: PhantomData<H>,
}

struct Page {
    va: GuestVa,
    pin: FrameRef,
}

impl<H: Hw> Array<H> {
    /// An array whose elements are read, and written too if `access` says so.
    pub const fn new(access: Access) -> Self {
        Array { page: None, access, hw: PhantomData }
    }

    /// Reads the element at `va`.
    pub fn read<T: FromBytes + IntoBytes>(&mut self, domain: &Domain<H>, va: GuestVa) -> Result<T, XenError> {
        let mut value = T::new_zeroed();
        self.read_into(domain, va, &mut value)?;
        Ok(value)
    }

    /// Reads the element at `va` into a place that is there already.
    #[inline]
    pub fn read_into<T: FromBytes + IntoBytes>(&mut self, domain: &Domain<H>, va: GuestVa, value: &mut T) -> Copied {
        if size_of::<T>() as u64 > va.left_in_page() {
            return copy_in(domain, va, value.as_mut_bytes());
        }
        H::read_bytes(self.at(domain, va)?, value.as_mut_bytes());
        Ok(())
    }

    /// Writes a value at `va`, or some bytes of one; those of a size that registers have in one store.
    #[inline]
    pub fn write<T: IntoBytes + Immutable + ?Sized>(&mut self, domain: &Domain<H>, va: GuestVa, value: &T) -> Copied {
        if size_of_val(value) as u64 > va.left_in_page() || self.access == Access::Read {
            return copy_out(domain, va, value.as_bytes());
        }
        H::write_bytes(self.at(domain, va)?, value.as_bytes());
        Ok(())
    }

    #[inline(always)]
    fn at(&mut self, domain: &Domain<H>, va: GuestVa) -> Result<Pa, XenError> {
        match &self.page {
            Some(page) if page.va == va.page() => Ok(page.pin.pa().add(va.offset())),
            _ => self.turn_to(domain, va),
        }
    }

    /// Takes the page at `va` in place of the one at hand.
    #[inline(never)]
    fn turn_to(&mut self, domain: &Domain<H>, va: GuestVa) -> Result<Pa, XenError> {
        let pin = pin(domain, va, self.access)?;
        let at = pin.pa().add(va.offset());
        self.page = Some(Page { va: va.page(), pin });
        Ok(at)
    }
}

/// The address of element `index` of an array with elements of `size` bytes; `EFAULT` where it would wrap.
pub fn element(base: GuestVa, index: u64, size: usize) -> Result<GuestVa, XenError> {
    index.checked_mul(size as u64).and_then(|bytes| base.checked_add(bytes)).ok_or(XenError::Fault)
}

#[cfg(test)]
mod tests;
