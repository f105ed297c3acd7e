//! What the attacks do that Rust does not vouch for.

mod calls;
mod cpu;
mod run;
mod scratch;

pub use calls::{firmware, hypercall};
pub use cpu::{
    has_gicv2, millisecond, now, open_interface, send_sgi, set_timers_to_the_past, sleep_and_end, sleep_until,
};
pub use run::{Ending, READ_ONLY_ALIAS, USER_ALIAS, open_up, run, second_entry};
pub use scratch::{RAM, Scratch};
