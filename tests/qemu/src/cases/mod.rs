//! The cases, by what they are about.

use anyhow::Result;

use crate::suite::{Case, Lab, Needs};

mod boot;
mod disk;
mod errors;
mod guests;
mod hostile;
mod life;
mod linux;
mod many;
mod net;
mod peer;
mod shares;
pub mod soak;
mod trace;

/// A case that needs only our own images.
const fn case(name: &'static str, run: fn(&Lab) -> Result<()>) -> Case {
    Case { name, needs: Needs::Nothing, alone: false, run }
}

/// A case that compares times of the host's clock.
const fn alone(name: &'static str, run: fn(&Lab) -> Result<()>) -> Case {
    Case { name, needs: Needs::Nothing, alone: true, run }
}

/// All cases, the quick ones first.
pub fn all() -> Vec<Case> {
    [
        boot::CASES,
        life::CASES,
        errors::CASES,
        hostile::CASES,
        disk::CASES,
        guests::CASES,
        linux::CASES,
        net::switch::CASES,
        net::outside::CASES,
        shares::CASES,
        trace::CASES,
        many::CASES,
        peer::CASES,
    ]
    .concat()
}
