//! Virtual device names (`xvda`, `hdc`, `sdb2`, `d3p1`) and the XenBus numbers that stand for them.
//!
//! The encoding is a guest ABI: Linux's xen-blkfront derives major, minor and name from the number
//! (Xen docs/man/xen-vbd-interface(7)).

use alloc::borrow::ToOwned;
use alloc::string::String;
use core::fmt;

/// A virtual device: the name it was given and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vdev {
    name: String,
    number: u32,
}

/// `xvd` devices below these bounds use the classic encoding, others the extended one.
const CLASSIC_DISKS: u32 = 16;
const CLASSIC_PARTITIONS: u32 = 16;
/// Extended encoding: bit 28, disk in bits 8 to 27, partition in bits 0 to 7.
const EXTENDED: u32 = 1 << 28;
const EXTENDED_DISKS: u32 = 1 << 20;
const EXTENDED_PARTITIONS: u32 = 1 << 8;

impl Vdev {
    /// Parses a name.
    pub fn parse(name: &str) -> Option<Self> {
        let number = xvd(name).or_else(|| ide(name)).or_else(|| scsi(name)).or_else(|| raw(name))?;
        Some(Self { name: name.to_owned(), number })
    }

    /// The device with that number, under the name that Xen's tools print for it.
    pub fn from_number(number: u32) -> Self {
        let (prefix, disk, partition) = match number >> 8 {
            _ if number & EXTENDED != 0 => ("xvd", (number & !EXTENDED) >> 8, number & 0xff),
            202 => ("xvd", (number >> 4) & 0xf, number & 0xf),
            8 => ("sd", (number >> 4) & 0xf, number & 0xf),
            3 => ("hd", (number >> 6) & 1, number & 0x3f),
            22 => ("hd", 2 + ((number >> 6) & 1), number & 0x3f),
            _ => {
                return Self { name: alloc::format!("{number}"), number };
            }
        };
        let mut name = alloc::format!("{prefix}{}", Letters(disk));
        if partition != 0 {
            name += &alloc::format!("{partition}");
        }
        Self { name, number }
    }

    /// The name as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The XenBus number: the last component of `device/vbd/<number>`.
    pub const fn number(&self) -> u32 {
        self.number
    }
}

impl fmt::Display for Vdev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A disk index in letters: a to z, aa, ab, ...
struct Letters(u32);

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 26 {
            Letters(self.0 / 26 - 1).fmt(f)?;
        }
        let letter = b'a'.saturating_add(u8::try_from(self.0 % 26).unwrap_or(0));
        write!(f, "{}", char::from(letter))
    }
}

/// Splits what follows a prefix into a disk index (letters) and a partition (digits, 0 for the whole disk).
fn letters_and_partition(rest: &str) -> Option<(u32, u32)> {
    let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
    let (letters, digits) = rest.split_at_checked(letters)?;
    if letters.is_empty() || letters.len() > 5 {
        return None;
    }
    let disk = letters.bytes().fold(0u32, |index, letter| index * 26 + u32::from(letter - b'a') + 1) - 1;
    Some((disk, if digits.is_empty() { 0 } else { partition(digits)? }))
}

fn partition(digits: &str) -> Option<u32> {
    plain(digits).filter(|&number| number != 0)
}

/// Digits alone, without a leading zero: the form that prints back as it was.
fn plain(digits: &str) -> Option<u32> {
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    canonical.then(|| digits.parse().ok()).flatten()
}

/// `xvda`, `xvdb3`, or `d0`, `d1p3`.
fn xvd(name: &str) -> Option<u32> {
    let (disk, partition) = match name.strip_prefix("xvd") {
        Some(rest) => letters_and_partition(rest)?,
        None => {
            let rest = name.strip_prefix('d')?;
            match rest.split_once('p') {
                Some((disk, digits)) => (plain(disk)?, plain(digits)?),
                None => (plain(rest)?, 0),
            }
        }
    };
    if disk < CLASSIC_DISKS && partition < CLASSIC_PARTITIONS {
        return Some((202 << 8) | (disk << 4) | partition);
    }
    (disk < EXTENDED_DISKS && partition < EXTENDED_PARTITIONS).then_some(EXTENDED | (disk << 8) | partition)
}

/// `hda` to `hdd`: majors 3 and 22.
fn ide(name: &str) -> Option<u32> {
    let (disk, partition) = letters_and_partition(name.strip_prefix("hd")?)?;
    let major = if disk < 2 { 3 } else { 22 };
    (disk < 4 && partition < 64).then_some((major << 8) | ((disk & 1) << 6) | partition)
}

/// `sda` to `sdp`: major 8.
fn scsi(name: &str) -> Option<u32> {
    let (disk, partition) = letters_and_partition(name.strip_prefix("sd")?)?;
    (disk < 16 && partition < 16).then_some((8 << 8) | (disk << 4) | partition)
}

/// A bare number, decimal or after `0x`.
fn raw(name: &str) -> Option<u32> {
    match name.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => plain(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(name: &str) -> Option<u32> {
        Vdev::parse(name).map(|vdev| vdev.number())
    }

    #[test]
    fn well_known_names_have_their_well_known_numbers() {
        assert_eq!(number("xvda"), Some(51712));
        assert_eq!(number("xvdb"), Some(51728));
        assert_eq!(number("xvda1"), Some(51713));
        assert_eq!(number("xvdp15"), Some(51967));
        assert_eq!(number("hda"), Some(768));
        assert_eq!(number("hdc"), Some(5632));
        assert_eq!(number("sda"), Some(2048));
        assert_eq!(number("d0"), Some(51712));
        assert_eq!(number("d1p2"), Some(51730));
        assert_eq!(number("51712"), Some(51712));
        assert_eq!(number("0xca00"), Some(51712));
    }

    #[test]
    fn disks_and_partitions_beyond_fifteen_use_the_extended_numbers() {
        assert_eq!(number("xvdq"), Some((1 << 28) | (16 << 8)));
        assert_eq!(number("xvdaa"), Some((1 << 28) | (26 << 8)));
        assert_eq!(number("xvda16"), Some((1 << 28) | 16));
    }

    #[test]
    fn names_that_mean_nothing_are_refused() {
        for name in ["", "xvd", "xvda0", "xvda01", "xvdA", "hde", "sdq", "xvda256", "vda", "d", "d1p", "xvdzzzzzz"] {
            assert_eq!(number(name), None, "{name}");
        }
    }

    #[test]
    fn a_number_gives_the_name_that_gave_the_number() {
        for name in ["xvda", "xvdb3", "xvdp15", "xvdq", "xvdz1", "xvdaa", "xvdzz255", "hda", "hdb2", "hdd", "sdc4"] {
            let vdev = Vdev::parse(name).unwrap();
            assert_eq!(Vdev::from_number(vdev.number()), vdev);
        }
    }
}
