//! Paths: what is one, relative ones made absolute, the names along one.
//!
//! A path is kept as one string, as it stands in events, and is cut into names while walking. The rules are
//! those of docs/misc/xenstore.txt: ASCII letters, digits and `-/_@`, no doubled or trailing slash, at most
//! 3072 bytes, or 2048 below a domain's home.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use hypercall_abi::ids::DomId;

use crate::Error;

pub use hypercall_abi::xs_wire::{ABS_PATH_MAX, REL_PATH_MAX};

/// Fires when a domain is introduced.
pub const INTRODUCE_DOMAIN: &str = "@introduceDomain";
/// Fires when a domain shuts down, crashes, is released or destroyed.
pub const RELEASE_DOMAIN: &str = "@releaseDomain";

/// The home of a domain, to which its relative paths refer: `/local/domain/N`.
#[must_use]
pub fn home(domid: DomId) -> String {
    format!("/local/domain/{domid}")
}

/// Makes `given` absolute against `base` (a home with a slash at its end), or says that it is no path.
pub(crate) fn absolute(given: &str, base: &str) -> Result<Arc<str>, Error> {
    let first = given.bytes().next().ok_or(Error::BadPath)?;
    if !is_clean(given) || first == b'@' {
        return Err(Error::BadPath);
    }
    if first == b'/' {
        return if given.len() <= ABS_PATH_MAX { Ok(Arc::from(given)) } else { Err(Error::BadPath) };
    }
    if given.len() > REL_PATH_MAX {
        return Err(Error::BadPath);
    }
    let mut whole = String::with_capacity(base.len() + given.len());
    whole.push_str(base);
    whole.push_str(given);
    Ok(Arc::from(whole))
}

/// As [`absolute`], but the name of a special watch is also one, and stands for itself.
pub(crate) fn absolute_or_special(given: &str, base: &str) -> Result<Arc<str>, Error> {
    if !is_special(given) {
        return absolute(given, base);
    }
    if is_clean(given) && given.len() <= REL_PATH_MAX { Ok(Arc::from(given)) } else { Err(Error::BadPath) }
}

/// Whether the path names a special watch rather than a node.
pub(crate) fn is_special(path: &str) -> bool {
    path.starts_with('@')
}

/// What a byte of a path is, apart from a character of a name.
const SLASH: u8 = 1;
const FOREIGN: u8 = 2;

/// The bytes of paths, as a table: every request checks every byte of its path.
const KINDS: [u8; 256] = {
    let mut kinds = [FOREIGN; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'@') {
            kinds[byte as usize] = 0;
        }
        byte += 1;
    }
    kinds[b'/' as usize] = SLASH;
    kinds
};

/// Right characters only, no empty name, no slash at the end. Without a branch for each byte, of which there are many.
fn is_clean(path: &str) -> bool {
    let (mut previous, mut doubled, mut seen) = (0, 0, 0);
    for &byte in path.as_bytes() {
        let kind = KINDS[usize::from(byte)];
        doubled |= kind & previous;
        seen |= kind;
        previous = kind;
    }
    doubled & SLASH == 0 && seen & FOREIGN == 0 && (previous != SLASH || path.len() == 1)
}

/// The names along a path, from the root; none for `/`.
pub(crate) fn names(path: &str) -> Names<'_> {
    Names { rest: path }
}

/// See [`names`]. Names are short, so a plain loop beats `str::split` and its search for a pattern.
#[derive(Clone, Debug)]
pub(crate) struct Names<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Names<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let tail = self.rest.strip_prefix('/').unwrap_or(self.rest);
        if tail.is_empty() {
            return None;
        }
        let end = tail.as_bytes().iter().position(|&byte| byte == b'/').unwrap_or(tail.len());
        let (name, rest) = tail.split_at_checked(end)?;
        self.rest = rest;
        Some(name)
    }
}

/// FNV-1a over the names of a path, each after a slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathHash(u64);

impl PathHash {
    pub(crate) const ROOT: Self = Self(0xCBF2_9CE4_8422_2325);

    pub(crate) fn below(self, name: &str) -> Self {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        Self(name.bytes().fold(step(self.0, b'/'), step))
    }

    pub(crate) fn of(path: &str) -> Self {
        names(path).fold(Self::ROOT, Self::below)
    }

    /// The half whose bits depend on all bits of the names.
    pub(crate) fn upper(self) -> u64 {
        self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn relative_paths_are_taken_from_the_home_and_absolute_ones_stand() {
        assert_eq!(&*absolute("device/vbd", "/local/domain/3/").unwrap(), "/local/domain/3/device/vbd");
        assert_eq!(&*absolute("/vm", "/local/domain/3/").unwrap(), "/vm");
        assert_eq!(&*absolute("/", "/local/domain/3/").unwrap(), "/");
    }

    #[test]
    fn empty_doubled_trailing_and_foreign_characters_are_refused() {
        for bad in ["", "//", "/a/", "/a//b", "a/", "/a b", "/a:b", "/\u{e4}", "@releaseDomain", "/a\0"] {
            assert_eq!(absolute(bad, "/h/"), Err(Error::BadPath), "{bad:?}");
        }
        assert!(absolute("/a-b_c@d/0", "/h/").is_ok());
    }

    #[test]
    fn length_limits_are_exact() {
        let name = |length: usize| "a".repeat(length);
        assert!(absolute(&("/".to_string() + &name(ABS_PATH_MAX - 1)), "/h/").is_ok());
        assert!(absolute(&("/".to_string() + &name(ABS_PATH_MAX)), "/h/").is_err());
        assert!(absolute(&name(REL_PATH_MAX), "/h/").is_ok());
        assert!(absolute(&name(REL_PATH_MAX + 1), "/h/").is_err());
    }

    #[test]
    fn names_are_what_stands_between_slashes() {
        let all = |path| names(path).collect::<alloc::vec::Vec<_>>();
        assert!(all("/").is_empty());
        assert_eq!(all("/a/bc/d"), ["a", "bc", "d"]);
        assert_eq!(all("@releaseDomain"), ["@releaseDomain"]);
    }
}
