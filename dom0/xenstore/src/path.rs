//! Paths: what is one, relative ones made absolute, and the relation "lies below".
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
        return if given.len() <= ABS_PATH_MAX {
            Ok(Arc::from(given))
        } else {
            Err(Error::BadPath)
        };
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
    if is_clean(given) && given.len() <= REL_PATH_MAX {
        Ok(Arc::from(given))
    } else {
        Err(Error::BadPath)
    }
}

/// Whether the path names a special watch rather than a node.
pub(crate) fn is_special(path: &str) -> bool {
    path.starts_with('@')
}

/// Right characters only, no empty name, no slash at the end.
fn is_clean(path: &str) -> bool {
    let mut previous = 0;
    for byte in path.bytes() {
        let allowed = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'@' | b'/');
        if !allowed || (byte == b'/' && previous == b'/') {
            return false;
        }
        previous = byte;
    }
    previous != b'/' || path.len() == 1
}

/// The names along an absolute path, from the root; none for `/`.
pub(crate) fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// The path one level up; `/` for the root and for children of the root.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(slash) => path.get(..slash).unwrap_or("/"),
    }
}

/// The part of `path` below `above` (empty when they are equal), or nothing when it does not lie there.
pub(crate) fn below<'a>(path: &'a str, above: &str) -> Option<&'a str> {
    if above == "/" {
        return path.strip_prefix('/');
    }
    let rest = path.strip_prefix(above)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn relative_paths_are_taken_from_the_home_and_absolute_ones_stand() {
        assert_eq!(
            &*absolute("device/vbd", "/local/domain/3/").unwrap(),
            "/local/domain/3/device/vbd"
        );
        assert_eq!(&*absolute("/vm", "/local/domain/3/").unwrap(), "/vm");
        assert_eq!(&*absolute("/", "/local/domain/3/").unwrap(), "/");
    }

    #[test]
    fn empty_doubled_trailing_and_foreign_characters_are_refused() {
        for bad in [
            "",
            "//",
            "/a/",
            "/a//b",
            "a/",
            "/a b",
            "/a:b",
            "/\u{e4}",
            "@releaseDomain",
            "/a\0",
        ] {
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
    fn below_follows_names_and_not_letters() {
        assert_eq!(below("/a/b/c", "/a"), Some("b/c"));
        assert_eq!(below("/a", "/a"), Some(""));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(below("/a/b", "/"), Some("a/b"));
        assert_eq!(below("@releaseDomain", "/"), None);
    }
}
