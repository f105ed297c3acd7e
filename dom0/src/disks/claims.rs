//! Who uses which target: two readers may share one, a writer has it alone.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use crate::backends::DeviceId;

/// All claims.
#[derive(Default)]
pub struct Claims(RefCell<Vec<Entry>>);

struct Entry {
    target: String,
    read_only: bool,
    user: DeviceId,
}

/// The right to use a target, given back when it is dropped.
pub struct Claim {
    claims: Rc<Claims>,
    user: DeviceId,
}

impl Claims {
    /// Claims `target`; `None` if that would set a writer beside anybody else.
    pub fn take(claims: &Rc<Claims>, target: String, read_only: bool, user: DeviceId) -> Option<Claim> {
        let mut entries = claims.0.borrow_mut();
        if entries.iter().any(|entry| entry.target == target && !(entry.read_only && read_only)) {
            return None;
        }
        entries.push(Entry { target, read_only, user });
        Some(Claim { claims: Rc::clone(claims), user })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.borrow_mut().retain(|entry| entry.user != self.user);
    }
}
