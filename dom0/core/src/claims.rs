//! Who uses which sectors of the machine's disks: readers may share them, a writer has them alone.
//!
//! Sectors, since one place has several names: a file's in small and in capital letters, a disk's and its partition's. And names,
//! since a file that is empty has no sectors yet.

#[cfg(test)]
mod tests;

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

use driver_api::Extent;

/// All claims; `U` says whose each is.
pub struct Claims<U>(RefCell<Vec<Entry<U>>>);

struct Entry<U> {
    name: String,
    disk: String,
    extents: Vec<Extent>,
    read_only: bool,
    user: U,
}

/// The right to use sectors, given back when it is dropped.
pub struct Claim<U: PartialEq> {
    claims: Rc<Claims<U>>,
    user: U,
}

impl<U> Default for Claims<U> {
    fn default() -> Self {
        Claims(RefCell::default())
    }
}

impl<U: Copy + PartialEq> Claims<U> {
    /// Claims sectors of a disk, which have this name, for a user that has no claim yet; `None` if that would set a writer beside
    /// anybody else.
    pub fn take(
        claims: &Rc<Self>,
        name: &str,
        (disk, extents): (&str, Vec<Extent>),
        read_only: bool,
        user: U,
    ) -> Option<Claim<U>> {
        let mut entries = claims.0.borrow_mut();
        let is_same = |entry: &Entry<U>| {
            entry.name.eq_ignore_ascii_case(name) || entry.disk == disk && meet(&entry.extents, &extents)
        };
        if entries.iter().any(|entry| !(entry.read_only && read_only) && is_same(entry)) {
            return None;
        }
        entries.push(Entry { name: name.to_string(), disk: disk.to_string(), extents, read_only, user });
        Some(Claim { claims: Rc::clone(claims), user })
    }
}

impl<U: PartialEq> Claim<U> {
    /// It is for these sectors from now on, which nobody else can have: those of a file that has grown.
    pub fn replace(&self, extents: Vec<Extent>) {
        if let Some(entry) = self.claims.0.borrow_mut().iter_mut().find(|entry| entry.user == self.user) {
            entry.extents = extents;
        }
    }
}

impl<U: PartialEq> Drop for Claim<U> {
    fn drop(&mut self) {
        self.claims.0.borrow_mut().retain(|entry| entry.user != self.user);
    }
}

/// Whether any sector is in both.
fn meet(one: &[Extent], other: &[Extent]) -> bool {
    let end = |extent: &Extent| extent.start.saturating_add(extent.sectors);
    one.iter().any(|one| other.iter().any(|other| one.start < end(other) && other.start < end(one)))
}
