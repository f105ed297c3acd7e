//! One rule each: what a guest may rely on.

use hypercall_abi::blkif::{BlkOp, BlkStatus, DISCARD_SECURE, DiscardRequest, Request, Segment};
use hypercall_abi::ids::GrantRef;
use zerocopy::IntoBytes;

use super::front::{direct, indirect, slot_of, whole};
use super::world::{Options, device, queues};
use crate::{End, Limits};

const OK: i16 = BlkStatus::Okay as i16;
const ERROR: i16 = BlkStatus::Error as i16;
const UNSUPPORTED: i16 = BlkStatus::OpNotSupp as i16;

fn discard(id: u64, sector: u64, count: u64, flag: u8) -> Request {
    slot_of(
        DiscardRequest {
            operation: BlkOp::Discard.raw(),
            flag,
            id,
            sector_number: sector,
            nr_sectors: count,
            ..DiscardRequest::default()
        }
        .as_bytes(),
    )
}

#[test]
fn what_is_written_is_read_back_through_other_pages() {
    let outcome = device(
        Options::default(),
        |_| {},
        async |front, _| {
            front.memory.write(10, 0, &[0x5a; 4096]);
            front.memory.write(11, 0, &[0xa5; 4096]);
            assert_eq!(front.ask(direct(1, BlkOp::Write, 8, &[10, 11])).await, OK);
            assert_eq!(front.ask(direct(2, BlkOp::Read, 8, &[20, 21])).await, OK);
            assert_eq!(front.memory.read(20, 0, 4096), [0x5a; 4096]);
            assert_eq!(front.memory.read(21, 0, 4096), [0xa5; 4096]);
            assert!(!front.memory.page_mapped(20), "the page is the guest's again when it sees the answer");
        },
    );
    let stats = outcome.control.stats();
    assert_eq!((stats.rd_req, stats.rd_sect, stats.wr_req, stats.wr_sect), (1, 16, 1, 16));
    assert_eq!((stats.errors, stats.in_flight), (0, 0));
    assert_eq!(outcome.end, End::Stopped);
}

#[test]
fn a_segment_within_a_page_moves_only_its_sectors() {
    device(
        Options::default(),
        |disk| disk.bytes.borrow_mut().fill(0x77),
        async |front, _| {
            let mut request = direct(1, BlkOp::Read, 0, &[10]);
            request.seg[0].first_sect = 2;
            request.seg[0].last_sect = 3;
            assert_eq!(front.ask(request).await, OK);
            assert_eq!(front.memory.read(10, 0, 1024), [0; 1024]);
            assert_eq!(front.memory.read(10, 1024, 1024), [0x77; 1024]);
            assert_eq!(front.memory.read(10, 2048, 2048), [0; 2048]);
        },
    );
}

#[test]
fn neighbouring_pages_become_one_segment_for_the_disk() {
    // The fake's DMA check runs over each page of a joined segment.
    let outcome = device(
        Options::default(),
        |_| {},
        async |front, _| {
            assert_eq!(front.ask(direct(1, BlkOp::Write, 0, &[10, 11, 12, 20])).await, OK);
        },
    );
    assert_eq!(outcome.control.stats().wr_sect, 32);
}

#[test]
fn an_indirect_request_moves_a_mebibyte_and_is_answered_as_its_inner_operation() {
    device(
        Options::default(),
        |disk| disk.bytes.borrow_mut().fill(0x42),
        async |front, _| {
            let segments: Vec<Segment> = (100..356).map(whole).collect();
            let request = indirect(&front.memory, 9, BlkOp::Read, 0, 50, &segments);
            front.put(request.as_bytes());
            front.push();
            let response = front.response().await;
            assert_eq!((response.id, response.operation, response.status), (9, BlkOp::Read.raw(), OK));
            assert_eq!(front.memory.read(100, 0, 256 * 4096), vec![0x42; 256 * 4096]);
        },
    );
}

#[test]
fn a_disk_in_memory_is_copied_to_and_from_and_no_page_is_mapped() {
    let outcome = device(
        Options::default(),
        |disk| disk.is_memory = true,
        async |front, _| {
            let before = front.memory.mapped();
            front.memory.write(10, 0, &[0x5a; 4096]);
            front.memory.write(11, 0, &[0xa5; 4096]);
            // From the middle of a page of the disk, so that each segment lies in two.
            assert_eq!(front.ask(direct(1, BlkOp::Write, 4, &[10, 11])).await, OK);
            assert_eq!(front.ask(direct(2, BlkOp::Read, 4, &[20, 21])).await, OK);
            assert_eq!(front.memory.read(20, 0, 4096), [0x5a; 4096]);
            assert_eq!(front.memory.read(21, 0, 4096), [0xa5; 4096]);
            let mut part = direct(3, BlkOp::Read, 11, &[22]);
            (part.seg[0].first_sect, part.seg[0].last_sect) = (6, 7);
            assert_eq!(front.ask(part).await, OK);
            assert_eq!(front.memory.read(22, 3072, 1024), [[0x5a; 512], [0xa5; 512]].concat());
            assert_eq!(front.memory.read(22, 0, 3072), [0; 3072]);
            front.memory.grant(30, true, false);
            assert_eq!(front.ask(direct(4, BlkOp::Read, 0, &[30])).await, ERROR, "the page may not be written");
            assert_eq!(front.ask(direct(5, BlkOp::Read, 4088, &[20])).await, ERROR, "the host has no memory for it");
            assert_eq!(front.ask(direct(6, BlkOp::Read, 4092, &[20])).await, ERROR, "the end of the disk");
            assert_eq!(front.memory.mapped(), before);
        },
    );
    assert_eq!(outcome.control.stats().errors, 3);
    assert!(outcome.disk.log.borrow().is_empty());
}

#[test]
fn rings_are_served_beside_each_other_and_share_the_disk_the_grants_and_the_bounds() {
    let options = Options {
        ring_pages: 2,
        persistent: true,
        limits: Limits { in_flight: 8, ..Limits::default() },
        ..Options::default()
    };
    let outcome = queues(
        options,
        4,
        |disk| disk.delays = vec![9, 3, 7, 5],
        async |fronts, control| {
            for (front, number) in fronts.iter_mut().zip(0u32..) {
                for n in 0..8u32 {
                    let sector = u64::from(number * 8 + n) * 8;
                    // The last page is every ring's.
                    let page = if n == 7 { 400 } else { 100 + number * 8 + n };
                    front.put(direct(n.into(), BlkOp::Write, sector, &[page]).as_bytes());
                }
                front.push();
            }
            let mut most = 0;
            for front in fronts.iter_mut() {
                let mut ids = Vec::new();
                for _ in 0..8 {
                    most = most.max(control.stats().in_flight);
                    ids.push(front.response().await.id);
                }
                ids.sort_unstable();
                assert_eq!(ids, (0..8).collect::<Vec<_>>(), "each ring has the answers to its own requests");
            }
            assert!((3..=8).contains(&most), "{most} requests were in flight at a time");
        },
    );
    let stats = outcome.control.stats();
    assert_eq!((stats.wr_req, stats.errors, stats.in_flight, stats.persistent), (32, 0, 0, 29));
    assert_eq!(outcome.end, End::Stopped);
}

#[test]
fn a_barrier_waits_for_its_own_ring_alone() {
    let outcome = queues(
        Options::default(),
        2,
        |disk| disk.delays = vec![40, 1, 1, 1],
        async |fronts, _| {
            let [slow, other] = fronts else { panic!("there are two rings") };
            slow.put(direct(1, BlkOp::Write, 0, &[100]).as_bytes());
            slow.push();
            assert_eq!(other.ask(direct(2, BlkOp::WriteBarrier, 8, &[101])).await, OK);
            assert_eq!(slow.memory.read_u32(0, hypercall_abi::ring::RSP_PROD), 0, "the first write runs still");
            assert_eq!(slow.response().await.id, 1);
        },
    );
    assert_eq!(outcome.control.stats().wr_req, 2);
}

#[test]
fn requests_run_at_the_same_time_and_are_answered_as_they_finish() {
    let outcome = device(
        Options::default(),
        |disk| disk.delays = vec![9, 3, 7, 5],
        async |front, _| {
            for n in 0..16u32 {
                front.put(direct(n.into(), BlkOp::Write, u64::from(n) * 8, &[100 + n]).as_bytes());
            }
            front.push();
            let mut ids = Vec::new();
            for _ in 0..16 {
                ids.push(front.response().await.id);
            }
            assert!(!ids.is_sorted(), "the delays differ, so the order does: {ids:?}");
            ids.sort_unstable();
            assert_eq!(ids, (0..16).collect::<Vec<_>>());
        },
    );
    assert_eq!(outcome.disk.most.get(), 16);
}

#[test]
fn no_more_requests_run_than_the_host_allows() {
    let limits = Limits { in_flight: 3, ..Limits::default() };
    let options = Options { limits, ..Options::default() };
    let outcome = device(
        options,
        |_| {},
        async |front, _| {
            for n in 0..32 {
                front.put(direct(n, BlkOp::Write, 0, &[100]).as_bytes());
            }
            front.push();
            for _ in 0..32 {
                assert_eq!(front.response().await.status, OK);
            }
        },
    );
    assert_eq!(outcome.disk.most.get(), 3);
    assert!(outcome.control.stats().oo_req > 0);
}

#[test]
fn a_burst_of_answers_costs_few_notifications() {
    let outcome = device(
        Options::default(),
        |disk| disk.delays = vec![2],
        async |front, _| {
            for n in 0..32 {
                front.put(direct(n, BlkOp::Read, 0, &[100]).as_bytes());
            }
            front.push();
            assert_eq!(front.port.out.sent.get(), 1, "one event for 32 requests");
            for _ in 0..32 {
                front.response().await;
            }
        },
    );
    assert!(outcome.control.stats().notifications <= 2, "{:?}", outcome.control.stats());
}

#[test]
fn a_ring_of_four_pages_holds_128_requests() {
    let options =
        Options { ring_pages: 4, limits: Limits { in_flight: 128, ..Limits::default() }, ..Options::default() };
    let outcome = device(
        options,
        |_| {},
        async |front, _| {
            assert_eq!(front.slots(), 128);
            for round in 0..3 {
                for n in 0..128u32 {
                    let page = 100 + n;
                    front.memory.write_u32(page, 0, n + round);
                    front.put(direct(n.into(), BlkOp::Write, u64::from(n) * 8, &[page]).as_bytes());
                }
                front.push();
                for _ in 0..128 {
                    assert_eq!(front.response().await.status, OK);
                }
            }
        },
    );
    assert_eq!(outcome.disk.bytes.borrow()[127 * 4096..][..4], (127u32 + 2).to_le_bytes());
}

#[test]
fn a_barrier_waits_for_the_old_and_holds_back_the_new() {
    let outcome = device(
        Options::default(),
        |_| {},
        async |front, _| {
            for (id, op, sector) in
                [(1, BlkOp::Write, 0), (2, BlkOp::Write, 8), (3, BlkOp::WriteBarrier, 16), (4, BlkOp::Write, 24)]
            {
                front.put(direct(id, op, sector, &[100]).as_bytes());
            }
            front.push();
            for _ in 0..4 {
                assert_eq!(front.response().await.status, OK);
            }
        },
    );
    let log = outcome.disk.log.borrow();
    let at = |what: &str| log.iter().position(|line| line == what).unwrap_or_else(|| panic!("{what} in {log:?}"));
    assert!(at("-write 0") < at("+flush") && at("-write 8") < at("+flush"));
    assert!(at("-flush") < at("+write 16") && at("-write 16") < at("+write 24"));
    let last_flush = log.iter().rposition(|line| line == "-flush").unwrap();
    assert!(at("-write 16") < last_flush && last_flush < at("+write 24"));
}

#[test]
fn a_flush_reaches_the_disk_and_does_not_wait_for_others() {
    let outcome = device(
        Options::default(),
        |disk| disk.delays = vec![50, 0],
        async |front, _| {
            front.put(direct(1, BlkOp::Write, 0, &[100]).as_bytes());
            front.put(direct(2, BlkOp::FlushDiskcache, 0, &[]).as_bytes());
            front.push();
            assert_eq!(front.response().await.id, 2);
            assert_eq!(front.response().await.id, 1);
        },
    );
    assert_eq!(outcome.control.stats().f_req, 1);
}

#[test]
fn a_discard_reaches_the_disk_where_it_can() {
    let outcome = device(
        Options::default(),
        |_| {},
        async |front, _| {
            assert_eq!(front.ask(discard(1, 8, 4, 0)).await, OK);
            assert_eq!(front.ask(discard(2, 8, 4, DISCARD_SECURE)).await, UNSUPPORTED);
            assert_eq!(front.ask(discard(3, 4095, 2, 0)).await, ERROR);
            assert_eq!(front.ask(discard(4, u64::MAX, 2, 0)).await, ERROR);
            assert_eq!(front.ask(discard(5, 0, 0, 0)).await, ERROR);
        },
    );
    assert_eq!(outcome.disk.bytes.borrow()[4096..][..2048], [0xdd; 2048]);
    device(
        Options::default(),
        |disk| disk.info.discard = false,
        async |front, _| {
            assert_eq!(front.ask(discard(1, 8, 4, 0)).await, UNSUPPORTED);
        },
    );
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    device(
        Options::default(),
        |disk| disk.info.read_only = true,
        async |front, _| {
            assert_eq!(front.ask(direct(1, BlkOp::Write, 0, &[100])).await, ERROR);
            assert_eq!(front.ask(direct(2, BlkOp::WriteBarrier, 0, &[100])).await, ERROR);
            assert_eq!(front.ask(discard(3, 0, 8, 0)).await, ERROR);
            let request = indirect(&front.memory, 4, BlkOp::Write, 0, 50, &[whole(100)]);
            assert_eq!(front.ask(request).await, ERROR);
            assert_eq!(front.ask(direct(5, BlkOp::Read, 0, &[100])).await, OK);
        },
    );
}

#[test]
fn persistent_grants_are_mapped_once_and_bounded() {
    let options = Options {
        persistent: true,
        limits: Limits { persistent_grants: 8, ..Limits::default() },
        ..Options::default()
    };
    device(
        options,
        |_| {},
        async |front, control| {
            let calls = |front: &super::front::Front| front.memory.map_calls.get();
            assert_eq!(front.ask(direct(1, BlkOp::Write, 0, &[100, 101])).await, OK);
            let before = calls(front);
            for id in 2..10 {
                assert_eq!(front.ask(direct(id, BlkOp::Read, 0, &[101, 100])).await, OK);
            }
            assert_eq!(calls(front), before, "known grants need no hypercall");
            assert!(front.memory.page_mapped(100));
            for page in 0..40 {
                assert_eq!(front.ask(direct(20, BlkOp::Write, 0, &[100 + page])).await, OK);
            }
            assert!(control.stats().persistent <= 8);
            assert!(front.memory.mapped() <= 9, "the ring and eight grants");
        },
    );
}

#[test]
fn a_request_with_more_pages_than_the_cache_holds_still_works() {
    let options = Options {
        persistent: true,
        limits: Limits { persistent_grants: 4, ..Limits::default() },
        ..Options::default()
    };
    device(
        options,
        |disk| disk.bytes.borrow_mut().fill(9),
        async |front, _| {
            let segments: Vec<Segment> = (100..164).map(whole).collect();
            for id in 0..3 {
                let request = indirect(&front.memory, id, BlkOp::Read, 0, 50, &segments);
                assert_eq!(front.ask(request).await, OK);
            }
            assert_eq!(front.memory.read(163, 0, 4096), [9; 4096]);
        },
    );
}

#[test]
fn a_segment_may_repeat_a_page() {
    device(
        Options::default(),
        |_| {},
        async |front, _| {
            assert_eq!(front.ask(direct(1, BlkOp::Read, 0, &[100, 100, 100])).await, OK);
        },
    );
}

#[test]
fn a_page_that_was_not_granted_fails_its_request_alone() {
    device(
        Options::default(),
        |_| {},
        async |front, _| {
            front.memory.grant(101, false, false);
            front.memory.grant(102, true, false);
            assert_eq!(front.ask(direct(1, BlkOp::Read, 0, &[100, 101])).await, ERROR);
            assert!(!front.memory.page_mapped(100), "the page that could be mapped is given back");
            assert_eq!(front.ask(direct(2, BlkOp::Read, 0, &[102])).await, ERROR);
            assert_eq!(front.ask(direct(3, BlkOp::Write, 0, &[102])).await, OK, "reading the page is allowed");
            let mut request = direct(4, BlkOp::Read, 0, &[100]);
            request.seg[0].gref = GrantRef(u32::MAX);
            assert_eq!(front.ask(request).await, ERROR);
            assert_eq!(front.ask(direct(5, BlkOp::Read, 0, &[100])).await, OK);
        },
    );
}

#[test]
fn having_no_room_to_map_is_an_error_to_the_guest_and_passes() {
    device(
        Options::default(),
        |_| {},
        async |front, _| {
            front.memory.room.set(2);
            assert_eq!(front.ask(direct(1, BlkOp::Read, 0, &[100, 101])).await, ERROR);
            assert_eq!(front.ask(direct(2, BlkOp::Read, 0, &[100])).await, OK);
        },
    );
}

#[test]
fn stopping_finishes_what_is_in_flight() {
    let outcome = device(
        Options::default(),
        |disk| disk.delays = vec![30],
        async |front, control| {
            for n in 0..8 {
                front.put(direct(n, BlkOp::Write, n * 8, &[100]).as_bytes());
            }
            front.push();
            embassy_futures::yield_now().await;
            embassy_futures::yield_now().await;
            control.stop();
        },
    );
    assert_eq!(outcome.end, End::Stopped);
    assert_eq!(outcome.memory.mapped(), 0);
}
