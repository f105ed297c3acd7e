//! Following a ring of trace records that is written on while it is read (`hypercall_abi::trace`).

use core::ops::Range;

/// Where the reader of a ring stands, and what it has missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    slots: u64,
    next: u64,
    lost: u64,
}

impl Cursor {
    /// At the first record of a ring of `slots` records, at least one.
    pub fn new(slots: u64) -> Self {
        Cursor { slots: slots.max(1), next: 0, lost: 0 }
    }

    /// The records to read next when `count` have been written, `most` of them at the most. They lie side by side, from
    /// the slot of the first one on.
    pub fn wanted(&self, count: u64, most: u64) -> Range<u64> {
        let first = self.next.max(count.saturating_sub(self.slots));
        let to_the_end = self.slots - first % self.slots;
        first..count.min(first.saturating_add(to_the_end.min(most))).max(first)
    }

    /// Which of the records that were read are whole, now that `count` have been written; the others have been overwritten
    /// meanwhile, by the one that is being written too. What lies between this and what was read before is lost.
    pub fn read(&mut self, records: Range<u64>, count: u64) -> Range<u64> {
        let oldest = count.saturating_add(1).saturating_sub(self.slots);
        let whole = records.start.max(oldest).min(records.end)..records.end;
        self.lost += whole.start.saturating_sub(self.next);
        self.next = records.end;
        whole
    }

    /// The slot of a record.
    pub fn slot(&self, record: u64) -> u64 {
        record % self.slots
    }

    /// Records that were passed on.
    pub fn passed(&self) -> u64 {
        self.next - self.lost
    }

    /// Records that were overwritten before they were read.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_once_and_in_order_up_to_the_end_of_the_ring() {
        let mut cursor = Cursor::new(8);
        assert_eq!(cursor.wanted(0, 100), 0..0);
        assert_eq!(cursor.wanted(5, 3), 0..3);
        assert_eq!(cursor.read(0..3, 5), 0..3);
        assert_eq!(cursor.wanted(10, 100), 3..8, "the others begin at the first slot");
        assert_eq!(cursor.read(3..8, 10), 3..8);
        assert_eq!((cursor.wanted(10, 100), cursor.slot(8)), (8..10, 0));
        assert_eq!((cursor.passed(), cursor.lost()), (8, 0));
    }

    #[test]
    fn what_was_overwritten_before_it_was_read_is_counted() {
        let mut cursor = Cursor::new(8);
        assert_eq!(cursor.wanted(20, 100), 12..16);
        assert_eq!(cursor.read(12..16, 20), 13..16, "record 20 is being written where 12 was");
        assert_eq!((cursor.passed(), cursor.lost()), (3, 13));
    }

    #[test]
    fn what_was_overwritten_while_it_was_read_is_counted() {
        let mut cursor = Cursor::new(8);
        assert_eq!(cursor.read(cursor.wanted(6, 100), 9), 2..6);
        assert_eq!(cursor.lost(), 2);
        assert_eq!(cursor.read(cursor.wanted(9, 100), 100), 8..8, "all of them");
        assert_eq!((cursor.passed(), cursor.lost()), (4, 4));
    }

    #[test]
    fn a_count_that_makes_no_sense_ends_in_no_arithmetic_error() {
        let mut cursor = Cursor::new(8);
        let wanted = cursor.wanted(u64::MAX, u64::MAX);
        assert!(wanted.end - wanted.start <= 8);
        cursor.read(wanted, u64::MAX);
        assert!(cursor.wanted(3, 8).is_empty());
    }
}
