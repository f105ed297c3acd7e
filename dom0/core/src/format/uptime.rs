//! `xl uptime`.

use alloc::string::String;
use core::fmt::{self, Write};

/// Writes the heading of the long form.
///
/// # Errors
/// Those of `out`.
pub fn uptime_head(out: &mut impl Write) -> fmt::Result {
    writeln!(out, "{:<33} {:>4} Uptime", "Name", "ID")
}

/// Writes a line of the long form; `uptime` is in seconds.
///
/// # Errors
/// Those of `out`.
pub fn uptime_line(out: &mut impl Write, name: &str, domid: u16, uptime: u64) -> fmt::Result {
    let time = alloc::format!("{:>2}:{:02}:{:02}", uptime / 3600 % 24, uptime / 60 % 60, uptime % 60);
    writeln!(out, "{name:<33} {domid:>4} {}{time}", days(uptime))
}

/// Writes a line of the short form. `now` is the time of day in seconds: since midnight, or since the machine started
/// when it has no clock.
///
/// # Errors
/// Those of `out`.
pub fn uptime_short(out: &mut impl Write, now: u64, name: &str, domid: u16, uptime: u64) -> fmt::Result {
    let clock = alloc::format!("{:02}:{:02}:{:02}", now / 3600 % 24, now / 60 % 60, now % 60);
    let time = alloc::format!("{:>2}:{:02}", uptime / 3600 % 24, uptime / 60 % 60);
    writeln!(out, " {clock} up {}{time}, {name} ({domid})", days(uptime))
}

fn days(uptime: u64) -> String {
    match uptime / 86400 {
        0 => String::new(),
        1 => "1 day, ".into(),
        days => alloc::format!("{days} days, "),
    }
}
