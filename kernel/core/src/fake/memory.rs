//! The contents of frames, and the translation that goes stale.

use std::collections::VecDeque;

use super::{Fake, point, with};
use crate::addr::{GuestVa, Ipa, PAGE_SIZE, Pa};
use crate::hw::{Access, Memory, Translation, Vttbr};

impl Memory for Fake {
    fn zero(at: Pa, bytes: u64) {
        assert!(at.is_aligned(PAGE_SIZE) && bytes.is_multiple_of(PAGE_SIZE), "zero works on whole pages");
        with(|s| s.arena.fill(at, bytes));
    }

    fn read_bytes(at: Pa, into: &mut [u8]) {
        assert!(into.len() as u64 <= at.left_in_page(), "a read leaves its page");
        with(|s| s.arena.read(at, into));
    }

    fn write_bytes(at: Pa, from: &[u8]) {
        assert!(from.len() as u64 <= at.left_in_page(), "a write leaves its page");
        with(|s| s.arena.write(at, from));
    }

    fn copy(to: Pa, from: Pa, bytes: u64) {
        assert!(bytes <= to.left_in_page() && bytes <= from.left_in_page(), "a copy leaves its page");
        with(|s| {
            s.counts.copied += bytes;
            if let Some(at) = s.watched.0 {
                s.watched.1.push(s.arena.load32(at));
            }
            s.arena.copy(to, from, bytes);
        });
    }

    fn load32(at: Pa) -> u32 {
        point();
        with(|s| s.arena.load32(at))
    }

    fn store32(at: Pa, value: u32) {
        point();
        with(|s| s.arena.store32(at, value));
    }

    fn cas64(at: Pa, old: u64, new: u64) -> Result<u64, u64> {
        point();
        with(|s| {
            if let Some(value) = s.interference.get_mut(&at.raw()).and_then(VecDeque::pop_front) {
                s.arena.store32(at, value);
            }
            let found = s.arena.load64(at);
            if found != old {
                return Err(found);
            }
            s.arena.store64(at, new);
            Ok(found)
        })
    }

    fn load64(at: Pa) -> u64 {
        point();
        with(|s| s.arena.load64(at))
    }

    fn store64(at: Pa, value: u64) {
        point();
        with(|s| s.arena.store64(at, value));
    }

    fn set_bits64(at: Pa, bits: u64) -> u64 {
        point();
        with(|s| {
            let before = s.arena.load64(at);
            s.arena.store64(at, before | bits);
            before
        })
    }

    fn clear_bits64(at: Pa, bits: u64) -> u64 {
        point();
        with(|s| {
            let before = s.arena.load64(at);
            s.arena.store64(at, before & !bits);
            before
        })
    }

    fn clean_to_poc(_: Pa, bytes: u64) {
        with(|s| s.counts.cleaned += bytes);
    }

    fn zero_to_poc(at: Pa, bytes: u64) {
        Self::zero(at, bytes);
        Self::clean_to_poc(at, bytes);
    }

    fn forget_instructions() {}
}

impl Translation for Fake {
    fn translate(va: GuestVa, access: Access) -> Option<Pa> {
        with(|s| s.translate(va, access))
    }

    fn fault_address() -> (GuestVa, Ipa) {
        with(|s| s.fault)
    }

    fn publish_tables() {
        with(|s| s.counts.publications += 1);
    }

    fn load_stage2(stage2: Vttbr) {
        with(|s| {
            s.counts.stage2_loads += 1;
            s.stage2 = stage2;
        });
    }

    fn invalidate(stage2: Vttbr, pages: impl Iterator<Item = Ipa>) {
        with(|s| {
            s.counts.invalidations += 1;
            for page in pages {
                s.counts.invalidated_pages += 1;
                s.tlb.invalidate(stage2, page);
            }
        });
    }

    fn invalidate_vmid(stage2: Vttbr) {
        with(|s| {
            s.counts.vmid_invalidations += 1;
            s.tlb.invalidate_vmid(stage2);
        });
    }

    fn invalidate_all_vmids() {
        with(|s| {
            s.counts.full_invalidations += 1;
            s.tlb.clear();
        });
    }
}
