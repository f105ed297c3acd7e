//! The fake's translation: a walk of the real tables, and a TLB that keeps what the walk found.

use std::collections::BTreeMap;

use super::State;
use crate::addr::{GuestVa, Ipa, PAGE_SIZE, Pa};
use crate::hw::{Access, Vttbr};

/// Translations by VMID and page; the value is the page's address and whether it can be written.
#[derive(Default)]
pub(crate) struct Tlb(BTreeMap<(u64, u64), (Pa, bool)>);

fn vmid(stage2: Vttbr) -> u64 {
    stage2.0 >> 48
}

impl Tlb {
    pub(super) fn invalidate(&mut self, stage2: Vttbr, page: Ipa) {
        self.0.remove(&(vmid(stage2), page.number()));
    }

    pub(super) fn invalidate_vmid(&mut self, stage2: Vttbr) {
        self.0.retain(|&(v, _), _| v != vmid(stage2));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl State {
    pub(super) fn translate(&mut self, va: GuestVa, access: Access) -> Option<Pa> {
        self.counts.translations += 1;
        let page = va.number();
        let write = access == Access::Write;
        if self.unmapped.contains(&page) || write && self.read_only.contains(&page) {
            return None;
        }
        let key = (vmid(self.stage2), page);
        let (pa, writable) = match self.tlb.0.get(&key) {
            Some(&hit) => hit,
            None => {
                let found = self.walk(Ipa::new(page * PAGE_SIZE))?;
                self.tlb.0.insert(key, found);
                found
            }
        };
        (writable || !write).then(|| pa.add(va.offset()))
    }

    /// A stage-2 walk as the architecture defines it for 40 bits of IPA, 4 KiB granule and a start at level 1
    /// with two concatenated tables (Arm ARM, section D8.2).
    fn walk(&mut self, ipa: Ipa) -> Option<(Pa, bool)> {
        const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;
        let root = self.stage2.0 & 0x0000_FFFF_FFFF_FFFE;
        if root == 0 || ipa.raw() >> 40 != 0 {
            return None;
        }
        let mut table = Pa::new(root);
        for (level, shift) in [(1, 30), (2, 21), (3, 12)] {
            let entries = if level == 1 { 1024 } else { 512 };
            let entry = self.arena.load64(table.add((ipa.raw() >> shift) % entries * 8));
            let is_leaf = match (level, entry & 0b11) {
                (3, 0b11) | (1 | 2, 0b01) => true,
                (1 | 2, 0b11) => false,
                _ => return None,
            };
            if !is_leaf {
                table = Pa::new(entry & ADDRESS);
                continue;
            }
            assert!(entry & 1 << 10 != 0, "a leaf without the access flag");
            let inside = ipa.raw() & ((1 << shift) - 1);
            let base = entry & ADDRESS & !((1 << shift) - 1);
            let readable = entry & 1 << 6 != 0;
            return readable.then_some((Pa::new(base + inside), entry & 1 << 7 != 0));
        }
        None
    }
}
