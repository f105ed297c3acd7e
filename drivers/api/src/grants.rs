//! Mapping pages that another domain has granted.

use alloc::vec::Vec;
use core::fmt;

use hypercall_abi::ids::GrantRef;

use crate::{BusAddr, SharedPage};

/// What a mapping may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The mapping is read, by the CPU or a device.
    ReadOnly,
    /// The mapping is read and written.
    ReadWrite,
}

/// Why a reference could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The granting domain: no such reference, not granted to us, or not with this access.
    BadGrant,
    /// Our side: no room for another mapping. The request may be tried again later.
    NoSpace,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadGrant => "the front end passed a grant reference that cannot be mapped",
            Self::NoSpace => "the back end has no room for another mapping",
        })
    }
}

impl core::error::Error for MapError {}

/// A granted page that is mapped now. It must be given back through [`Grants::unmap`]; a page that is
/// merely dropped stays mapped, and its owner's memory stays pinned.
pub trait MappedPage: SharedPage {
    /// Where a device finds the page.
    fn bus_addr(&self) -> BusAddr;
}

/// A copy between a page that the domain granted and one of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCopy {
    /// The granted page.
    pub granted: GrantRef,
    /// First byte in it.
    pub offset: u16,
    /// The host's page.
    pub own: BusAddr,
    /// First byte in it.
    pub own_offset: u16,
    /// How many bytes; they cross neither page's end.
    pub len: u16,
}

/// The right to map what *one* domain grants. A host makes one for each device, bound to its domain, so
/// that a driver cannot name any other.
pub trait Grants {
    /// A mapped page.
    type Page: MappedPage;

    /// Maps `references`, in one hypercall where possible, and appends one result for each, in order.
    /// The same reference may occur several times.
    fn map(&self, references: &[GrantRef], access: Access, results: &mut Vec<Result<Self::Page, MapError>>);

    /// Unmaps all of `pages`, in one hypercall where possible, and leaves the vector empty.
    fn unmap(&self, pages: &mut Vec<Self::Page>);

    /// Carries out `copies`, into the granted pages or out of them, in few hypercalls and without a mapping. False if one
    /// of them failed.
    fn copy(&self, copies: &[PageCopy], into_granted: bool) -> bool;
}

impl<G: Grants + ?Sized> Grants for alloc::rc::Rc<G> {
    type Page = G::Page;

    fn map(&self, references: &[GrantRef], access: Access, results: &mut Vec<Result<Self::Page, MapError>>) {
        (**self).map(references, access, results);
    }

    fn unmap(&self, pages: &mut Vec<Self::Page>) {
        (**self).unmap(pages);
    }

    fn copy(&self, copies: &[PageCopy], into_granted: bool) -> bool {
        (**self).copy(copies, into_granted)
    }
}
