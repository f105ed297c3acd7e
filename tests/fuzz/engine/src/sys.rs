//! The counters that the compiler put into our crates.
#![allow(unsafe_code, reason = "the counters are changed by the code that is observed")]

use libafl_targets::sancov_8bit::{CountersMultiMapObserver, counters_maps_observer};

/// How often each branch was taken in the last story.
pub fn branches() -> CountersMultiMapObserver<false> {
    // SAFETY: the counters are bytes without meaning to the program, and LibAFL reads them between two stories, when nothing
    // that is instrumented runs: there is one thread.
    unsafe { counters_maps_observer("branches") }
}
