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
// In line, so that it is not handed over through memory.
#[inline(always)]
pub fn read<H: Hw, T: FromBytes + IntoBytes>(domain: &Domain<H>, va: GuestVa) -> Result<T, XenError> {
    // Two values, so that one which comes in a register is never in memory.
    if size_of::<T>() as u64 > va.left_in_page() {
        let mut value = T::new_zeroed();
        copy_in(domain, va, value.as_mut_bytes())?;
        return Ok(value);
    }
    let mut value = T::new_zeroed();
    let page = pin(domain, va, Access::Read)?;
    H::read_bytes(page.pa().add(va.offset()), value.as_mut_bytes());
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
    H::frames().get(pa, domain.p2m.owner).ok_or(XenError::Fault)
}

/// An array whose elements are read.
pub const READ: bool = false;
/// An array whose elements are written, and may be read before.
pub const WRITE: bool = true;

/// An array of the guest that a call walks: the page at hand stays pinned, so that a batch pays for translation
/// once per page. The guest may change its own map meanwhile; the call keeps to the page it found.
pub struct Array<H: Hw, const WRITTEN: bool> {
    page: Option<Page>,
    hw: PhantomData<H>,
}

struct Page {
    va: GuestVa,
    pin: FrameRef,
}

impl<H: Hw, const WRITTEN: bool> Default for Array<H, WRITTEN> {
    fn default() -> Self {
        Array { page: None, hw: PhantomData }
    }
}

impl<H: Hw, const WRITTEN: bool> Array<H, WRITTEN> {
    const ACCESS: Access = if WRITTEN { Access::Write } else { Access::Read };

    /// Reads the element at `va`.
    pub fn read<T: FromBytes + IntoBytes>(&mut self, domain: &Domain<H>, va: GuestVa) -> Result<T, XenError> {
        // Two values, as above.
        if size_of::<T>() as u64 > va.left_in_page() {
            let mut value = T::new_zeroed();
            copy_in(domain, va, value.as_mut_bytes())?;
            return Ok(value);
        }
        let mut value = T::new_zeroed();
        H::read_bytes(self.at(domain, va)?, value.as_mut_bytes());
        Ok(value)
    }

    #[inline(always)]
    fn at(&mut self, domain: &Domain<H>, va: GuestVa) -> Result<Pa, XenError> {
        match &self.page {
            Some(page) if page.va == va.page() => Ok(page.pin.pa().add(va.offset())),
            _ => self.turn_to(domain, va),
        }
    }

    /// Takes the page at `va` in place of the one at hand. The first one is found without a call, and so without saving any
    /// register.
    #[inline(never)]
    fn turn_to(&mut self, domain: &Domain<H>, va: GuestVa) -> Result<Pa, XenError> {
        if self.page.is_some() {
            return self.turn_over(domain, va);
        }
        let pin = pin(domain, va, Self::ACCESS)?;
        let at = pin.pa().add(va.offset());
        // There is nothing in its place to be dropped.
        core::mem::forget(self.page.replace(Page { va: va.page(), pin }));
        Ok(at)
    }

    #[cold]
    #[inline(never)]
    fn turn_over(&mut self, domain: &Domain<H>, va: GuestVa) -> Result<Pa, XenError> {
        self.page = None;
        self.turn_to(domain, va)
    }
}

impl<H: Hw> Array<H, WRITE> {
    /// The element at `va`, to be read and then written to: found once for both, in the page that the array keeps meanwhile.
    #[inline(always)]
    pub fn element<'a, T>(&'a mut self, domain: &'a Domain<H>, va: GuestVa) -> Result<Element<'a, H, T>, XenError> {
        let crosses = size_of::<T>() as u64 > va.left_in_page();
        let at = if crosses { None } else { Some(self.at(domain, va)?) };
        Ok(Element { domain, va, at, kind: PhantomData })
    }
}

/// An element of an [`Array`] that is written.
pub struct Element<'a, H: Hw, T> {
    domain: &'a Domain<H>,
    va: GuestVa,
    /// Where it is, if all of it is in the page that the array has pinned.
    at: Option<Pa>,
    kind: PhantomData<T>,
}

impl<H: Hw, T: FromBytes + IntoBytes> Element<'_, H, T> {
    /// Reads it into a place that is there already.
    #[inline(always)]
    pub fn read_into(&self, value: &mut T) -> Copied {
        match self.at {
            Some(at) => H::read_bytes(at, value.as_mut_bytes()),
            None => copy_in(self.domain, self.va, value.as_mut_bytes())?,
        }
        Ok(())
    }

    /// Writes a part of it from byte `offset` on, but nothing behind it; one of a size that registers have in one store.
    #[inline(always)]
    pub fn write<P: IntoBytes + Immutable + ?Sized>(&self, offset: usize, part: &P) -> Copied {
        if offset.saturating_add(size_of_val(part)) > size_of::<T>() {
            return Err(XenError::Fault);
        }
        match self.at {
            Some(at) => H::write_bytes(at.add(offset as u64), part.as_bytes()),
            None => copy_out(self.domain, element(self.va, offset as u64, 1)?, part.as_bytes())?,
        }
        Ok(())
    }
}

/// The address of element `index` of an array with elements of `size` bytes; `EFAULT` where it would wrap.
pub fn element(base: GuestVa, index: u64, size: usize) -> Result<GuestVa, XenError> {
    index.checked_mul(size as u64).and_then(|bytes| base.checked_add(bytes)).ok_or(XenError::Fault)
}

#[cfg(test)]
mod tests;
