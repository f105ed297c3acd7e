//! Numbers, times and amounts as users write them.

use alloc::vec::Vec;

/// A time in seconds, with up to three decimals counted, as milliseconds.
pub(super) fn milliseconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if (whole.is_empty() && fraction.is_empty()) || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { number(whole)? };
    let padded: Vec<u8> = fraction.bytes().chain(*b"000").take(3).collect();
    let fraction = padded.iter().fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    whole.checked_mul(1000)?.checked_add(fraction)
}

/// An amount of memory in KiB: MiB unless a letter says otherwise, as `xl` has it.
pub(super) fn memory_kib(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = text.get(digits.len()..)?.to_ascii_lowercase();
    let amount = number(digits).filter(|_| !digits.is_empty())?;
    match unit.as_str() {
        "b" => Some(amount >> 10),
        "k" => Some(amount),
        "" | "m" => amount.checked_mul(1 << 10),
        "g" => amount.checked_mul(1 << 20),
        "t" => amount.checked_mul(1 << 30),
        _ => None,
    }
}

/// A number in digits alone.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
