//! Each target on stories that are the same in each run.

use std::panic::catch_unwind;

use crate::TARGETS;

/// Stories for each target.
const STORIES: u64 = 1000;
/// Bytes of the longest.
const LONGEST: u64 = 2048;

/// A generator of numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// Bytes of a story: most are noise, some small, as lengths and choices are.
    fn story(&mut self) -> Vec<u8> {
        let len = usize::try_from(self.next() % LONGEST).unwrap_or(0);
        let mask = if self.next().is_multiple_of(2) { 0xFF } else { 0x0F };
        (0..len).map(|_| self.next().to_le_bytes()[0] & mask).collect()
    }
}

#[test]
fn no_story_makes_a_target_fail() {
    for target in TARGETS {
        for seed in 0..STORIES {
            let story = Numbers(seed).story();
            let told = catch_unwind(|| (target.run)(&story));
            assert!(told.is_ok(), "{} fails on story {seed}", target.name);
        }
    }
}

#[test]
fn the_names_of_targets_differ() {
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TARGETS.len());
}
