//! Warnings about domains, of which none gets more than its share.

use core::cell::RefCell;
use core::fmt::Arguments;

use dom0_core::notices::Notices;
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use hypercall_abi::ids::DomId;
use pv_guest_lib::time;

static NOTICES: Mutex<CriticalSectionRawMutex, RefCell<Notices>> = Mutex::new(RefCell::new(Notices::new()));

/// Shows a warning about what a domain has done, after the number of those that were left out before.
pub fn warn(domid: DomId, text: Arguments<'_>) {
    let Some(left_out) = NOTICES.lock(|notices| notices.borrow_mut().admit(domid, time::now_us())) else { return };
    tell_of(domid, left_out);
    log::warn!("{text}");
}

/// Forgets a domain that has gone.
pub fn forget(domid: DomId) {
    tell_of(domid, NOTICES.lock(|notices| notices.borrow_mut().forget(domid)));
}

fn tell_of(domid: DomId, left_out: u64) {
    if left_out > 0 {
        log::warn!("{left_out} messages about d{domid} were left out");
    }
}
