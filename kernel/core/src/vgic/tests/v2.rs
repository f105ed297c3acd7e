//! What a GICv2 has that a GICv3 has not.

use super::*;
use crate::addr::Pa;
use crate::machine::{Gicv2, Range};
use crate::p2m::MapKind;

const GICV: u64 = 0x804_0000;
const ISENABLER: u64 = 0x100;
const ISPENDR: u64 = 0x200;
const ITARGETSR: u64 = 0x800;
const SGIR: u64 = 0xF00;
const CPENDSGIR: u64 = 0xF10;
const SPENDSGIR: u64 = 0xF20;

fn gicv2(vcpus: u32) -> Gic {
    let at = |start| Range { start: Pa::new(start), size: 0x1_0000 };
    let parts = Gicv2 { cpu: at(0x801_0000), hypervisor: at(0x803_0000), guest: at(GICV) };
    let gic = Gic::on(Machine { gicv2: Some(parts), ..Machine::default() }, vcpus);
    (0..vcpus as usize).for_each(|n| by(&gic, n, ISENABLER, Some(0xFFFF)).map_or((), drop));
    gic.enter(0);
    gic
}

/// An access of vCPU `n` to the distributor, for which it comes to this pCPU. vCPU 0 is there before and after.
fn by(gic: &Gic, n: usize, offset: u64, store: Option<u64>) -> Option<u64> {
    gic.unload(0);
    gic.load(n);
    let value = gic.access(DIST + offset, 4, store);
    gic.unload(n);
    gic.load(0);
    gic.enter(0);
    value
}

fn load(gic: &Gic, n: usize, offset: u64) -> u64 {
    by(gic, n, offset, None).unwrap()
}

fn store(gic: &Gic, n: usize, offset: u64, value: u64) {
    by(gic, n, offset, Some(value)).unwrap();
}

/// vCPU 0 takes an SGI: its number, and who has sent it.
fn take(gic: &Gic) -> Option<(u32, u64)> {
    gic.enter(0);
    let irq = gic.acknowledge()?;
    let of = |lr: &u64| *lr & ACTIVE != 0 && low(*lr) & 0x3FF == irq;
    Some((irq, with(|s| s.lrs.iter().copied().find(of)).unwrap() >> 32 & 7))
}

#[test]
fn the_cpu_interface_is_the_virtual_one_and_there_are_eight_vcpus_at_most() {
    let gic = gicv2(8);
    let mapped = gic.domain.p2m.lookup(Ipa::new(0x0300_3000)).unwrap();
    assert_eq!((mapped.pa, mapped.kind), (Pa::new(GICV + 0x1000), MapKind::Device));
    assert_eq!(gic.read(4, 4), 7 << 5 | 1, "eight vCPUs, 64 interrupts");
    assert_eq!((gic.read(0, 4), gic.read(0xFE8, 4)), (3, 0x2B));
    assert_eq!(gic.access(redist(0), 4, None), None, "no redistributors");
    assert!(gic.kernel.create(&DomainParams { vcpus: 9, ..params(1) }, None).is_err());
}

#[test]
fn each_vcpu_finds_its_own_private_interrupts_and_itself_as_their_target() {
    let gic = gicv2(3);
    store(&gic, 2, ISENABLER, 1 << 20);
    store(&gic, 2, ISPENDR, 1 << 20 | 1);
    assert_eq!((load(&gic, 1, ISENABLER), load(&gic, 2, ISENABLER)), (0xFFFF, 0x10_FFFF));
    assert_eq!((load(&gic, 1, ISPENDR), load(&gic, 2, ISPENDR)), (0, 1 << 20), "no SGI is pending without a sender");
    assert_eq!((load(&gic, 0, ITARGETSR), load(&gic, 2, ITARGETSR + 28)), (0x0101_0101, 0x0404_0404));
}

#[test]
fn a_shared_interrupt_goes_to_the_first_of_its_targets_and_without_any_to_nobody() {
    let gic = gicv2(3);
    gic.write(ITARGETSR + 40, 4, 0x0007_0604);
    assert_eq!(gic.read(ITARGETSR + 40, 4), 0x0001_0204);
    enabled(&gic, &[40, 41, 43]);
    gic.write(ITARGETSR + 43, 1, 0);
    gic.raise(43);
    assert!((0..3).all(|n| !can_take(&gic, n)));
    for (irq, vcpu) in [(40, 2), (41, 1)] {
        gic.raise(irq);
        assert!(can_take(&gic, vcpu) && !can_take(&gic, 0), "{irq}");
    }
}

#[test]
fn an_sgi_comes_once_from_each_sender_and_says_from_whom() {
    let gic = gicv2(4);
    // To a list, to a list with others, to all others, to itself.
    store(&gic, 2, SGIR, 1 << 16 | 5);
    store(&gic, 2, SGIR, 3 << 16 | 5);
    store(&gic, 3, SGIR, 1 << 24 | 5);
    store(&gic, 0, SGIR, 2 << 24 | 5);
    assert_eq!(load(&gic, 0, SPENDSGIR + 4), 0b1101 << 8);
    for sender in [0, 2, 3] {
        assert_eq!(take(&gic), Some((5, sender)));
        store(&gic, 1, SGIR, 1 << 16 | 6);
        gic.unload(0);
        gic.load(0);
        gic.enter(0);
        gic.end(0, 5);
    }
    assert_eq!(take(&gic), Some((6, 1)), "once, since it was pending already");
    gic.end(0, 6);
    assert_eq!(take(&gic), None);
    assert_eq!(load(&gic, 1, SPENDSGIR + 4), 0b1100 << 8, "what was for another one waits there");
}

#[test]
fn an_sgi_is_made_pending_and_taken_back_by_sender() {
    let gic = gicv2(2);
    gic.write(SPENDSGIR + 3, 1, 0b0111);
    gic.enter(0);
    gic.write(CPENDSGIR + 3, 1, 0b0011);
    assert_eq!(gic.read(CPENDSGIR, 4), 0b0100 << 24);
    assert_eq!(take(&gic), Some((3, 2)));
    gic.end(0, 3);
    assert_eq!(take(&gic), None);
}

#[test]
fn an_sgi_that_was_sent_while_it_was_disabled_comes_when_it_is_enabled() {
    let gic = gicv2(2);
    gic.write(0x180, 4, 1 << 7);
    store(&gic, 1, SGIR, 1 << 16 | 7);
    assert_eq!(take(&gic), None);
    gic.write(ISENABLER, 4, 1 << 7);
    assert_eq!(take(&gic), Some((7, 1)));
}

#[test]
fn every_access_to_the_distributor_of_a_gicv2_is_answered() {
    let gic = gicv2(2);
    for offset in 0..0x1004 {
        for size in [1, 2, 4, 8] {
            for value in [0, 1, u64::MAX, 0x5A5A_A5A5] {
                gic.access(DIST + offset, size, Some(value)).unwrap();
                gic.access(DIST + offset, size, None).unwrap();
            }
        }
        gic.enter(0);
    }
}
