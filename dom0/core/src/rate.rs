//! Rates of interfaces (`rate=` in xl-network-configuration(5)): `10Mb/s`, `250KB/s`, `1MB/s@20ms`.

use core::fmt;

/// The interval when none is given, in microseconds.
const INTERVAL_US: u32 = 50_000;

/// So many bytes in each interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes, at least one.
    pub bytes: u64,
    /// Microseconds, at least one.
    pub interval_us: u32,
}

impl Rate {
    /// Reads a rate in the words of `vif=`.
    pub fn parse(text: &str) -> Option<Self> {
        let (rate, interval) = text.split_once('@').map_or((text, None), |(rate, interval)| (rate, Some(interval)));
        let interval_us = interval.map_or(Some(INTERVAL_US), microseconds)?;
        let (number, unit) = split(rate.strip_suffix("/s")?)?;
        let bits: u64 = match unit {
            "GB" => 8_000_000_000,
            "MB" => 8_000_000,
            "KB" => 8_000,
            "B" => 8,
            "Gb" => 1_000_000_000,
            "Mb" => 1_000_000,
            "Kb" => 1_000,
            "b" => 1,
            _ => return None,
        };
        let a_second = number.checked_mul(bits)? / 8;
        let bytes = a_second.checked_mul(interval_us.into())? / 1_000_000;
        (bytes > 0).then_some(Self { bytes, interval_us })
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub fn from_node(text: &str) -> Option<Self> {
        let (bytes, interval) = text.split_once(',')?;
        let rate = Self { bytes: bytes.parse().ok()?, interval_us: interval.parse().ok()? };
        (rate.bytes > 0 && rate.interval_us > 0).then_some(rate)
    }
}

/// As Xen's toolstack writes it into the store.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.bytes, self.interval_us)
    }
}

/// Digits, and what stands behind them.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

fn microseconds(text: &str) -> Option<u32> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "s" => 1_000_000,
        "ms" => 1_000,
        "us" | "" => 1,
        _ => return None,
    };
    u32::try_from(number.checked_mul(factor)?).ok().filter(|interval| *interval > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_examples_of_the_manual_mean_what_it_says() {
        assert_eq!(Rate::parse("10Mb/s"), Some(Rate { bytes: 62_500, interval_us: 50_000 }));
        assert_eq!(Rate::parse("250KB/s"), Some(Rate { bytes: 12_500, interval_us: 50_000 }));
        assert_eq!(Rate::parse("1MB/s@20ms"), Some(Rate { bytes: 20_000, interval_us: 20_000 }));
        assert_eq!(Rate::parse("8b/s@1s"), Some(Rate { bytes: 1, interval_us: 1_000_000 }));
    }

    #[test]
    fn what_is_no_rate_is_none() {
        for text in
            ["", "10", "10Mb", "Mb/s", "10mb/s", "-1B/s", "0B/s", "1B/s@0", "1b/s", "1MB/s@2h", "99999999999GB/s"]
        {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_rate_survives_the_store() {
        let rate = Rate::parse("1GB/s@3us").unwrap();
        assert_eq!(Rate::from_node(&rate.to_string()), Some(rate));
        assert_eq!((Rate::from_node("0,1"), Rate::from_node("1"), Rate::from_node("1,0")), (None, None, None));
    }
}
