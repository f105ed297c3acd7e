//! Domain UUIDs: parsing, printing, and making one from random bytes.

use core::fmt;
use core::str::FromStr;

/// A UUID, its bytes in the order they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Uuid([u8; 16]);

/// A text that is not a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAUuid;

impl Uuid {
    /// A version 4 UUID (RFC 9562) from random bytes, whose version and variant bits are replaced.
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// A UUID from its bytes, as a control call stores it.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes, in the order they are printed.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for Uuid {
    type Err = NotAUuid;

    /// Takes 32 hexadecimal digits; dashes may stand where they are printed, or be left out altogether.
    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        let dashed = text.len() == 36 && [8, 13, 18, 23].iter().all(|&at| text.as_bytes().get(at) == Some(&b'-'));
        let plain = text.len() == 32;
        if !dashed && !plain {
            return Err(NotAUuid);
        }
        let mut bytes = [0u8; 16];
        let mut digits =
            text.chars().enumerate().filter(|&(at, c)| !(dashed && c == '-' && [8, 13, 18, 23].contains(&at)));
        for byte in &mut bytes {
            let mut digit = || digits.next().and_then(|(_, c)| c.to_digit(16)).ok_or(NotAUuid);
            let value = digit()? * 16 + digit()?;
            *byte = u8::try_from(value).map_err(|_| NotAUuid)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&index) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_uuid_says_that_it_is_version_4() {
        let text = Uuid::from_random([0xff; 16]).to_string();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn a_uuid_parses_back_with_and_without_dashes() {
        let text = "01234567-89ab-4def-8123-456789abcdef";
        let uuid: Uuid = text.parse().unwrap();
        assert_eq!(uuid.to_string(), text);
        assert_eq!(text.replace('-', "").parse(), Ok(uuid));
    }

    #[test]
    fn dashes_in_the_wrong_place_are_refused() {
        assert_eq!("0123456-789ab-4def-8123-456789abcdef".parse::<Uuid>(), Err(NotAUuid));
        assert_eq!("g1234567-89ab-4def-8123-456789abcdef".parse::<Uuid>(), Err(NotAUuid));
        assert_eq!("".parse::<Uuid>(), Err(NotAUuid));
    }
}
