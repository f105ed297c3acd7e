//! As many shared interrupts as a GIC can have.

use super::*;

const ALL: u32 = 988;

fn many(nr_spis: u32) -> Gic {
    Gic::of(Machine::default(), DomainParams { vcpus: 2, nr_spis, ..params(1) })
}

#[test]
fn a_domain_has_the_shared_interrupts_that_it_was_made_with_and_pays_for_them() {
    let mut kernel = None;
    for (asked, words, frames) in [(0, 1, 0), (32, 1, 0), (33, 2, 1), (512, 16, 1), (513, 17, 2), (ALL, 31, 2)] {
        let gic = many(asked);
        let paid = gic.domain.quota.kernel();
        assert_eq!(paid - *kernel.get_or_insert(paid), frames, "{asked}");
        assert_eq!(gic.read(4, 4) & 0x1F, words);
        let last = (32 * low(words) + 31).min(1019);
        for (irq, there) in [(last, true), (last + 32, false)] {
            gic.set_bit(0x100, irq);
            assert_eq!(irq < 1020 && gic.bit(0x100, irq), there, "{irq} of {asked}");
        }
        gic.take(last);
    }
    let gic = many(0);
    assert!(gic.kernel.create(&DomainParams { nr_spis: ALL + 1, ..params(1) }, None).is_err());
}

#[test]
fn the_numbers_from_1020_on_are_no_interrupts() {
    let gic = many(ALL);
    for register in [0x80, 0x100, 0x200, 0x300] {
        assert_eq!(gic.read(register + 124, 4) >> 28, 0, "{register:#x}");
        gic.write(register + 124, 4, 0xF << 28);
        assert_eq!(gic.read(register + 124, 4) >> 28, 0, "{register:#x}");
    }
    gic.write(0xCFC, 4, u64::MAX);
    assert_eq!(gic.read(0xCFC, 4), 0x00AA_AAAA);
    gic.write(0x7FC, 4, u64::MAX);
    assert_eq!(gic.read(0x7FC, 4), 0);
    for irq in 1020..1024 {
        gic.set_level(irq, true);
        gic.raise(irq);
    }
    gic.enter(0);
    assert_eq!((gic.read(0x200 + 124, 4) >> 28, gic.acknowledge()), (0, None));
}

#[test]
fn all_of_them_come_once_each_the_most_urgent_first() {
    let gic = many(ALL);
    let urgency = |irq: u32| ((irq * 7 % 32) << 3).to_le_bytes()[0];
    for irq in (32..1020).rev() {
        gic.set_priority(irq, urgency(irq));
        gic.set_bit(0x100, irq);
        gic.raise(irq);
    }
    let mut wanted: Vec<u32> = (32..1020).collect();
    wanted.sort_by_key(|irq| (urgency(*irq), *irq));
    let came = std::iter::from_fn(|| {
        gic.enter(0);
        let irq = gic.acknowledge()?;
        gic.end(0, irq);
        Some(irq)
    });
    assert_eq!(came.collect::<Vec<u32>>(), wanted);
}

#[test]
fn a_physical_interrupt_of_a_high_number_is_linked_and_its_end_is_not_told_of() {
    let gic = many(ALL);
    for irq in [511, 512, 1019] {
        link(&gic, irq);
        gic.set_bit(0x100, irq);
        gic.raise(irq);
        gic.enter(0);
        // It comes back from its list register pending, as it went there.
        gic.unload(0);
        gic.load(0);
        gic.enter(0);
        assert_eq!(gic.acknowledge(), Some(irq));
        assert!(with(|s| s.lrs.iter().any(|lr| *lr & HW != 0 && low(*lr >> 32) & 0x3FF == irq)));
        gic.end(0, irq);
        gic.enter(0);
        assert!(!gic.vcpu(0).deliverable::<Fake>(), "{irq}");
    }
}
