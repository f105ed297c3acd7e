//! Tests of multicalls: order, results, and entries that take more than one round.

use super::*;
use crate::domain::Domain;
use crate::fake::{Fake, GUEST_RAM, Shared, World, peek, poke, pretend, with};

const ENTRIES: u64 = GUEST_RAM + 0x1000;
const SIZE: u64 = size_of::<MulticallEntry>() as u64;

fn entry(op: u32, args: [u64; 6]) -> MulticallEntry {
    MulticallEntry { op: u64::from(op), result: 0xDEAD, args }
}

/// Makes the calls; x0 and the result of each.
fn run(world: &mut World, domain: &Shared<Domain<Fake>>, entries: &[MulticallEntry]) -> (i64, Vec<i64>) {
    for (at, entry) in (ENTRIES..).step_by(64).zip(entries) {
        poke(domain, at, entry);
    }
    let x0 = world.call(domain, nr::MULTICALL, &[ENTRIES, entries.len() as u64]);
    let result = |n| peek::<MulticallEntry>(domain, ENTRIES + n * SIZE).result.cast_signed();
    (x0, (0..entries.len() as u64).map(result).collect())
}

#[test]
fn each_entry_has_its_own_result_and_an_error_does_not_end_the_rest() {
    let (mut world, _dom0) = World::new();
    let guest = world.domain(4);
    let version = entry(nr::XEN_VERSION, [0; 6]);
    let calls = [
        version,
        entry(nr::XEN_VERSION, [99, 0, 0, 0, 0, 0]),
        entry(63, [0; 6]),
        entry(nr::MULTICALL, [ENTRIES, 1, 0, 0, 0, 0]),
        entry(control::BASE, [0; 6]),
        entry(nr::SCHED_OP, [3, 1, 0, 0, 0, 0]),
        version,
    ];
    let (x0, results) = run(&mut world, &guest, &calls);
    assert_eq!(x0, 0);
    let [nosys, inval, fault] = [XenError::NoSys, XenError::Inval, XenError::Fault].map(|error| error as i64);
    assert_eq!(results, [0x4_0011, nosys, nosys, inval, nosys, fault, 0x4_0011]);
}

#[test]
fn a_long_list_takes_rounds_and_each_entry_is_done_once() {
    let (mut world, _dom0) = World::new();
    let guest = world.domain(8);
    // Each opens a port, so that twice would show.
    let at = GUEST_RAM;
    poke(&guest, at, &hypercall_abi::evtchn::BindIpi::default());
    let calls = vec![entry(nr::EVENT_CHANNEL_OP, [7, at, 0, 0, 0, 0]); 200];
    let (x0, results) = run(&mut world, &guest, &calls);
    assert_eq!(x0, 0);
    assert!(world.rounds >= 3);
    assert!(results.iter().all(|result| *result == 0));
    assert_eq!(peek::<hypercall_abi::evtchn::BindIpi>(&guest, at).port.0, 200);
}

#[test]
fn an_entry_that_goes_on_does_so_from_where_it_was() {
    let (mut world, _dom0) = World::new();
    let guest = world.domain(8);
    // A line of 12 KiB takes more than one round of its own.
    let text = "012345678901234\n".repeat(768);
    crate::fake::poke_bytes(&guest, GUEST_RAM + 0x2000, text.as_bytes());
    let calls = [
        entry(nr::XEN_VERSION, [0; 6]),
        entry(nr::CONSOLE_IO, [0, text.len() as u64, GUEST_RAM + 0x2000, 0, 0, 0]),
        entry(nr::XEN_VERSION, [0; 6]),
    ];
    with(|s| s.console.clear());
    let (x0, results) = run(&mut world, &guest, &calls);
    assert_eq!((x0, results), (0, vec![0x4_0011, 0, 0x4_0011]));
    assert!(world.rounds >= 2);
    let shown = with(|s| String::from_utf8(s.console.clone()).unwrap());
    assert_eq!(shown.matches("012345678901234\n").count(), 100, "as many as a domain may print");
}

#[test]
fn a_vcpu_that_goes_to_sleep_in_an_entry_does_the_rest_when_it_wakes_up() {
    let (mut world, _dom0) = World::new();
    let guest = world.domain(4);
    let vcpu = guest.vcpus()[0].clone();
    pretend(&vcpu, Some(crate::hw::PcpuId(0)));
    let (x0, results) =
        run(&mut world, &guest, &[entry(nr::SCHED_OP, [1, 0, 0, 0, 0, 0]), entry(nr::XEN_VERSION, [0; 6])]);
    assert_eq!((x0, results), (0, vec![0, 0x4_0011]));
    assert_eq!(world.rounds, 2, "there is a moment to take it off between the two");
    assert!(world.kernel.sched.must_choose(crate::hw::PcpuId(0)));
}

#[test]
fn a_list_that_cannot_be_read_or_written_is_a_fault_and_none_is_nothing() {
    let (mut world, _dom0) = World::new();
    let guest = world.domain(2);
    let fault = XenError::Fault as i64;
    assert_eq!(world.call(&guest, nr::MULTICALL, &[u64::MAX, 0]), 0);
    // Only the low 32 bits of the count count.
    assert_eq!(world.call(&guest, nr::MULTICALL, &[u64::MAX, 1 << 32]), 0);
    for at in [u64::MAX - 8, 0x1000, GUEST_RAM + 2 * 4096 - 32] {
        assert_eq!(world.call(&guest, nr::MULTICALL, &[at, 1]), fault);
    }
    with(|s| s.read_only.insert(ENTRIES / 4096));
    poke(&guest, ENTRIES, &entry(nr::XEN_VERSION, [0; 6]));
    assert_eq!(world.call(&guest, nr::MULTICALL, &[ENTRIES, 1]), fault);
}
