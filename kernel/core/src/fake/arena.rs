//! The fake's RAM.

use crate::addr::{PAGE_SIZE, Pa};

/// First byte of the fake's RAM.
pub const RAM_BASE: Pa = Pa::new(0x4000_0000);
/// Pages of the fake's RAM (32 MiB).
pub const RAM_PAGES: u64 = 8192;

/// RAM, and a panic for whoever reaches beyond it.
pub(crate) struct Arena(Vec<u8>);

impl Arena {
    pub(crate) fn new() -> Self {
        let bytes = usize::try_from(RAM_PAGES * PAGE_SIZE).expect("the arena fits the host");
        Arena(vec![0; bytes])
    }

    fn at(&mut self, at: Pa, bytes: u64) -> &mut [u8] {
        let start = at.raw().checked_sub(RAM_BASE.raw()).expect("an access below RAM");
        let start = usize::try_from(start).expect("an access above RAM");
        let bytes = usize::try_from(bytes).expect("an access above RAM");
        self.0.get_mut(start..start + bytes).expect("an access above RAM")
    }

    pub(crate) fn fill(&mut self, at: Pa, bytes: u64) {
        self.at(at, bytes).fill(0);
    }

    pub(crate) fn read(&mut self, at: Pa, into: &mut [u8]) {
        into.copy_from_slice(self.at(at, into.len() as u64));
    }

    pub(crate) fn write(&mut self, at: Pa, from: &[u8]) {
        self.at(at, from.len() as u64).copy_from_slice(from);
    }

    pub(crate) fn copy(&mut self, to: Pa, from: Pa, bytes: u64) {
        let source = self.at(from, bytes).to_vec();
        self.write(to, &source);
    }

    pub(crate) fn load32(&mut self, at: Pa) -> u32 {
        assert!(at.is_aligned(4), "an unaligned atomic access");
        let mut word = [0; 4];
        self.read(at, &mut word);
        u32::from_le_bytes(word)
    }

    pub(crate) fn store32(&mut self, at: Pa, value: u32) {
        assert!(at.is_aligned(4), "an unaligned atomic access");
        self.write(at, &value.to_le_bytes());
    }

    pub(crate) fn load64(&mut self, at: Pa) -> u64 {
        assert!(at.is_aligned(8), "an unaligned atomic access");
        let mut word = [0; 8];
        self.read(at, &mut word);
        u64::from_le_bytes(word)
    }

    pub(crate) fn store64(&mut self, at: Pa, value: u64) {
        assert!(at.is_aligned(8), "an unaligned atomic access");
        self.write(at, &value.to_le_bytes());
    }
}
