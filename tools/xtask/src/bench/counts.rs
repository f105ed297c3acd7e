//! What the hypervisor does on a path beside executing instructions: the kinds that cost more on real hardware than
//! an emulator shows.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Counts by the name of the path.
pub type Counts = BTreeMap<String, Count>;

/// What happened at EL2 on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Instructions of all kinds.
    pub instructions: u64,
    /// Returns from EL2, and so exceptions taken there.
    pub exceptions: u64,
    /// DSB and ISB.
    pub barriers: u64,
    /// Writes to system registers.
    pub register_writes: u64,
    /// TLB invalidations of an address.
    pub tlbi_address: u64,
    /// TLB invalidations of all of one VMID.
    pub tlbi_vmid: u64,
    /// TLB invalidations of everything.
    pub tlbi_all: u64,
}

impl Count {
    /// The kinds, with the words of the table.
    pub fn kinds(&self) -> [(&'static str, u64); 7] {
        [
            ("instructions", self.instructions),
            ("exceptions", self.exceptions),
            ("barriers", self.barriers),
            ("register writes", self.register_writes),
            ("TLBI address", self.tlbi_address),
            ("TLBI VMID", self.tlbi_vmid),
            ("TLBI all", self.tlbi_all),
        ]
    }

    /// What may not be more than on Xen. A wider invalidation does all that a narrower one does; one of an address alone
    /// is not compared, since it is made so that a wider one need not be.
    pub fn beside_xen(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("exceptions", self.exceptions),
            ("barriers", self.barriers),
            ("register writes", self.register_writes),
            ("TLBI VMID or all", self.tlbi_vmid + self.tlbi_all),
            ("TLBI all", self.tlbi_all),
        ]
    }

    /// What may not be more than before: all kinds but plain instructions, which are compared elsewhere.
    pub fn beside_before(&self) -> Vec<(&'static str, u64)> {
        self.kinds().into_iter().skip(1).collect()
    }
}

impl AddAssign<u32> for Count {
    /// Counts one instruction by its word (Arm ARM, C4.1.4 "Barriers", "System instructions", "System register move").
    fn add_assign(&mut self, word: u32) {
        self.instructions += 1;
        let [op1, crm, op2] = [word >> 16 & 7, word >> 8 & 15, word >> 5 & 7];
        match word {
            // ERET.
            0xD69F_03E0 => self.exceptions += 1,
            // DSB, whatever its scope, and ISB.
            _ if word & 0xFFFF_F0FF == 0xD503_309F || word & 0xFFFF_F0FF == 0xD503_30DF => self.barriers += 1,
            // MSR (register).
            _ if word & 0xFFF0_0000 == 0xD510_0000 => self.register_writes += 1,
            // SYS with CRn 8, and CRn 9 for the variants that order less.
            _ if word & 0xFFF8_E000 == 0xD508_8000 => match (op1, crm, op2) {
                // All of EL2, all of EL1 and EL0 in all VMIDs.
                (4, 3 | 7 | 1, 0 | 4) => self.tlbi_all += 1,
                // VMALLE1 and VMALLS12E1.
                (0, 3 | 7 | 1, 0) | (4, 3 | 7 | 1, 6) => self.tlbi_vmid += 1,
                _ => self.tlbi_address += 1,
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    fn count(words: &[u32]) -> Count {
        let mut count = Count::default();
        words.iter().for_each(|word| count += *word);
        count
    }

    #[test]
    fn an_exception_is_one_eret() {
        assert_eq!(count(&[0xD69F_03E0]), Count { instructions: 1, exceptions: 1, ..Count::default() });
    }

    #[test]
    fn barriers_are_dsb_and_isb_but_not_dmb() {
        // dsb sy, dsb ish, dsb nsh, isb, dmb ish, nop
        let found = count(&[0xD503_3F9F, 0xD503_3B9F, 0xD503_379F, 0xD503_3FDF, 0xD503_3BBF, 0xD503_201F]);
        assert_eq!(found, Count { instructions: 6, barriers: 4, ..Count::default() });
    }

    #[test]
    fn writes_of_system_registers_count_and_reads_do_not() {
        // msr vttbr_el2, x0; mrs x0, vttbr_el2; msr daifset, #2
        let found = count(&[0xD51C_2100, 0xD53C_2100, 0xD503_42DF]);
        assert_eq!(found, Count { instructions: 3, register_writes: 1, ..Count::default() });
    }

    #[test]
    fn tlb_invalidations_count_by_scope() {
        // tlbi ipas2e1is, x0; tlbi vae2is, x0; tlbi vmalle1is; tlbi vmalls12e1is; tlbi alle1is; tlbi alle2
        let found = count(&[0xD50C_8020, 0xD50C_8320, 0xD508_831F, 0xD50C_83DF, 0xD50C_839F, 0xD50C_871F]);
        let wanted = Count { instructions: 6, tlbi_address: 2, tlbi_vmid: 2, tlbi_all: 2, ..Count::default() };
        assert_eq!(found, wanted);
    }
}
