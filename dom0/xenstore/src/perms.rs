//! Who may do what with a node: its owner everything, others what the list says.
//!
//! The first entry of a permission list names the owner and what *everybody else* gets; each further entry
//! names a domain and what it gets instead (docs/misc/xenstore.txt). A domain that has a target (SET_TARGET) has
//! the target's rights besides its own.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use hypercall_abi::ids::DomId;

use crate::Error;

/// What an entry of a permission list grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `n`
    None,
    /// `r`
    Read,
    /// `w`
    Write,
    /// `b`
    Both,
}

impl Access {
    /// The letter of the wire format.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Both => 'b',
        }
    }

    const fn grants(self, need: Need) -> bool {
        match need {
            Need::Read => matches!(self, Self::Read | Self::Both),
            Need::Write => matches!(self, Self::Write | Self::Both),
            Need::Own => false,
        }
    }
}

/// One domain and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whom the entry is about.
    pub domid: DomId,
    /// What it may do.
    pub access: Access,
}

/// The permissions of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Perms {
    /// May do everything, and is charged for the node.
    pub owner: DomId,
    /// What a domain may do that no entry of `granted` names.
    pub others: Access,
    /// What single domains may do instead; the first entry that fits counts.
    pub granted: Vec<Grant>,
}

/// What an operation asks of a node's permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Read,
    Write,
    Own,
}

/// Whether the permission system applies to a requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// Dom0: all rights, no quotas.
    Privileged,
    Ordinary,
}

/// On whose behalf a request is carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) domid: DomId,
    pub(crate) target: Option<DomId>,
    pub(crate) rank: Rank,
}

impl Caller {
    pub(crate) fn is_privileged(&self) -> bool {
        self.rank == Rank::Privileged
    }

    fn acts_as(&self, domid: DomId) -> bool {
        self.domid == domid || self.target == Some(domid)
    }
}

impl Perms {
    /// Owned by `owner`, closed to everybody else (Dom0 aside).
    #[must_use]
    pub const fn private(owner: DomId) -> Self {
        Self { owner, others: Access::None, granted: Vec::new() }
    }

    /// Owned by `owner`; `reader` may read.
    #[must_use]
    pub fn readable_by(owner: DomId, reader: DomId) -> Self {
        Self { granted: alloc::vec![Grant { domid: reader, access: Access::Read }], ..Self::private(owner) }
    }

    pub(crate) fn permits(&self, caller: &Caller, need: Need) -> bool {
        if caller.is_privileged() || caller.acts_as(self.owner) {
            return true;
        }
        self.granted
            .iter()
            .find(|grant| caller.acts_as(grant.domid))
            .map_or(self.others, |grant| grant.access)
            .grants(need)
    }

    /// Entries of the list, the owner's included.
    pub(crate) fn entries(&self) -> usize {
        1 + self.granted.len()
    }

    /// Reads the entries of a SET_PERMS payload or of a command line, such as `n0 r5`.
    ///
    /// # Errors
    /// [`Error::BadPerms`] when there is no entry or one is not a letter of `rwbn` and an ordinary domid.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let mut entries = entries.into_iter().map(parse_entry);
        let first = entries.next().ok_or(Error::BadPerms)??;
        let granted = entries.collect::<Result<_, _>>()?;
        Ok(Self { owner: first.domid, others: first.access, granted })
    }

    /// Calls `each` with every entry in the wire's form.
    pub fn for_each_entry(&self, mut each: impl FnMut(&str)) {
        let owner = Grant { domid: self.owner, access: self.others };
        let mut text = String::new();
        for grant in core::iter::once(&owner).chain(&self.granted) {
            text.clear();
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{}", grant.access.letter(), grant.domid);
            each(&text);
        }
    }
}

fn parse_entry(text: &str) -> Result<Grant, Error> {
    let mut letters = text.chars();
    let access = match letters.next() {
        Some('n') => Access::None,
        Some('r') => Access::Read,
        Some('w') => Access::Write,
        Some('b') => Access::Both,
        Some(_) | None => return Err(Error::BadPerms),
    };
    let domid = parse_domid(letters.as_str()).ok_or(Error::BadPerms)?;
    Ok(Grant { domid, access })
}

/// An ordinary domain's number in decimal.
pub(crate) fn parse_domid(text: &str) -> Option<DomId> {
    // `u16::from_str` would take a sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let domid = DomId::new(text.parse().ok()?);
    (domid < DomId::FIRST_RESERVED).then_some(domid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(domid: u16, target: Option<u16>) -> Caller {
        Caller { domid: DomId(domid), target: target.map(DomId), rank: Rank::Ordinary }
    }

    #[test]
    fn the_first_entry_is_for_all_others_and_later_ones_replace_it() {
        let perms = Perms::parse(["r1", "n2", "b3", "w4"]).unwrap();
        assert!(perms.permits(&guest(1, None), Need::Own));
        assert!(!perms.permits(&guest(2, None), Need::Read));
        assert!(perms.permits(&guest(3, None), Need::Write) && perms.permits(&guest(3, None), Need::Read));
        assert!(perms.permits(&guest(4, None), Need::Write) && !perms.permits(&guest(4, None), Need::Read));
        assert!(perms.permits(&guest(5, None), Need::Read) && !perms.permits(&guest(5, None), Need::Write));
        assert!(!perms.permits(&guest(3, None), Need::Own));
    }

    #[test]
    fn a_domain_has_the_rights_of_its_target() {
        let perms = Perms::parse(["n1", "r2"]).unwrap();
        assert!(perms.permits(&guest(9, Some(1)), Need::Own));
        assert!(perms.permits(&guest(9, Some(2)), Need::Read));
        assert!(!perms.permits(&guest(9, Some(3)), Need::Read));
    }

    #[test]
    fn what_is_not_a_letter_and_a_domid_is_refused() {
        for bad in ["", "r", "x1", "r-1", "r+1", "r65536", "r32752", "1", "rr1", "r1 "] {
            assert_eq!(Perms::parse([bad]), Err(Error::BadPerms), "{bad:?}");
        }
        assert_eq!(Perms::parse([]), Err(Error::BadPerms));
    }
}
