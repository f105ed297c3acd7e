//! Names: the 8.3 name that every entry has, and the long name beside it (Microsoft FAT specification 1.03, sections
//! 6.1 and 7).

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::FatError;

/// UTF-16 units in one long-name entry.
pub const UNITS: usize = 13;
/// Most UTF-16 units of a name.
const MAX_UNITS: usize = 255;

/// An 8.3 name as it stands in an entry: eight and three bytes, padded with spaces.
pub type Short = [u8; 11];

/// Checks a name that is to be created.
///
/// # Errors
/// [`FatError::BadName`].
pub fn check(name: &str) -> Result<(), FatError> {
    let forbidden = |c: char| c < ' ' || "\"*/:<>?\\|".contains(c);
    let bad = name.is_empty()
        || name.encode_utf16().count() > MAX_UNITS
        || name.contains(forbidden)
        || name.ends_with([' ', '.'])
        || name.starts_with(' ');
    if bad { Err(FatError::BadName) } else { Ok(()) }
}

/// Whether two names are the same file: FAT keeps case but does not tell it apart.
pub fn same(a: &str, b: &str) -> bool {
    a.chars().flat_map(char::to_lowercase).eq(b.chars().flat_map(char::to_lowercase))
}

/// Whether a byte may stand in an 8.3 name.
fn fits_short(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'()-@^_`{}~".contains(&byte)
}

/// The 8.3 name for `name`, and whether a long name is needed beside it. `taken` says which are in use.
///
/// # Errors
/// [`FatError::NoSpace`] if a million similar names are in use.
pub fn shorten(name: &str, taken: impl Fn(&Short) -> bool) -> Result<(Short, bool), FatError> {
    let (base, extension) = match name.rsplit_once('.') {
        Some((base, extension)) if !base.is_empty() => (base, extension),
        Some(_) | None => (name, ""),
    };
    let mut lossy = false;
    let mut squeeze = |text: &str, limit: usize| {
        let mut out = Vec::new();
        for c in text.chars() {
            let upper = c.to_ascii_uppercase();
            match u8::try_from(upper).ok().filter(|&byte| fits_short(byte)) {
                Some(byte) => out.push(byte),
                None => {
                    lossy = true;
                    if c != ' ' && c != '.' {
                        out.push(b'_');
                    }
                }
            }
        }
        lossy |= out.len() > limit;
        out.truncate(limit);
        out
    };
    let (base, extension) = (squeeze(base, 8), squeeze(extension, 3));
    let exact = padded(&base, &extension);
    if !lossy && !base.is_empty() && !taken(&exact) {
        let is_upper = !name.bytes().any(|byte| byte.is_ascii_lowercase());
        return Ok((exact, !is_upper));
    }
    for number in 1..1_000_000u32 {
        let tail = alloc::format!("~{number}");
        let keep = base.len().min(8 - tail.len());
        let mut numbered: Vec<u8> = base.iter().copied().take(keep).collect();
        numbered.extend(tail.bytes());
        let short = padded(&numbered, &extension);
        if !taken(&short) {
            return Ok((short, true));
        }
    }
    Err(FatError::NoSpace)
}

fn padded(base: &[u8], extension: &[u8]) -> Short {
    let mut short = [b' '; 11];
    short.iter_mut().zip(base.iter().take(8)).for_each(|(to, &from)| *to = from);
    short.iter_mut().skip(8).zip(extension).for_each(|(to, &from)| *to = from);
    short
}

/// An 8.3 name as text. `case` has the two bits by which Windows and Linux mark lower case (bit 3 for the name, bit
/// 4 for the extension).
pub fn display(short: &Short, case: u8) -> String {
    let part = |bytes: &[u8], lower: bool| -> String {
        let end = bytes.iter().rposition(|&byte| byte != b' ').map_or(0, |last| last + 1);
        bytes
            .iter()
            .take(end)
            // 0x05 stands for 0xe5, which would mark a deleted entry.
            .map(|&byte| if byte == 0x05 { 0xe5 } else { byte })
            .map(|byte| if byte.is_ascii() { char::from(byte) } else { '_' })
            .map(|c| if lower { c.to_ascii_lowercase() } else { c })
            .collect()
    };
    let (base, extension) = short.split_at(8);
    let mut text = part(base, case & 0x08 != 0);
    let extension = part(extension, case & 0x10 != 0);
    if !extension.is_empty() {
        text.push('.');
        text.push_str(&extension);
    }
    text
}

/// The checksum that ties long-name entries to their 8.3 entry.
pub fn checksum(short: &Short) -> u8 {
    short.iter().fold(0u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte))
}

/// A long name in pieces of [`UNITS`], first piece first; the end is marked by a zero and padded with ones.
pub fn pieces(name: &str) -> Vec<[u16; UNITS]> {
    let units: Vec<u16> = name.encode_utf16().collect();
    units
        .chunks(UNITS)
        .map(|chunk| {
            let mut piece = [0xffff; UNITS];
            piece.iter_mut().zip(chunk).for_each(|(to, &from)| *to = from);
            if let Some(end) = piece.get_mut(chunk.len()) {
                *end = 0;
            }
            piece
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(name: &str) -> (String, bool) {
        let (short, long) = shorten(name, |_| false).unwrap();
        (String::from_utf8(short.to_vec()).unwrap(), long)
    }

    #[test]
    fn a_name_that_fits_is_kept_and_needs_a_long_one_only_for_its_case() {
        assert_eq!(short("KERNEL.IMG"), ("KERNEL  IMG".into(), false));
        assert_eq!(short("linux.cfg"), ("LINUX   CFG".into(), true));
    }

    #[test]
    fn a_name_that_does_not_fit_gets_a_number() {
        assert_eq!(short("vmlinuz-6.1.0-arm64"), ("VMLINU~10-A".into(), true));
        assert_eq!(short(".profile"), ("PROFIL~1   ".into(), true));
        assert_eq!(short("größe.txt"), ("GR__E~1 TXT".into(), true));
        let (second, _) = shorten("vmlinuz-6.1.0-arm64", |name| name == b"VMLINU~10-A").unwrap();
        assert_eq!(&second, b"VMLINU~20-A");
    }

    #[test]
    fn names_that_fat_cannot_hold_are_refused() {
        for bad in ["", "a/b", "a:b", "dot.", "space ", "\u{1}", &"x".repeat(256)] {
            assert_eq!(check(bad), Err(FatError::BadName), "{bad:?}");
        }
        assert_eq!(check(&"x".repeat(255)), Ok(()));
        assert_eq!(check("größe [1].txt"), Ok(()));
    }

    #[test]
    fn case_bits_show_in_the_text() {
        assert_eq!(display(b"LINUX   CFG", 0x18), "linux.cfg");
        assert_eq!(display(b"LINUX   CFG", 0x10), "LINUX.cfg");
        assert_eq!(display(b"README     ", 0), "README");
    }
}
