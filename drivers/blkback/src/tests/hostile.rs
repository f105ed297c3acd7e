//! Guests that break the rules on purpose: the device answers or ends, and leaves nothing mapped.

use std::rc::Rc;

use embassy_futures::yield_now;
use hypercall_abi::blkif::{BlkOp, BlkStatus, IndirectRequest, SLOT_SIZE, Segment};
use hypercall_abi::ids::GrantRef;
use hypercall_abi::ring;
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use driver_api::MapError;

use super::front::{channel, direct, indirect, slot_of, whole};
use super::memory::{GuestGrants, Memory};
use super::ram_disk::RamDisk;
use super::world::{Options, device, queues};
use crate::{BackEnd, ConnectError, End, Limits, Params, QueueParams};

const ERROR: i16 = BlkStatus::Error as i16;
const UNSUPPORTED: i16 = BlkStatus::OpNotSupp as i16;

#[test]
fn a_producer_beyond_the_ring_ends_the_device() {
    for claimed in [33, 64, 1 << 31, u32::MAX] {
        let outcome = device(
            Options::default(),
            |_| {},
            async |front, _| {
                front.memory.write_u32(0, ring::REQ_PROD, claimed);
                front.port.out.send_raw();
                for _ in 0..20 {
                    yield_now().await;
                }
            },
        );
        assert_eq!(outcome.end, End::Broken, "{claimed}");
    }
}

#[test]
fn bad_segment_counts_are_refused() {
    device(
        Options::default(),
        |_| {},
        async |front, _| {
            for count in [0, 12, 255] {
                let mut request = direct(1, BlkOp::Read, 0, &[100]);
                request.nr_segments = count;
                assert_eq!(front.ask(request).await, ERROR, "{count}");
            }
            for count in [0, 257, 4096, u16::MAX] {
                let mut request = IndirectRequest::read_from_prefix(
                    indirect(&front.memory, 1, BlkOp::Read, 0, 50, &[whole(100)]).as_bytes(),
                )
                .unwrap()
                .0;
                request.nr_segments = count;
                assert_eq!(front.ask(slot_of(request.as_bytes())).await, ERROR, "{count}");
            }
        },
    );
}

#[test]
fn a_range_past_the_end_is_refused_even_where_it_wraps() {
    device(
        Options::default(),
        |_| {},
        async |front, _| {
            for sector in [4089, 4096, u64::MAX, u64::MAX - 7, 1 << 55] {
                assert_eq!(front.ask(direct(1, BlkOp::Read, sector, &[100])).await, ERROR, "{sector}");
                assert_eq!(front.ask(direct(1, BlkOp::Write, sector, &[100])).await, ERROR, "{sector}");
            }
            assert_eq!(front.ask(direct(2, BlkOp::Read, 4088, &[100])).await, 0);
        },
    );
}

#[test]
fn sectors_outside_their_page_are_refused() {
    device(
        Options::default(),
        |_| {},
        async |front, _| {
            for (first, last) in [(0, 8), (4, 3), (8, 8), (255, 255), (0, 255)] {
                let mut request = direct(1, BlkOp::Write, 0, &[100]);
                request.seg[0].first_sect = first;
                request.seg[0].last_sect = last;
                assert_eq!(front.ask(request).await, ERROR, "{first}-{last}");
            }
        },
    );
}

#[test]
fn unknown_operations_are_not_supported_inside_and_out() {
    device(
        Options::default(),
        |_| {},
        async |front, _| {
            for operation in [4, 7, 128, 255] {
                let mut request = direct(1, BlkOp::Read, 0, &[100]);
                request.operation = operation;
                assert_eq!(front.ask(request).await, UNSUPPORTED, "{operation}");
            }
            for inner in [BlkOp::Indirect, BlkOp::Discard, BlkOp::FlushDiskcache, BlkOp::WriteBarrier] {
                let request = indirect(&front.memory, 1, inner, 0, 50, &[whole(100)]);
                assert_eq!(front.ask(request).await, UNSUPPORTED, "{inner:?}");
            }
        },
    );
}

#[test]
fn an_indirect_table_that_is_its_own_data_page_is_read_once() {
    // The table's page is also the target of the read, so the disk overwrites the table while the request runs.
    device(
        Options::default(),
        |disk| disk.bytes.borrow_mut().fill(0xff),
        async |front, _| {
            let segments: Vec<Segment> = (0..20).map(|_| whole(50)).collect();
            let request = indirect(&front.memory, 1, BlkOp::Read, 0, 50, &segments);
            assert_eq!(front.ask(request).await, 0);
        },
    );
}

#[test]
fn a_slot_that_changes_after_it_was_taken_changes_nothing() {
    let outcome = device(
        Options::default(),
        |disk| disk.delays = vec![20],
        async |front, _| {
            front.memory.write(100, 0, &[1; 4096]);
            front.put(direct(1, BlkOp::Write, 0, &[100]).as_bytes());
            front.push();
            yield_now().await;
            yield_now().await;
            front.memory.write(0, ring::SLOTS, &[0xff; SLOT_SIZE]);
            let response = front.response().await;
            assert_eq!((response.id, response.status), (1, 0));
        },
    );
    assert_eq!(outcome.disk.bytes.borrow()[..4096], [1; 4096]);
}

#[test]
fn a_guest_that_only_makes_bad_requests_does_not_keep_the_executor() {
    let (memory, (near, far)) = (Memory::new(), channel());
    let disk = Rc::new(RamDisk::new(&memory, 64));
    let mut front = super::front::Front::new(&memory, near, 0, 1);
    let params = Params { queues: vec![front.params()], persistent: false };
    let back_end =
        BackEnd::connect(GuestGrants(Rc::clone(&memory)), vec![far], disk, &params, Limits::default()).unwrap();
    let control = back_end.control();
    let turns = std::cell::Cell::new(0);
    super::world::run_tasks(vec![
        Box::pin(async {
            back_end.run().await;
        }),
        // The guest answers every answer at once with another bad request.
        Box::pin(async {
            for n in 0..2000u64 {
                let mut request = direct(n, BlkOp::Read, 0, &[100]);
                request.nr_segments = 0;
                assert_eq!(front.ask(request).await, ERROR);
            }
            control.stop();
        }),
        Box::pin(async {
            for _ in 0..100 {
                turns.set(turns.get() + 1);
                yield_now().await;
            }
        }),
    ]);
    assert_eq!(turns.get(), 100);
}

#[test]
fn a_guest_whose_requests_are_all_large_has_no_more_mapped_than_its_part() {
    let outcome = device(
        Options::default(),
        |disk| disk.delays = vec![50],
        async |front, _| {
            let segments: Vec<Segment> = (0..256).map(|_| whole(100)).collect();
            for n in 0..32 {
                let request = indirect(&front.memory, n, BlkOp::Read, 0, 50, &segments);
                front.put(request.as_bytes());
            }
            front.push();
            for _ in 0..32 {
                assert_eq!(front.response().await.status, 0);
            }
        },
    );
    // Eight of them, with their tables, and the ring.
    assert_eq!(outcome.memory.most.get(), 8 * (256 + 1) + 1);
    assert_eq!(outcome.control.stats().rd_req, 32);
}

#[test]
fn no_requests_need_more_mappings_than_the_host_was_told_whatever_stays_mapped() {
    let limits = Limits { in_flight: 12, persistent_grants: 40, ..Limits::default() };
    for (count, persistent) in [(1, false), (1, true), (3, false), (3, true)] {
        let options = Options { limits, persistent, ..Options::default() };
        let outcome = queues(
            options,
            count,
            |disk| disk.delays = vec![9, 2, 30, 1],
            async |fronts, _| {
                // Each request of other pages than the one before, and with a table of its own.
                for n in 0..60u32 {
                    for front in fronts.iter_mut() {
                        let size = [256, 1, 33, 90][(n % 4) as usize];
                        let first = n * 37;
                        let pages = (0..size).map(|page| 50 + (first + page) % 400).map(whole);
                        let (table, pages) = (10 + n % 30, pages.collect::<Vec<_>>());
                        let request = indirect(&front.memory, n.into(), BlkOp::Read, 0, table, &pages);
                        if front.free() == 0 {
                            assert_eq!(front.response().await.status, 0);
                        }
                        front.put(request.as_bytes());
                        front.push();
                    }
                }
                for front in fronts.iter_mut() {
                    while front.free() < front.slots() {
                        assert_eq!(front.response().await.status, 0);
                    }
                }
            },
        );
        assert_eq!(outcome.end, End::Stopped, "{count} {persistent}");
    }
}

#[test]
fn an_event_storm_without_requests_lets_others_run() {
    let outcome = device(
        Options::default(),
        |_| {},
        async |front, _| {
            for _ in 0..1000 {
                front.port.out.send_raw();
                yield_now().await;
            }
            assert_eq!(front.ask(direct(1, BlkOp::Read, 0, &[100])).await, 0);
        },
    );
    assert_eq!(outcome.control.stats().rd_req, 1);
}

#[test]
fn a_producer_beyond_one_of_two_rings_ends_both_and_what_was_taken_is_answered() {
    let outcome = queues(
        Options::default(),
        2,
        |disk| disk.delays = vec![5],
        async |fronts, _| {
            let [good, bad] = fronts else { panic!("there are two rings") };
            good.put(direct(1, BlkOp::Write, 0, &[100]).as_bytes());
            good.push();
            yield_now().await;
            bad.memory.write_u32(1, ring::REQ_PROD, 33);
            bad.port.out.send_raw();
            assert_eq!(good.response().await.id, 1);
            good.put(direct(2, BlkOp::Write, 0, &[100]).as_bytes());
            good.push();
            good.port.out.send_raw();
            for _ in 0..20 {
                yield_now().await;
            }
        },
    );
    assert_eq!(outcome.end, End::Broken);
    assert_eq!(outcome.control.stats().wr_req, 1);
}

#[test]
fn a_ring_that_cannot_be_mapped_leaves_nothing_mapped() {
    let connect = |ring: Vec<u32>, granted: bool| {
        let (memory, (_, far)) = (Memory::new(), channel());
        memory.grant(1, granted, granted);
        let disk = Rc::new(RamDisk::new(&memory, 64));
        let port = hypercall_abi::ids::Port(1);
        // Behind one that can be mapped.
        let queues = [vec![2], ring].map(|ring| QueueParams { ring: ring.into_iter().map(GrantRef).collect(), port });
        let params = Params { queues: queues.to_vec(), persistent: false };
        let grants = GuestGrants(Rc::clone(&memory));
        let result = BackEnd::connect(grants, vec![far.clone(), far], disk, &params, Limits::default());
        let error = result.err();
        assert_eq!(memory.mapped(), 0);
        error
    };
    assert_eq!(connect(vec![0, 1], false), Some(ConnectError::RingPage(MapError::BadGrant)));
    assert_eq!(connect(vec![0, 1, 2], true), Some(ConnectError::RingPages(3)));
    assert_eq!(connect(vec![], true), Some(ConnectError::RingPages(0)));
    assert_eq!(connect(vec![1; 8], true), Some(ConnectError::RingPages(8)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Slots of random bytes, biased to be nearly right; the fakes panic on any access that is not mapped or in range.
    #[test]
    fn any_slots_are_answered_one_for_one(
        slots in proptest::collection::vec(
            (0u8..8, 0u8..14, 0u64..4200, proptest::collection::vec((0u32..600, 0u8..10, 0u8..10), 11), any::<u8>()),
            1..60,
        ),
        persistent in any::<bool>(),
        table in proptest::collection::vec(any::<u8>(), 4096),
    ) {
        let count = slots.len();
        let options = Options { persistent, ..Options::default() };
        let outcome = device(options, |_| {}, async |front, _| {
            front.memory.write(3, 0, &table);
            let mut answered = 0;
            for (operation, segments, sector, seg, noise) in slots {
                let mut request = direct(u64::from(noise), BlkOp::Read, sector, &[]);
                request.operation = operation;
                request.nr_segments = segments;
                for (to, (gref, first, last)) in request.seg.iter_mut().zip(seg) {
                    // Page 0 is the ring: handing it out is the guest's own funeral, tested elsewhere.
                    let gref = GrantRef(gref.max(1));
                    *to = Segment { gref, first_sect: first, last_sect: last, pad: 0 };
                }
                if front.free() == 0 {
                    front.push();
                    while answered % 7 != 6 {
                        front.response().await;
                        answered += 1;
                    }
                    front.response().await;
                    answered += 1;
                }
                front.put(request.as_bytes());
            }
            front.push();
            while answered < count {
                front.response().await;
                answered += 1;
            }
        });
        prop_assert_eq!(outcome.end, End::Stopped);
    }

    /// The whole ring page is noise, read as a ring.
    #[test]
    fn a_ring_page_of_noise_ends_or_is_answered(
        noise in proptest::collection::vec(any::<u8>(), 4096),
        produced in prop_oneof![0u32..40, any::<u32>()],
    ) {
        device(Options::default(), |_| {}, async |front, _| {
            front.memory.write(0, 16, &noise[16..]);
            front.memory.write_u32(0, ring::REQ_PROD, produced);
            front.port.out.send_raw();
            for _ in 0..200 {
                yield_now().await;
            }
        });
    }
}
