//! When requests run and are answered: beside each other, behind barriers, at the end.

use hypercall_abi::blkif::{BlkOp, BlkStatus};
use zerocopy::IntoBytes;

use super::front::direct;
use super::world::{Options, device, queues};
use crate::{End, Limits};

const OK: i16 = BlkStatus::Okay as i16;

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
