//! The campaigns: cases that take minutes or hours each, and so are no part of `cargo xtask test`.

use crate::suite::Case;

mod load;
mod pings;
mod plug;
mod xen;

/// All campaigns, the quick ones first. Each loads all of its machine, and so is `alone`.
pub fn all() -> Vec<Case> {
    [xen::CASES, pings::CASES, load::CASES, plug::CASES].concat()
}
