//! Memory that structures and frames of the measured calls are in.

use pv_guest_lib::abi::arm::{GUEST_GNTTAB_BASE, GUEST_GNTTAB_SIZE};
use pv_guest_lib::abi::ids::Port;
use pv_guest_lib::abi::shared_info::layout;
use pv_guest_lib::addr::IpaRange;

/// Where `pv-guest-lib` puts the shared information page.
pub const SHARED_INFO: u64 = GUEST_GNTTAB_BASE + GUEST_GNTTAB_SIZE - 4096;

/// Memory that belongs to no Rust object: for structures, and as frames.
#[derive(Clone, Copy, Debug)]
pub struct Scratch(u64);

impl Scratch {
    /// Pages of its own.
    pub fn take(pages: u64) -> Option<Self> {
        pv_guest_lib::pages::take(pages).map(Self::of)
    }

    /// The memory of a range that no Rust object is in and that is mapped.
    pub fn of(range: IpaRange) -> Self {
        Self(range.start().raw())
    }

    /// The address of byte `offset`.
    pub fn at(self, offset: u64) -> u64 {
        self.0 + offset
    }

    /// The number of the frame of byte `offset`.
    pub fn frame(self, offset: u64) -> u64 {
        self.at(offset) >> 12
    }

    /// Writes eight bytes.
    #[inline(always)]
    pub fn set(self, offset: u64, value: u64) {
        // SAFETY: the callers stay inside the pages, at multiples of 8.
        unsafe { (self.at(offset) as *mut u64).write_volatile(value) };
    }

    /// Reads eight bytes.
    #[inline(always)]
    pub fn get(self, offset: u64) -> u64 {
        // SAFETY: as for `set`.
        unsafe { (self.at(offset) as *const u64).read_volatile() }
    }
}

/// Lets the events of a port, one of the first 64, interrupt. What has come before is dropped, for a port that is
/// pending already does not interrupt again; binding makes it so.
pub fn unmask(port: Port) {
    let shared = Scratch(SHARED_INFO);
    let mask = layout::EVTCHN_MASK as u64;
    shared.set(layout::EVTCHN_PENDING as u64, 0);
    shared.set(mask, shared.get(mask) & !(1 << port.0));
}

/// Marks a port as pending, as if it had been sent to, and masks it.
pub fn make_pending(port: Port) {
    let shared = Scratch(SHARED_INFO);
    let mask = layout::EVTCHN_MASK as u64;
    shared.set(mask, shared.get(mask) | 1 << port.0);
    shared.set(layout::EVTCHN_PENDING as u64, 1 << port.0);
}
