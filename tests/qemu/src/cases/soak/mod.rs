//! The campaigns: cases that take minutes or hours each, and so are no part of `cargo xtask test`.

use crate::suite::Case;

mod load;

/// All campaigns, the quick ones first.
pub fn all() -> Vec<Case> {
    [load::CASES].concat()
}
