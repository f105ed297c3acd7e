//! The real-time clock of Arm's PrimeCell family: seconds since 1970, as whoever set it counts them (Arm DDI0224).
//!
//! Only reading is here: the clock is the host's, and it has no other user.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use core::time::Duration;

pub use safe_mmio::UniqueMmioPointer;
use safe_mmio::field_shared;
use safe_mmio::fields::{ReadPure, ReadPureWrite};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The registers, as far as they are used (DDI0224, section 3.2).
#[derive(Clone, Debug, Eq, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Registers {
    /// `RTCDR`: the time.
    data: ReadPure<u32>,
    /// `RTCMR`: the alarm.
    matching: ReadPureWrite<u32>,
    /// `RTCLR`: sets the time.
    load: ReadPureWrite<u32>,
    /// `RTCCR`: bit 0 is set while the clock runs.
    control: ReadPureWrite<u32>,
}

/// A clock.
pub struct Pl031<'a> {
    registers: UniqueMmioPointer<'a, Registers>,
}

impl<'a> Pl031<'a> {
    /// The clock with these registers.
    #[must_use]
    pub const fn new(registers: UniqueMmioPointer<'a, Registers>) -> Self {
        Self { registers }
    }

    /// The time since the start of 1970 (UTC) in whole seconds; `None` when the clock stands, or was never set.
    #[must_use]
    pub fn now(&self) -> Option<Duration> {
        let runs = field_shared!(self.registers, control).read() & 1 != 0;
        let seconds = field_shared!(self.registers, data).read();
        (runs && seconds != 0).then(|| Duration::from_secs(u64::from(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(data: u32, control: u32) -> Option<Duration> {
        let [load, matching] = [0; 2].map(ReadPureWrite);
        let mut registers = Registers { data: ReadPure(data), matching, load, control: ReadPureWrite(control) };
        Pl031::new(UniqueMmioPointer::from(&mut registers)).now()
    }

    #[test]
    fn a_clock_that_runs_tells_its_seconds() {
        assert_eq!(clock(1_700_000_000, 1), Some(Duration::from_secs(1_700_000_000)));
    }

    #[test]
    fn a_clock_that_stands_or_was_never_set_tells_nothing() {
        assert_eq!(clock(1_700_000_000, 0), None);
        assert_eq!(clock(0, 1), None);
    }
}
